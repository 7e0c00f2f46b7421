"""Pairs from a stream that cannot be indexed: partners come from the last images of each class that have gone by."""

import numpy as np
import tensorflow as tf

from cskd_tf.data.batches import views
from cskd_tf.data.batches.loading import transformed
from cskd_tf.data.batches.pairing import PARTNER, image_seeds, key
from cskd_tf.data.images.transforms import Transform
from cskd_tf.errors import UserError


class RecentImages:
    """The last `bucket_size` images of each class.

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

    def pair(self, images: np.ndarray, labels: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """Takes a batch in, then gives each of its images a partner from the bucket of its class.

        Args:
            images: `[n, ...]`.
            labels: int `[n]`.
            draws: uniform numbers `[n]` from [0, 1).

        Returns:
            Partners, of the shape and type of `images`.

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


def paired_stream(
    examples: tf.data.Dataset,
    *,
    num_classes: int,
    batch_size: int,
    seed: int,
    bucket_size: int = 16,
    augment: Transform | None = None,
    channels: int = 3,
) -> tf.data.Dataset:
    """Training batches from a stream of single examples, where `paired_dataset` would need an index.

    The partner of an image is uniform over the last `bucket_size` (K) images of its class, itself included. In a
    stream that is shuffled afresh each epoch, all other images of the class (of n) are equally likely partners, and the
    image itself is too likely: the distance to the uniform distribution (total variation) is `1/K - 1/n`. In a stream
    of fixed order an image only ever meets its neighbours, at a distance of `1 - K/n`. So shuffle before.

    What is in the buckets cannot be saved: a resumed run begins with empty ones, from which an image gets itself as
    partner at first. They stay filled when the data set is read a second time, so that only the first reading follows
    from the seed.

    Example:
        >>> examples = tf.data.Dataset.from_tensor_slices((np.zeros([5, 8, 8, 1], np.uint8), [0, 1, 0, 1, 0]))
        >>> data = paired_stream(examples, num_classes=2, batch_size=2, seed=0)
        >>> [batch["partner"].shape.as_list() for batch, labels in data]
        [[2, 8, 8, 1], [2, 8, 8, 1], [1, 8, 8, 1]]

    Args:
        examples: `(image, label)`, unbatched; images encoded (string scalars) or arrays of one shape.
        num_classes: C.
        batch_size: images per batch.
        seed: of partners and augmentation, which follow from it, from the order of the stream and from the step.
        bucket_size: K. Memory: at most `num_classes * bucket_size` images, see `RecentImages`.
        augment: transform of both views.
        channels: 3 (colour) or 1 (grey), of encoded images.

    Returns:
        Batches `({"image": x, "partner": x'}, label)`, until the stream ends.

    Raises:
        UserError: a number of classes or a size below 1.
    """
    if min(num_classes, batch_size, bucket_size) < 1:
        raise UserError(
            "Expected num_classes, batch_size and bucket_size of at least 1. "
            f"Received: {num_classes=}, {batch_size=}, {bucket_size=}"
        )
    buckets = RecentImages(num_classes=num_classes, bucket_size=bucket_size)

    def pair(step, batch):
        images, labels = batch
        draws = tf.random.stateless_uniform(tf.shape(labels), tf.bitcast(key(seed, PARTNER, step)[:2], tf.int32))
        partners = tf.numpy_function(buckets.pair, [images, labels, draws], images.dtype)
        return step, images, tf.ensure_shape(partners, images.shape), labels

    def transform(step, images, partners, labels):
        places = tf.range(tf.shape(labels)[0], dtype=tf.int64)
        batch = {}
        for view, shown in ((views.IMAGE, images), (views.PARTNER, partners)):
            seeds = image_seeds(places, draw_key=key(seed, views.stream(view), step))
            batch[view] = transformed(shown, seeds, transform=augment, channels=channels)
        return batch, labels

    # Batches go through the buckets one after the other, and are transformed in parallel.
    paired = examples.batch(batch_size).enumerate().map(pair)
    return paired.map(transform, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(2)
