"""Pairs from a stream that cannot be indexed: partners come from the last images of each class that have gone by."""

import numpy as np
import tensorflow as tf
from absl import logging

from cskd_tf.checks import check_count, check_seed
from cskd_tf.data.batches import views
from cskd_tf.data.batches.loading import transformed
from cskd_tf.data.batches.maker import mixed
from cskd_tf.data.batches.pairing import PARTNER, image_seeds, key
from cskd_tf.data.batches.views import Distribution, Needs
from cskd_tf.data.images.keras_layers import Augment, as_transform
from cskd_tf.data.images.transforms import Transform
from cskd_tf.data.sources.base import class_numbers
from cskd_tf.data.sources.caching import GIB
from cskd_tf.data.sources.examples import Examples, examples_of
from cskd_tf.data.sources.weakly import weakly
from cskd_tf.errors import UserError


class RecentImages:
    """The last `bucket_size` images of each class.

    Counts how often it is filled from the beginning of a stream, which is what tells one reading from another.

    Memory: at most `num_classes * bucket_size` images, such as 1,000 classes of 16 JPEGs of 110 kB each, 1.8 GB.

    Example:
        >>> buckets = RecentImages(num_classes=2, bucket_size=2)
        >>> buckets.pair(np.array([10, 11, 20]), np.array([0, 0, 1]), draws=np.array([0.6, 0.2, 0.9])).tolist()
        [11, 10, 20]

    Args:
        num_classes: C.
        bucket_size: images kept per class, K.
    """

    def __init__(self, *, num_classes: int, bucket_size: int):
        self._images: np.ndarray | None = None
        self._counts = np.zeros(num_classes, np.int64)  # images of each class so far
        self._size = bucket_size
        self._readings = 0

    def reading(self, step: int) -> int:
        """The number of the reading, from 0, whose batch `step` comes next."""
        self._readings += step == 0
        return self._readings - 1

    def pair(self, images: np.ndarray, labels: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """Takes a batch in, then gives each of its images a partner from the bucket of its class.

        Args:
            images: `[n, ...]`.
            labels: int `[n]`.
            draws: uniform numbers from [0, 1), `[n]`, or `[p, n]` for p partners of each.

        Returns:
            Partners `[n, ...]` or `[p, n, ...]`, of the type of `images`.

        Raises:
            UserError: a label outside the classes.
        """
        if labels.min() < 0 or labels.max() >= len(self._counts):
            received = sorted(set(labels.tolist()))[:10]
            raise UserError(f"Expected labels from 0 to {len(self._counts) - 1}. Received: {received}")
        if self._images is None:
            self._images = np.zeros([len(self._counts), self._size, *images.shape[1:]], images.dtype)
        order = np.argsort(labels, kind="stable")
        ranks = np.empty_like(order)
        ranks[order] = np.arange(len(labels)) - np.searchsorted(labels[order], labels[order])
        in_batch = np.bincount(labels, minlength=len(self._counts))
        kept = ranks >= (in_batch - self._size)[labels]  # the last ones, where a class has more than fit
        slots = (self._counts[labels] + ranks) % self._size
        self._images[labels[kept], slots[kept]] = images[kept]
        self._counts += in_batch
        return self._images[labels, (draws * np.minimum(self._counts, self._size)[labels]).astype(int)]

    def take_in(self, images: np.ndarray, labels: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The partners of `pair`, and the number of each class, int32 `[n]`, of labels in any form."""
        numbers = class_numbers(labels)[0]
        return self.pair(images, numbers, draws), numbers.astype(np.int32)


def paired_stream(
    examples: tf.data.Dataset,
    *,
    seed: int,
    batch_size: int | None = None,
    num_classes: int | None = None,
    bucket_size: int = 16,
    augment: Augment | None = None,
    clean: Augment | None = None,
    channels: int = 3,
    memory: float = 4.0,
    needs: Needs = Needs(views=(views.PARTNER,)),
    distribution: Distribution = Distribution(),
) -> tf.data.Dataset:
    """Training batches from data that cannot be held in memory, where `paired_dataset` would need an index.

    The partner of an image is uniform over the last `bucket_size` (K) images of its class, itself included. In a
    stream that is shuffled afresh each epoch, all other images of the class (of n) are equally likely partners, and the
    image itself is too likely: the distance to the uniform distribution (total variation) is `1/K - 1/n`. In a stream
    of fixed order an image only ever meets its neighbours, at a distance of `1 - K/n`. So shuffle before.

    What is in the buckets cannot be saved: a resumed run begins with empty ones, from which an image gets itself as
    partner at first. They stay filled when the data set is read a second time, so that only the first reading follows
    from the seed. No reading repeats the draws of one before, of partners, augmentation or mixing.

    Example:
        >>> examples = tf.data.Dataset.from_tensor_slices((np.zeros([5, 8, 8, 1], np.uint8), [0, 1, 0, 1, 0]))
        >>> data = paired_stream(examples, num_classes=2, batch_size=2, seed=0)
        >>> [batch["partner"].shape.as_list() for batch, labels in data]
        [[2, 8, 8, 1], [2, 8, 8, 1], [1, 8, 8, 1]]

    Args:
        examples: a `tf.data.Dataset` of `(image, label)` or `(image, label, weight)`, one by one or in batches, or a
            `keras.utils.PyDataset`; images encoded (strings) or arrays of one shape; labels integers or one-hot.
        seed: of partners and augmentation, which follow from it, from the order of the stream and from the step.
        batch_size: images per batch; may be left out where the data come in batches, which then stay as they are. Of
            other batches than its own Keras cannot tell beforehand how many there are.
        num_classes: C; may be left out where one-hot labels or `class_names` tell it.
        bucket_size: K. Memory: at most `num_classes * bucket_size` images, see `RecentImages`.
        augment: of every view but `"clean"`, as `paired_dataset` takes it.
        clean: the same, of the view `"clean"`.
        channels: 3 (colour) or 1 (grey), of encoded images.
        memory: GiB that the images in the buckets may take; of encoded ones it is not known before.
        needs: what the methods need in a batch, but for numbers of images, which a stream has none of.
        distribution: among how many replicas each batch will be split.

    Returns:
        Batches `({"image": x, "partner": x', ...}, label)`, with weights as third part where there are any, until the
        stream ends.

    Raises:
        UserError: a number of classes or a size below 1, data of another form, buckets that take more memory, or needs
            that a stream cannot meet.
    """
    views.warn_of_equal_views(needs, augmented=augment is not None)
    transforms = {view: as_transform(clean if view == views.CLEAN else augment) for view in (views.IMAGE, *needs.views)}
    given = examples_of(examples)
    num_classes = given.num_classes if num_classes is None else num_classes
    if num_classes is None:
        raise UserError("Expected num_classes, which labels that are numbers do not tell. Received: num_classes=None")
    check_seed(seed)
    for name, count in (("num_classes", num_classes), ("bucket_size", bucket_size), ("batch_size", batch_size)):
        if count is not None:
            check_count(name, count)
    if batch_size is None and not given.batched:
        raise UserError("Expected batch_size for data that come one by one. Received: batch_size=None")
    _check_needs(needs, batch_size=batch_size, distribution=distribution, clean=transforms.get(views.CLEAN))
    _check_memory(given, images=num_classes * bucket_size, memory=memory)
    logging.info(
        "A stream, of which %d images of each of %d classes are held: partners are among these",
        bucket_size, num_classes,
    )  # fmt: skip
    buckets = RecentImages(num_classes=num_classes, bucket_size=bucket_size)
    partner_numbers = [views.partner_number(view) for view in needs.views if views.partner_number(view)]

    def pair(step, example):
        images, labels, *weights = example
        reading = tf.ensure_shape(tf.numpy_function(weakly(buckets.reading), [step], tf.int64), [])
        step += reading * 2**32  # no two batches get the same draws
        shape = [tf.shape(images)[0]]
        draws = [tf.random.stateless_uniform(shape, _partner_seed(seed, step, number)) for number in partner_numbers]
        draws = tf.stack(draws) if draws else tf.zeros([0, *shape])
        taken = [images.dtype, tf.int32]
        partners, labels = tf.numpy_function(weakly(buckets.take_in), [images, labels, draws], taken)
        partners = tf.ensure_shape(partners, [len(partner_numbers), *images.shape])
        return step, images, partners, tf.ensure_shape(labels, images.shape[:1]), tuple(weights)

    def transform(step, images, partners, labels, weights):
        places = tf.range(tf.shape(labels)[0], dtype=tf.int64)
        batch = {}
        for view, change in transforms.items():
            number = views.partner_number(view)
            shown = partners[partner_numbers.index(number)] if number else images
            seeds = image_seeds(places, draw_key=key(seed, views.stream(view), step))
            batch[view] = transformed(shown, seeds, transform=change, channels=channels)
        if needs.mixing:
            given = weights[0] if weights else None
            options = {"seed": seed, "step": step, "num_classes": num_classes}
            batch, given = mixed(batch, labels, needs.mixing, weights=given, **options)
            weights = () if given is None else (given,)
        return batch, labels, *weights

    # Batches go through the buckets one after the other, and are transformed in parallel.
    pair, transform = map(tf.autograph.experimental.do_not_convert, (pair, transform))  # or it reads all our code
    paired = given.batches(batch_size, drop_remainder=distribution.static_shapes).enumerate().map(pair)
    return paired.map(transform, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(2)


def _partner_seed(seed: int, step: tf.Tensor, number: int) -> tf.Tensor:
    """int32 `[2]`, of the draws of one of several partners, from 1."""
    return tf.bitcast(key(seed, PARTNER, step, *([number - 1] if number > 1 else []))[:2], tf.int32)


def _check_needs(needs: Needs, *, batch_size: int | None, distribution: Distribution, clean: Transform | None) -> None:
    unmet = [*needs.extras, *(view for view in needs.views if view == views.PREVIOUS)]
    if needs.pairs_adjacent:
        unmet.append("pairs_adjacent")
    if unmet:
        raise UserError(
            "Expected methods whose needs a stream can meet, which numbers no images; cskd_tf.data.paired_dataset "
            f"meets all of them, of data that it holds in memory. Received: {unmet}"
        )
    if views.CLEAN in needs.views and clean is None:
        raise UserError("Expected a transform for the view 'clean'. Received: clean=None")
    if batch_size is None and (needs.largest_batch is not None or distribution.static_shapes):
        raise UserError(
            "Expected batch_size, for a method with a largest_batch or for a TPU. Received: batch_size=None"
        )
    if needs.largest_batch is not None and batch_size is not None and batch_size > needs.largest_batch:
        raise UserError(
            f"Expected batch_size of at most {needs.largest_batch}, the largest_batch of a method. "
            f"Received: {batch_size=}"
        )
    rows = distribution.num_replicas * distribution.parts
    if distribution.num_workers > 1 or (batch_size is not None and batch_size < rows):
        raise UserError(
            f"Expected a single worker, and a batch_size of at least {rows}: an image for each part of each replica. "
            f"Received: num_workers={distribution.num_workers}, {batch_size=}"
        )


def _check_memory(examples: Examples, *, images: int, memory: float) -> None:
    """Refuses buckets of more than `memory` GiB."""
    if examples.image_bytes is not None and (taken := images * examples.image_bytes) > memory * GIB:
        raise UserError(
            f"Expected num_classes * bucket_size images of at most memory={memory:g} GiB. "
            f"Received: {images:,} images of {taken / GIB:.2f} GiB"
        )
