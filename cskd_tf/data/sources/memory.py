"""Where pixels live while a run lasts: decoded in memory, encoded in memory, or read as they are needed."""

import concurrent.futures
import sys
from collections.abc import Callable, Iterator

import numpy as np
import rich.progress
import tensorflow as tf
from absl import logging

from cskd_tf.data.images.decode import check, decode, extent, map_quickly, reason
from cskd_tf.data.sources.base import ArraySource, Encoded, Source, Subset, is_encoded
from cskd_tf.errors import UserError

GIB = 2**30
_BATCH = 64


def in_memory(source: Source, *, budget: int, name: str) -> tuple[Source, int]:
    """The same images, held in memory as far as `budget` allows: decoded, if all have one size, else encoded.

    What was chosen is logged. While it is filled, the memory is needed twice.

    Args:
        source: any source.
        budget: bytes.
        name: of the split, for the log.

    Returns:
        A source with the same images, and the bytes that it newly holds.

    Raises:
        ValueError: images that cannot be decoded, by name, where they are decoded at once.
    """
    if not is_encoded(source):
        return source, 0
    count = len(source.labels)
    labelled = {"labels": source.labels, "class_names": source.class_names, "class_groups": source.class_groups}
    shape = common_shape(source, name=name)
    decoded = count * int(np.prod(shape)) if shape else np.inf
    encoded = int(source.sizes.sum())
    channels = source.image_shape[2]
    if decoded <= budget:
        images = tf.concat(_batches(source, lambda contents: _decode_all(contents, shape), name, "Decoding"), axis=0)
        logging.info("%s: %s images decoded in memory, %.2f GiB", name, f"{count:,}", decoded / GIB)
        return ArraySource(images, describe=source.describe, complete=False, **labelled), decoded
    if encoded <= budget:
        held = tf.concat(_batches(source, lambda contents: contents, name, "Reading"), axis=0)
        logging.info("%s: %s images encoded in memory, %.2f GiB", name, f"{count:,}", encoded / GIB)
        return Encoded(held, describe=source.describe, channels=channels, sizes=source.sizes, **labelled), encoded
    logging.info(
        "%s: %s images read as they are needed; they take %.2f GiB, and %.2f of data.source.memory are left",
        name, f"{count:,}", encoded / GIB, budget / GIB,
    )  # fmt: skip
    return source, 0


def common_shape(source: Source, *, name: str, probes: int = 16) -> tuple[int, int, int] | None:
    """The shape that all encoded images of a source have, from their headers; None where sizes differ."""
    first = extents(Subset(source, np.arange(min(probes, len(source.labels)))), name=name)
    if (first != first[0]).any():
        return None
    found = extents(source, name=name)
    return (*map(int, found[0]), source.image_shape[2]) if (found == found[0]).all() else None


def extents(source: Source, *, name: str) -> np.ndarray:
    """int32 `[N, 2]`, height and width of each encoded image, from its header.

    Raises:
        ValueError: files that are no JPEG or PNG, by name.
    """
    of_all = lambda contents: map_quickly(extent, contents, tf.TensorSpec([2], tf.int32))  # noqa: E731
    return np.concatenate(_batches(source, of_all, name, "Measuring"))


def look(source: Source, index: int) -> tuple[bytes, tuple[int, int], str]:
    """One encoded image as it is read for training: its bytes, height and width, and why it cannot be used."""
    try:
        contents = source.read(tf.constant([index], tf.int64))[0]
    except (tf.errors.OpError, OSError) as error:
        return b"", (0, 0), reason(error)
    return contents.numpy(), *check(contents, channels=source.image_shape[2])


def unreadable(source: Source, *, name: str) -> dict[int, str]:
    """The encoded images that cannot be used, with the reason."""
    indices = range(len(source.labels))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        looks = pool.map(lambda index: look(source, index)[2], indices)
        problems = list(track(looks, total=len(indices), description=f"Checking {name}"))
    return {index: problem for index, problem in enumerate(problems) if problem}


def refuse_unreadable(source: Source, *, name: str) -> None:
    """Raises ValueError with the names of the images that cannot be decoded, if there are any."""
    if is_encoded(source) and (broken := unreadable(source, name=name)):
        names = [source.describe(index) for index in list(broken)[:10]]
        raise UserError(
            f"Expected JPEG or PNG images. Received: {len(broken)} of {name} that cannot be decoded: {names}"
        )


def as_is(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Without tf.data's rewriting of the graph, which takes seconds and copies all images that are in memory."""
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    return dataset.with_options(options)


def track(iterable, *, total: int, description: str) -> Iterator:
    """A progress bar on the terminal, gone when the work is done."""
    silent = not sys.stderr.isatty()
    console = rich.console.Console(stderr=True)
    return rich.progress.track(iterable, description, total, transient=True, console=console, disable=silent)


def _decode_all(contents: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
    one = lambda content: tf.ensure_shape(decode(content, channels=shape[2]), shape)  # noqa: E731
    return tf.map_fn(one, contents, fn_output_signature=tf.TensorSpec(shape, tf.uint8))


def _batches(source: Source, function: Callable, name: str, verb: str) -> list[tf.Tensor]:
    """`function(contents)` of all encoded images in order, a batch at a time, in parallel."""
    count = len(source.labels)

    def batch_at(start):
        return function(source.read(tf.range(start, tf.minimum(start + _BATCH, count))))

    dataset = tf.data.Dataset.range(0, count, _BATCH).map(batch_at, num_parallel_calls=tf.data.AUTOTUNE)
    try:
        return list(track(as_is(dataset), total=-(-count // _BATCH), description=f"{verb} {name}"))
    except tf.errors.InvalidArgumentError:
        refuse_unreadable(source, name=name)
        raise
