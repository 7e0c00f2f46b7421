"""The images that came one batch earlier: a function of (seed, epoch, step) too, without the batches before it."""

import tensorflow as tf

from cskd_tf.data.batches.pairing import BatchOrder, Places


def positions(order: BatchOrder, step: tf.Tensor, *, count: tf.Tensor) -> tf.Tensor:
    """How many places the run has shown before each of a step's.

    Example: of 5 images in batches of 2, the third batch has one, and the next epoch begins behind it:
        >>> from cskd_tf.data.batches.pairing import ClassBuckets
        >>> order = BatchOrder(ClassBuckets(np.array([0, 1, 0, 1, 0]), num_classes=2), batch_size=2, seed=0)
        >>> [positions(order, tf.constant(step, tf.int64), count=2).numpy().tolist() for step in (1, 3)]
        [[2, 3], [5, 6]]

    Args:
        order: of the batches.
        step: int64 scalar, counted from 0 through all epochs.
        count: of the images in the step's batch, b.

    Returns:
        int64 `[b]`.
    """
    steps, size = order.steps_per_epoch, order.batch_size
    of_epoch = steps * size if order.pairs_adjacent or order.static_shapes else order.size
    first = step // steps * of_epoch + step % steps * size
    return first + tf.range(tf.cast(count, tf.int64))


def places_before(order: BatchOrder, step: tf.Tensor, *, places: Places) -> Places:
    """For each place of a step the one that came `batch_size` places before it; in step 0 places of that step itself.

    Each place comes again exactly once: beside whole batches that of the last batch in the same row, and where a batch
    is smaller, its images and those behind come again in the next one.

    Example: the third batch of 5 images in batches of 2, and the one after it:
        >>> from cskd_tf.data.batches.pairing import ClassBuckets
        >>> order = BatchOrder(ClassBuckets(np.array([0, 1, 0, 1, 0]), num_classes=2), batch_size=2, seed=0)
        >>> steps = [tf.constant(step, tf.int64) for step in range(4)]
        >>> shown = np.concatenate([order.at(step).indices for step in steps])
        >>> before = [places_before(order, step, places=order.at(step)).indices for step in steps]
        >>> np.array_equal(before[2], shown[2:3]), np.array_equal(before[3], shown[3:5])
        (True, True)

    Args:
        order: of the batches.
        step: int64 scalar, counted from 0 through all epochs.
        places: of the step, `order.at(step)`.
    """
    # Only the last batch of an epoch is smaller, so that the last two have as many places as a whole one.
    second_last, last = (order.at(tf.maximum(step - back, 0)) for back in (2, 1))
    count = tf.shape(places.indices)[0]

    def rows(older: tf.Tensor, newer: tf.Tensor) -> tf.Tensor:
        earlier = tf.concat([older, newer], axis=0)[-order.batch_size :]
        return tf.ensure_shape(earlier[:count], places.indices.shape)

    return Places(rows(second_last.indices, last.indices), rows(second_last.draws, last.draws), last.counter)
