"""Pairs from a stream that cannot be indexed: partners come from bounded buckets of what has flowed by."""

import numpy as np
import tensorflow as tf

from cskd_tf.data.batches import views
from cskd_tf.data.batches.loading import transformed
from cskd_tf.data.batches.pairing import PARTNER, image_seeds, key
from cskd_tf.data.images.transforms import Transform
from cskd_tf.errors import UserError


class RecentImages:
    """The last `bucket_size` images of each class.

    Memory: at most `num_classes * bucket_size` images, such as 1,000 classes of 16 JPEGs of 110 kB, 1.8 GB.

    Args:
        num_classes: C.
        bucket_size: images kept per class, K.
    """

    def __init__(self, *, num_classes: int, bucket_size: int):
        self._images: np.ndarray | None = None
        self._counts = np.zeros(num_classes, np.int64)  # images of each class so far
        self._size = bucket_size

    def pair(self, images: np.ndarray, labels: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """Takes a batch in, then gives each of its images a partner from its class' bucket.

        Args:
            images: `[n, ...]`.
            labels: int `[n]`.
            draws: uniform numbers `[n]` from [0, 1).

        Returns:
            Partners, as `images`.

        Raises:
            ValueError: a label outside the classes.
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
        kept = ranks >= (in_batch - self._size)[labels]  # of more than fit, the last
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
    stream that is shuffled afresh each epoch, every other image of the class (n images) is an equally likely partner,
    and the image itself comes too often: the distance to the uniform distribution (total variation) is `1/K - 1/n`. In
    a stream of fixed order an image meets its neighbours alone, at a distance of `1 - K/n`. So shuffle before. What is
    in the buckets cannot be saved: a resumed run begins with empty ones, in which an image is its own partner at first;
    and they stay filled when the data set is read a second time, so that only the first reading follows from the seed.

    Args:
        examples: `(image, label)`, unbatched; images encoded (string scalars) or arrays of one shape.
        num_classes: C.
        batch_size: images per batch.
        seed: of partners and augmentation, which follow from it, from the order of the stream and from the step.
        bucket_size: K. Memory: at most `num_classes * bucket_size` images, see `RecentImages`.
        augment: transform of both views.
        channels: of encoded images: 3 or 1.

    Returns:
        Batches `({"image", "partner"}, label)`, as long as the stream.
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

    # One batch after the other goes through the buckets; only then is the work done in parallel.
    paired = examples.batch(batch_size).enumerate().map(pair)
    return paired.map(transform, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(2)
