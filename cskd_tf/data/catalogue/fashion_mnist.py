"""Fashion-MNIST: photographs of ten kinds of garments, from the four files that its authors publish."""

import gzip
import math
import pathlib
import zlib

import numpy as np

from cskd_tf.data.sources.arrays import ArraySource
from cskd_tf.data.sources.base import Source
from cskd_tf.errors import UserError

CLASS_NAMES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
_FILES = {"train": "train", "test": "t10k"}
_MOST_BYTES = 2**26  # of a file's content; the largest has 47 million
Arrays = dict[str, tuple[np.ndarray, np.ndarray]]  # images and labels, of each split
_BYTES = b"\0\0\x08"  # how an IDX file begins that holds bytes


def fashion_mnist(path: str) -> dict[str, Source]:
    """60,000 images for training and 10,000 for test, uint8 `[28, 28, 1]`.

    Example:
        >>> splits = fashion_mnist("/usr/share/datasets/fashion-mnist")  # doctest: +SKIP
        >>> len(splits["test"].labels), splits["test"].class_names[9]  # doctest: +SKIP
        (10000, 'ankle boot')

    Args:
        path: folder of `train-images-idx3-ubyte.gz` and the other three, as Debian's `dataset-fashion-mnist` has it in
            `/usr/share/datasets/fashion-mnist`; empty: Keras' own, `~/.keras/datasets/fashion-mnist`, into which Keras
            downloads them where they are missing.

    Raises:
        UserError: files that are not there, cannot be downloaded, or hold something else.
    """
    arrays = _read(pathlib.Path(path).expanduser()) if path else _downloaded()
    return {part: _source(*both, of=f"{path or 'Fashion-MNIST'}, {part}") for part, both in arrays.items()}


def _downloaded() -> Arrays:
    import keras

    try:
        return dict(zip(_FILES, keras.datasets.fashion_mnist.load_data(), strict=True))
    except Exception as error:  # which is all that Keras raises where nothing can be fetched
        raise UserError(
            "Expected network, or data.source.path to name the folder of Fashion-MNIST's four files, which Debian's "
            f"package dataset-fashion-mnist puts into /usr/share/datasets/fashion-mnist. Received: {error}"
        ) from error


def _read(folder: pathlib.Path) -> Arrays:
    return {
        part: (_idx(folder / f"{prefix}-images-idx3-ubyte.gz"), _idx(folder / f"{prefix}-labels-idx1-ubyte.gz"))
        for part, prefix in _FILES.items()
    }


def _source(images: np.ndarray, labels: np.ndarray, *, of: str) -> ArraySource:
    if images.ndim != 3 or labels.shape != images.shape[:1] or set(np.unique(labels)) != set(range(len(CLASS_NAMES))):
        raise UserError(
            f"Expected images of {len(CLASS_NAMES)} classes, with a label each, in {of}. Received: images "
            f"{images.shape} and labels {labels.shape} from {labels.min(initial=0)} to {labels.max(initial=0)}"
        )
    return ArraySource(
        images[..., None],
        labels.astype(np.int32),
        class_names=list(CLASS_NAMES),
        locate=lambda index: f"image {index} of {of}",
    )


def _idx(path: pathlib.Path) -> np.ndarray:
    """A file of bytes: two zeros, their type (8), the number of dimensions, the dimensions (32 bit), the values."""
    try:
        with gzip.open(path) as file:
            content = file.read(_MOST_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"Expected {path} of Fashion-MNIST. Received: {error}") from error
    end = 4 + 4 * content[3] if content[:3] == _BYTES and len(content) > 3 else len(content) + 1
    shape = [int(size) for size in np.frombuffer(content[4:end], ">u4")] if end <= len(content) else []
    if end > len(content) or math.prod(shape) != len(content) - end:
        raise UserError(
            f"Expected {path} to be a whole IDX file of bytes. Received: {len(content)} bytes of another form"
        )
    return np.frombuffer(content, np.uint8, offset=end).reshape(shape)
