"""Reads images as training does, before it begins: their sizes, and why any of them cannot be used."""

import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from cskd_tf.data.images import headers
from cskd_tf.data.images.decode import decode, reason
from cskd_tf.data.sources.base import EncodedSource, Source
from cskd_tf.data.sources.passes import PARALLEL_CALLS, as_it_is, track
from cskd_tf.errors import UserError

_BATCH = 64
_LARGE = 2**24  # pixels, above which images are decoded one at a time, so that as many threads need not as much memory
_ONE_LARGE = threading.Lock()


class Reading(NamedTuple):
    """What came of reading one encoded image and decoding it.

    Attributes:
        contents: its bytes; empty if it could not be read.
        extent: its height and width; zeros if it cannot be used.
        problem: why it cannot be used; empty if it can.
    """

    contents: bytes
    extent: tuple[int, int]
    problem: str


def read_and_decode(read: Callable[[], tf.Tensor], *, channels: int) -> Reading:
    """Reads and decodes one image with the function that training decodes with.

    Example:
        >>> image = tf.io.encode_png(tf.zeros([3, 5, 3], tf.uint8))
        >>> read_and_decode(lambda: image, channels=3)[1:]
        ((3, 5), '')
        >>> read_and_decode(lambda: tf.constant("GIF89a"), channels=3)
        Reading(contents=b'GIF89a', extent=(0, 0), problem='Expected JPEG or PNG.')

    Args:
        read: returns the encoded image, a string scalar.
        channels: 3 (colour) or 1 (grey).
    """
    try:
        contents = read()
    except (tf.errors.OpError, OSError) as error:
        return Reading(b"", (0, 0), reason(error))
    try:
        large = tf.reduce_prod(headers.extent(contents)) > _LARGE
        with _ONE_LARGE if large else contextlib.nullcontext():
            height, width, _ = decode(contents, channels=channels).shape
    except tf.errors.OpError as error:
        empty = tf.strings.length(contents) == 0
        return Reading(contents.numpy(), (0, 0), "empty file" if empty else reason(error))
    return Reading(contents.numpy(), (height, width), "")


def read_image(source: EncodedSource, index: int) -> Reading:
    """`read_and_decode` of one image of a source."""
    return read_and_decode(lambda: source.read(tf.constant([index], tf.int64))[0], channels=source.image_shape[2])


def unreadable_images(source: EncodedSource, *, name: str) -> dict[int, str]:
    """The images that cannot be used, by index, each with the reason; `name` is the split's, for the progress bar."""
    indices = range(len(source.labels))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        problems = pool.map(lambda index: read_image(source, index).problem, indices)
        tracked = list(track(problems, total=len(indices), description=f"Checking {name}"))
    return {index: problem for index, problem in enumerate(tracked) if problem}


def refuse_unreadable(source: Source, *, name: str) -> None:
    """Refuses a source with images that cannot be decoded; `name` is the split's, for the progress bar and the error.

    Raises:
        UserError: how many there are, and the names of the first ten.
    """
    if isinstance(source, EncodedSource) and (broken := unreadable_images(source, name=name)):
        names = [source.locate(index) for index in list(broken)[:10]]
        raise UserError(
            f"Expected JPEG or PNG images. Received: {len(broken)} of {name} that cannot be decoded: {names}"
        )


@contextlib.contextmanager
def unreadable_named(splits: Mapping[str, Source]) -> Iterator[None]:
    """Names the images where TensorFlow, reading some of `splits` inside, says only that one cannot be decoded.

    Raises:
        UserError: as `refuse_unreadable`, of the first split that has such images.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if "IteratorGetNext" in str(error):  # of the data, and not of the model
            for split, source in splits.items():
                refuse_unreadable(source, name=split)
        raise


def map_contents(
    source: EncodedSource, function: Callable[[tf.Tensor], tf.Tensor], *, name: str, verb: str
) -> list[tf.Tensor]:
    """`function(contents)` of all encoded images in their order, one result per batch, in parallel.

    Args:
        source: of the images.
        function: of the contents of one batch, string `[n]`.
        name: of the split, for the progress bar and errors.
        verb: what is done, for the progress bar.

    Raises:
        UserError: images that cannot be decoded, by name, where `function` came upon one.
    """
    count = len(source.labels)

    def batch_at(start):
        return function(source.read(tf.range(start, tf.minimum(start + _BATCH, count))))

    dataset = tf.data.Dataset.range(0, count, _BATCH).map(batch_at, num_parallel_calls=PARALLEL_CALLS)
    batches = track(as_it_is(dataset), total=-(-count // _BATCH), description=f"{verb} {name}")
    try:
        return list(batches)
    except tf.errors.InvalidArgumentError:
        refuse_unreadable(source, name=name)
        raise


def extents(source: EncodedSource, *, name: str) -> np.ndarray:
    """int32 `[N, 2]`, height and width of each image, from its header; `name` as for `map_contents`.

    Raises:
        UserError: files that are no JPEG or PNG, by name.
    """
    return np.concatenate(map_contents(source, headers.extents, name=name, verb="Measuring"))


def common_shape(source: EncodedSource, *, name: str, probes: int = 16) -> tuple[int, int, int] | None:
    """The shape that all images of a source have, from their headers; None where sizes differ.

    Args:
        source: of the images.
        name: of the split, for the progress bar and errors.
        probes: images that are looked at first, and alone if they already differ.

    Raises:
        UserError: files that are no JPEG or PNG, by name.
    """
    probed = extents(source.subset(np.arange(min(probes, len(source.labels)))), name=name)
    if (probed != probed[0]).any():
        return None
    heights_and_widths = probed if len(source.labels) <= probes else extents(source, name=name)
    if (heights_and_widths != heights_and_widths[0]).any():
        return None
    height, width = map(int, heights_and_widths[0])
    return height, width, source.image_shape[2]
