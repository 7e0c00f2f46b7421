"""What the files of this room share: photos, their files, sources, seeds."""

import io

import numpy as np
import PIL.Image
import tensorflow as tf

HALVES = {"test_fraction": 0.5, "validation_fraction": 0.5}


def photo(height=45, width=61, seed=0):
    """A smooth image of strong colours, uint8 `[height, width, 3]`, so that JPEG has something to do."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), np.uint8)
    return PIL.Image.fromarray(coarse).resize((width, height), PIL.Image.Resampling.BICUBIC)


def encoded(image, kind="JPEG", **options):
    """The bytes of a file of `image`."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def as_pil(content, mode="RGB"):
    """The pixels that PIL reads from a file's bytes."""
    return np.asarray(PIL.Image.open(io.BytesIO(content)).convert(mode))


def write(path, content=None):
    """Writes a file, of a photo unless told, and the folders above it; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(photo()) if content is None else content)
    return path


def write_classes(folder, counts):
    """A folder for each class, with so many photos."""
    for name, count in counts.items():
        for number in range(count):
            write(folder / name / f"{number}.jpg")


def paths(source):
    """What each image of a source is called."""
    return [source.locate(index) for index in range(len(source.labels))]


def seeds(count, start=0):
    """Two random numbers per image, int32 `[count, 2]`, as transforms take them."""
    generator = np.random.default_rng(start)
    return tf.constant(generator.integers(-(2**31), 2**31, (count, 2)), tf.int32)
