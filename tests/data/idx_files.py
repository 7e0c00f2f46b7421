"""Files of bytes in the form of MNIST's."""

import gzip
import math

import numpy as np

CLASSES = 10


def idx(*shape, kind=8, values=None):
    """A file of a type and a shape, with so many zeros for values as the shape asks for, or with other values."""
    head = bytes([0, 0, kind, len(shape)]) + np.array(shape, ">u4").tobytes()
    return gzip.compress(head + (bytes(math.prod(shape)) if values is None else values))


def write_fashion_mnist(folder, *, per_class):
    """Fashion-MNIST's four files, of bright and dark images by class; returns images and labels by prefix."""
    folder.mkdir(parents=True, exist_ok=True)
    random, written = np.random.default_rng(0), {}
    for prefix in ("train", "t10k"):
        labels = random.permutation(np.repeat(np.arange(CLASSES, dtype=np.uint8), per_class))
        images = random.integers(0, 50, (len(labels), 28, 28), np.uint8) + 20 * labels[:, None, None]
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(idx(*images.shape, values=images.tobytes()))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(idx(*labels.shape, values=labels.tobytes()))
        written[prefix] = images, labels
    return written
