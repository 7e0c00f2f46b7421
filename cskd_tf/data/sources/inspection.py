"""What can be said of a data set before anything is trained on it."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import io
import warnings

import numpy as np
import PIL.Image
import tensorflow as tf

from cskd_tf.data.sources.base import Source, is_encoded
from cskd_tf.data.sources.memory import look, track

_EXIF_ORIENTATION = 0x0112
_KINDS = {"L": "grey", "1": "black and white", "CMYK": "CMYK", "P": "palette", "RGBA": "with transparency"}


@dataclasses.dataclass
class Inspection:
    """One split, image by image.

    Attributes:
        counts: int `[C]`, images of each class.
        extents: int `[n, 2]`, height and width of the images that could be decoded.
        digests: for each content the indices of the images that have it.
        unreadable: why an image cannot be decoded, by index.
        remarks: how many images have something to know about, by what it is.
    """

    counts: np.ndarray
    extents: np.ndarray
    digests: dict[bytes, list[int]]
    unreadable: dict[int, str]
    remarks: collections.Counter


def inspect(source: Source, *, name: str) -> Inspection:
    """Reads and decodes every image of a split once, on all cores."""
    look_at = _look_at_encoded if is_encoded(source) else _look_at_pixels
    extents, digests, unreadable = [], collections.defaultdict(list), {}
    remarks: collections.Counter = collections.Counter()
    count = len(source.labels)
    with concurrent.futures.ThreadPoolExecutor() as pool, warnings.catch_warnings():
        warnings.filterwarnings("error", module="PIL")  # to be counted, instead of printed
        found = pool.map(lambda index: look_at(source, index), range(count))
        for index, (digest, extent, problem, notes) in enumerate(
            track(found, total=count, description=f"Looking at {name}")
        ):
            digests[digest].append(index)
            remarks.update(notes)
            if problem:
                unreadable[index] = problem
            else:
                extents.append(extent)
    counts = np.bincount(source.labels, minlength=len(source.class_names))
    return Inspection(counts, np.array(extents).reshape(-1, 2), dict(digests), unreadable, remarks)


def duplicates(first: Inspection, second: Inspection) -> list[tuple[int, int]]:
    """Pairs of an image of the first split and one of the second with the same content, to the byte."""
    return [(first.digests[same][0], second.digests[same][0]) for same in first.digests if same in second.digests]


def _look_at_pixels(source: Source, index: int):
    pixels = source.load(tf.constant([index], tf.int64))[0].numpy()
    return hashlib.sha256(pixels.tobytes()).digest(), pixels.shape[:2], "", []


def _look_at_encoded(source: Source, index: int):
    contents, extent, problem = look(source, index)
    return hashlib.sha256(contents).digest(), extent, problem, [] if problem else _remarks(contents)


def _remarks(contents: bytes) -> list[str]:
    """What PIL says of an image that training reads; what PIL itself stumbles over is no more than a remark."""
    remarks = []
    try:
        with PIL.Image.open(io.BytesIO(contents)) as image:
            if image.mode in _KINDS:
                remarks.append(_KINDS[image.mode])
            if image.mode.startswith("I"):
                remarks.append("16-bit, of which 8 are used")
            if getattr(image, "n_frames", 1) > 1:
                remarks.append("animated, of which the first frame is used")
            if image.getexif().get(_EXIF_ORIENTATION, 1) != 1:
                remarks.append("rotated by EXIF, used as stored")
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning):
        remarks.append(f"of more than {PIL.Image.MAX_IMAGE_PIXELS / 1e6:.0f} megapixels, which PIL warns of")
    except Exception:  # whatever its many parsers raise
        remarks.append("sound but for what PIL cannot read of their metadata: EXIF, text, colour profile or animation")
    return remarks
