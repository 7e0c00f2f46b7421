"""What can be said of a data set before anything is trained on it."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import io
import warnings
from typing import NamedTuple

import numpy as np
import PIL.Image
import tensorflow as tf

from cskd_tf.data.sources.base import EncodedSource, PixelSource, Source
from cskd_tf.data.sources.passes import track
from cskd_tf.data.sources.reading import read_image

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


class _Findings(NamedTuple):
    """Of one image: the digest of its content, height and width, why it is unreadable, what else there is to know."""

    digest: bytes
    extent: tuple[int, int]
    problem: str
    remarks: list[str]


def inspect(source: Source, *, name: str) -> Inspection:
    """Reads and decodes every image of a split once, on all cores."""
    inspect_image = _inspect_encoded if isinstance(source, EncodedSource) else _inspect_pixels
    extents, digests, unreadable = [], collections.defaultdict(list), {}
    remarks: collections.Counter = collections.Counter()
    count = len(source.labels)
    with concurrent.futures.ThreadPoolExecutor() as pool, warnings.catch_warnings():
        warnings.filterwarnings("error", module="PIL")  # to be counted, instead of printed
        findings = pool.map(lambda index: inspect_image(source, index), range(count))
        for index, image in enumerate(track(findings, total=count, description=f"Looking at {name}")):
            digests[image.digest].append(index)
            remarks.update(image.remarks)
            if image.problem:
                unreadable[index] = image.problem
            else:
                extents.append(image.extent)
    counts = np.bincount(source.labels, minlength=len(source.class_names))
    return Inspection(counts, np.array(extents).reshape(-1, 2), dict(digests), unreadable, remarks)


def duplicates(first: Inspection, second: Inspection) -> list[tuple[int, int]]:
    """Pairs of an image of the first split and one of the second with the same content, to the byte."""
    shared = [digest for digest in first.digests if digest in second.digests]
    return [(first.digests[digest][0], second.digests[digest][0]) for digest in shared]


def _inspect_pixels(source: PixelSource, index: int) -> _Findings:
    pixels = source.load(tf.constant([index], tf.int64))[0].numpy()
    return _Findings(hashlib.sha256(pixels.tobytes()).digest(), pixels.shape[:2], "", [])


def _inspect_encoded(source: EncodedSource, index: int) -> _Findings:
    contents, extent, problem = read_image(source, index)
    return _Findings(hashlib.sha256(contents).digest(), extent, problem, [] if problem else _remarks(contents))


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
