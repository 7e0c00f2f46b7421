"""Images of one grey each, their number, by which they are told again; and archives of them.

There are two training images and a test image of each of two classes.
"""

import io
import tarfile
import zipfile

import numpy as np
import PIL.Image
import tensorflow as tf

from cskd_tf.data import EncodedSource

TRAIN = ((0, 10), (0, 20), (1, 30), (1, 40))
TEST = ((0, 50), (1, 60))
# Where a data set brings no splits.
THIRDS = {"test_fraction": 1 / 3, "validation_fraction": 0.5, "memory": 0}


def image(number, *, kind="JPEG", mode="L", size=(8, 8)):
    if mode == "1":  # as many white pixels as make the mean
        pixels = PIL.Image.fromarray(np.arange(size[0] * size[1]).reshape(size) < number / 255 * size[0] * size[1])
    else:
        pixels = PIL.Image.new(mode, size, number)
    file = io.BytesIO()
    pixels.save(file, kind, **({"quality": 100} if kind == "JPEG" else {}))
    return file.getvalue()


def pixels_of(source, index):
    if isinstance(source, EncodedSource):
        return source.decode_one(index).numpy()
    return source.load(tf.constant([index], tf.int64)).numpy()[0]


def number_of(source, index):
    return round(pixels_of(source, index)[..., 0].mean())


def contents(*sources):
    """(class name, number) of every image, sorted."""
    return sorted((s.class_names[label], number_of(s, i)) for s in sources for i, label in enumerate(s.labels))


def named(images, names):
    return sorted((names[label], number) for label, number in images)


def tar_of(files, *, mode="w"):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def pack(path, files):
    """Writes a zip or tar of `{name: content}`."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        path.write_bytes(tar_of(files, mode="w:gz" if path.suffix in (".gz", ".tgz") else "w"))
