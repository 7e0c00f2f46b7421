"""What can be said of a data set before anything is trained on it."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import io
import warnings
from typing import NamedTuple, cast

import numpy as np
import PIL.Image
import tensorflow as tf

from cskd_tf.data.sources.base import EncodedSource, PixelSource, Source
from cskd_tf.data.sources.passes import track
from cskd_tf.data.sources.reading import read_image

_EXIF_ORIENTATION = 0x0112
_KINDS = {
    "L": "grey", "LA": "grey with transparency", "1": "black and white", "CMYK": "CMYK", "P": "palette",
    "RGBA": "with transparency",
}  # fmt: skip


@dataclasses.dataclass
class Inspection:
    """One split, image by image.

    Attributes:
        counts: int `[C]`, images of each class.
        extents: int `[n, 2]`, height and width of the images that could be decoded.
        digests: for each content the indices of the images that have it.
        unreadable: why an image cannot be decoded, by index.
        remarks: for each remark, such as `palette`, of how many images it is true.
    """

    counts: np.ndarray
    extents: np.ndarray
    digests: dict[bytes, list[int]]
    unreadable: dict[int, str]
    remarks: collections.Counter[str]


class _Findings(NamedTuple):
    """What is found out of one image.

    Attributes:
        digest: of its content.
        extent: its height and width.
        problem: why it is unreadable; empty if it is not.
        remarks: what else there is to know.
    """

    digest: bytes
    extent: tuple[int, int]
    problem: str
    remarks: list[str]


def inspect(source: Source, *, name: str) -> Inspection:
    """Reads and decodes every image of a split once, on all cores.

    Example:
        >>> source = cskd_tf.data.ArraySource(np.zeros([3, 4, 5, 1], np.uint8), [0, 1, 1])
        >>> inspection = inspect(source, name="train")
        >>> inspection.counts.tolist(), inspection.extents.tolist(), list(inspection.digests.values())
        ([1, 2], [[4, 5], [4, 5], [4, 5]], [[0, 1, 2]])

    Args:
        source: any source.
        name: of the split, for the progress bar.
    """
    extents: list[tuple[int, int]] = []
    digests: dict[bytes, list[int]] = collections.defaultdict(list)
    unreadable: dict[int, str] = {}
    remarks: collections.Counter[str] = collections.Counter()
    count = len(source.labels)
    with concurrent.futures.ThreadPoolExecutor() as pool, warnings.catch_warnings():
        warnings.filterwarnings("error", module="PIL")  # to be counted, instead of printed
        findings = pool.map(lambda index: _inspect_image(source, index), range(count))
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
    """Images of the second split that are in the first too, to the byte.

    Example:
        >>> pixels = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1)
        >>> train = inspect(cskd_tf.data.ArraySource(pixels, [0, 1, 1]), name="train")
        >>> test = inspect(cskd_tf.data.ArraySource(pixels[1:], [0, 1]), name="test")
        >>> duplicates(train, test)
        [(1, 0), (2, 1)]

    Returns:
        For each such image the index of the first one of its content in the first split, and its own.
    """
    shared = [digest for digest in first.digests if digest in second.digests]
    return [(first.digests[digest][0], index) for digest in shared for index in second.digests[digest]]


def _inspect_image(source: Source, index: int) -> _Findings:
    if isinstance(source, EncodedSource):
        return _inspect_encoded(source, index)
    return _inspect_pixels(cast(PixelSource, source), index)  # every source is of one kind or the other


def _inspect_pixels(source: PixelSource, index: int) -> _Findings:
    pixels = source.load(tf.constant([index], tf.int64))[0].numpy()
    return _Findings(hashlib.sha256(pixels.tobytes()).digest(), pixels.shape[:2], "", [])


def _inspect_encoded(source: EncodedSource, index: int) -> _Findings:
    contents, extent, problem = read_image(source, index)
    return _Findings(hashlib.sha256(contents).digest(), extent, problem, [] if problem else _remarks(contents))


def _remarks(contents: bytes) -> list[str]:
    """What PIL says of an image that training can read; an error of PIL is therefore no more than a remark."""
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
        limit = PIL.Image.MAX_IMAGE_PIXELS or 0  # without a limit PIL does not warn
        remarks.append(f"of more than {limit / 1e6:.0f} megapixels, which PIL warns of")
    except Exception:  # whatever its many parsers raise
        remarks.append("sound but for what PIL cannot read of their metadata: EXIF, text, colour profile or animation")
    return remarks
