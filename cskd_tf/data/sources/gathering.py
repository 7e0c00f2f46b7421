"""Data sets without an index, read into memory once, where each image has a number."""

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from absl import logging

from cskd_tf.data.images.decode import reason
from cskd_tf.data.sources.arrays import ArraySource, as_source
from cskd_tf.data.sources.base import Source, class_numbers
from cskd_tf.data.sources.caching import GIB
from cskd_tf.data.sources.encoded import Encoded
from cskd_tf.data.sources.examples import DATA_SETS, Examples, examples_of
from cskd_tf.data.sources.passes import track
from cskd_tf.errors import UserError

_BATCH = 64


def indexed(
    images: Source | npt.ArrayLike | tf.data.Dataset,
    labels: npt.ArrayLike | None = None,
    *,
    memory: float,
    channels: int,
) -> tuple[Source, np.ndarray | None]:
    """Images as a source, whatever they come in, and their weights, if they bring any.

    Args:
        images: a source, an array, or a data set, which is then gathered.
        labels: of an array.
        memory: GiB at most for the images of a data set.
        channels: 3 (colour) or 1 (grey), of encoded images of a data set.

    Returns:
        The source, and float32 `[N]` or None.

    Raises:
        UserError: as of `as_source` and `gathered`.
    """
    if not isinstance(images, DATA_SETS):
        return as_source(images, labels), None
    if labels is not None:
        raise UserError("Expected no labels beside a data set, which brings its own.")
    return gathered(images, memory=memory, channels=channels)


def gathered(data: Any, *, memory: float, channels: int) -> tuple[Source, np.ndarray | None]:
    """Reads a data set once, and holds what it has read.

    Images are numbered by label and content, so that the numbers are the same in whatever order they were read: one
    that shuffles gives the same batches in the next process. While the memory is filled, twice as much of it is taken.

    Example:
        >>> images, labels = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1), [1, 0, 1, 0]
        >>> data = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(4)
        >>> source, weights = gathered(data, memory=1.0, channels=1)
        >>> source.labels.tolist(), sorted(source.load([2, 3]).numpy().ravel().tolist()), weights
        ([0, 0, 1, 1], [0, 2], None)

    Args:
        data: of `(image, label)` or `(image, label, weight)`, as `examples_of` takes it; images of one size, or
            encoded.
        memory: GiB at most.
        channels: 3 (colour) or 1 (grey), of encoded images.

    Returns:
        The source, and float32 `[N]` or None.

    Raises:
        UserError: data without an end, of another form, that take more memory than `memory`, or that cannot be read.
    """
    examples = examples_of(data)
    images, labels, weights = _read(examples, memory=memory)
    numbers, num_classes = class_numbers(labels)
    names = examples.class_names or list(map(str, range(num_classes or int(numbers.max(initial=0)) + 1)))
    source: Source
    if images.dtype == tf.string:
        sizes = tf.strings.length(images).numpy()
        locate = "image {}".format
        source = Encoded(images, numbers, class_names=names, channels=channels, sizes=sizes, locate=locate)
    else:
        source = ArraySource(images, numbers, class_names=names)
    held = sum(source.held_bytes().values())
    logging.info(
        "%s images gathered in memory, %.2f GiB: partners are uniform over all images of a class",
        f"{len(numbers):,}", held / GIB,
    )  # fmt: skip
    order = _order(images.numpy(), source.labels, weights)
    return source.subset(order), None if weights is None else weights[order]


def _read(examples: Examples, *, memory: float) -> tuple[tf.Tensor, np.ndarray, np.ndarray | None]:
    """All images, labels and weights of a data set that fits into `memory` GiB."""
    count = int(examples.dataset.cardinality())
    if count == tf.data.INFINITE_CARDINALITY:
        raise UserError(
            "Expected data that end; cskd_tf.data.paired_stream pairs a stream. Received: an endless data set"
        )
    if not examples.batched and count > 0 and examples.image_bytes is not None:
        _refuse_more(count * examples.image_bytes, memory)
    # Images whose size the form leaves open may still be all of one size.
    open_size = examples.image_bytes is None and examples.image_spec.dtype != tf.string
    batches = examples.dataset if examples.batched else examples.dataset.batch(1 if open_size else _BATCH)
    known = int(batches.cardinality())  # below 0: not known
    total, parts, shapes = 0, list[tuple](), set[tuple]()
    try:
        for images, *others in track(batches, total=known if known >= 0 else None, description="Reading the data set"):
            taken = _bytes(images)
            if not parts:
                _refuse_more(taken * (known - 1), memory)  # at least so much, for only the last batch is smaller
            total += taken
            _refuse_more(total, memory)
            shapes.add(tuple(images.shape[1:]))
            if len(shapes) > 1:
                raise UserError(
                    "Expected images of one size, or encoded as JPEG or PNG, to be held in memory; resize them in the "
                    f"data set. Received: images of {sorted(shapes)}"
                )
            parts.append((images, *(np.asarray(other) for other in others)))
    except tf.errors.OpError as error:
        raise UserError(f"Expected data that can be read. Received: {reason(error)}") from error
    if not parts:
        raise UserError("Expected at least one image. Received: an empty data set")
    images, labels, *weights = zip(*parts, strict=True)
    weight = np.concatenate(weights[0]).astype(np.float32) if weights else None
    return tf.concat(images, axis=0), np.concatenate(labels), weight


def _refuse_more(taken: int, memory: float) -> None:
    if taken > memory * GIB:
        raise UserError(
            f"Expected data of at most memory={memory:g} GiB, to be held in memory; more may be given, or "
            "cskd_tf.data.paired_stream pairs what is not held, with partners among the last images of a class. "
            f"Received: {taken / GIB:.2f} GiB or more"
        )


def _bytes(images: tf.Tensor) -> int:
    if images.dtype == tf.string:
        return int(tf.reduce_sum(tf.strings.length(images)))
    return images.shape.num_elements() * images.dtype.size


def _order(images: np.ndarray, labels: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """The images by label and content, int `[N]`."""
    contents = (image if isinstance(image, bytes) else image.tobytes() for image in images)
    digests = [hashlib.blake2b(content, digest_size=16).digest() for content in contents]
    others = labels.tolist() if weights is None else list(zip(labels.tolist(), weights.tolist(), strict=True))
    return np.array(sorted(range(len(digests)), key=lambda index: (others[index], digests[index])))
