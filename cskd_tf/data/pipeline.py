"""From indices to batches: `({"image": x, "partner": x', ...}, label)` in tf.data."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from cskd_tf.data.augment import Transform
from cskd_tf.data.pairing import ClassBuckets, image_seeds, key, shuffled
from cskd_tf.data.sources import ArraySource, Source

# Streams of randomness. They are part of what a seed means: renumbering them changes every run.
_ORDER, _PARTNER, _MIX = 0, 1, 2
_VIEW_STREAMS = {"image": 10, "partner": 11, "second_view": 12, "clean": 13}
EXTRAS = ("index",)


def paired_dataset(
    images,
    labels=None,
    *,
    batch_size: int,
    seed: int,
    epochs: int = 1,
    first_step: int = 0,
    augment: Transform | None = None,
    clean: Transform | None = None,
    views: Sequence[str] = ("partner",),
    extras: Sequence[str] = (),
    pairs_adjacent: bool = False,
    mix: Sequence[Callable] = (),
    drop_remainder: bool = False,
    num_replicas: int = 1,
) -> tf.data.Dataset:
    """Training batches in which every image comes beside another image of its class.

    An epoch shows each image once, in an order and with partners that are a function of (seed, epoch) alone, in
    `ceil(N / batch_size)` batches, the last one as large as what is left. The data set holds `epochs` different
    epochs; pass it to `SelfDistiller.fit(data, epochs=epochs)`, which reads it once, through all of them.

    Example: 10 images, batch size 4 and 2 epochs are 6 batches of 4, 4, 2, 4, 4, 2 images.

    Args:
        images: array `[N, H, W, C]`, or a source (`ImageFolder`, ...) that brings its labels.
        labels: int `[N]`, every class of `range(max + 1)` at least once; None with a source.
        batch_size: images a batch over all replicas, partners not counted, from 1 to N.
        seed: integer; all randomness follows from it.
        epochs: how many epochs the data set spans.
        first_step: how many batches to leave out at the start, to resume a run; nothing before it is read.
        augment: transform of every view but `"clean"` (see `cskd_tf.data.augment`); without one, pixels pass unchanged
            as float32.
        clean: transform of the view `"clean"`.
        views: of `"partner"`, `"second_view"` (the image with another augmentation), `"clean"`.
        extras: of `"index"` (int64 `[B]`).
        pairs_adjacent: batches hold image, partner, image, partner; the partners count as images, so that an epoch
            still shows N images, half of them as partners.
        mix: functions `(batch, targets, seed=) -> (batch, targets)` on whole batches, targets float32 `[B, C]`, which
            then stand under `"targets"` in the batch.
        drop_remainder: leave out a smaller last batch, where shapes have to be static; logged.
        num_replicas: among which each batch will be split, for the checks.

    Returns:
        A `tf.data.Dataset` of known cardinality, with the attribute `steps_per_epoch`.

    Raises:
        ValueError: a batch size, view or extra that does not fit, or data that cannot be used (see `ArraySource`).
    """
    source = _source(images, labels)
    size = len(source.labels)
    check_batch_size(batch_size, size=size)
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise ValueError(f"Expected seed to be an integer. Received: {seed=}")
    steps = epochs * count_steps(size, batch_size=batch_size, drop_remainder=drop_remainder)
    if epochs < 1 or not 0 <= first_step <= steps:
        raise ValueError(
            f"Expected epochs of at least 1 and first_step from 0 to {steps}. Received: {epochs=}, {first_step=}"
        )
    _check_names("views", views, known=[view for view in _VIEW_STREAMS if view != "image"])
    _check_names("extras", extras, known=EXTRAS)
    if "clean" in views and clean is None:
        raise ValueError("Expected a transform for the view 'clean'. Received: clean=None")
    if pairs_adjacent and batch_size % (2 * num_replicas):
        raise ValueError(
            f"Expected a batch size that {num_replicas} replicas can split into whole pairs. Received: {batch_size=}"
        )
    num_classes = len(source.class_names)
    if pairs_adjacent or "partner" in views:
        _report_single_images(source)

    # With adjacent pairs a step has half as many anchors, and the order runs on over two epochs.
    anchors = batch_size // 2 if pairs_adjacent else batch_size
    steps_per_epoch = count_steps(size, batch_size=batch_size, drop_remainder=drop_remainder)
    if drop_remainder and size % batch_size:
        logging.info("The last %d images of each epoch are left out: static shapes", size % batch_size)
    last = size - (steps_per_epoch - 1) * batch_size
    if not pairs_adjacent and last < num_replicas:
        raise ValueError(
            f"Expected the last batch of an epoch to have an image for each of {num_replicas} replicas; choose another "
            f"batch size. Received: batch_size={batch_size}, which leaves {last} of {size} images"
        )
    buckets = ClassBuckets(source.labels, num_classes=num_classes)
    static = drop_remainder or pairs_adjacent or size % batch_size == 0

    def batch_at(step):
        epoch, number = step // steps_per_epoch, step % steps_per_epoch
        if pairs_adjacent:
            positions = step * anchors + tf.range(anchors, dtype=tf.int64)
            passes, positions = positions // size, positions % size
            first, second = (
                shuffled(positions, size=size, order_key=key(seed, _ORDER, passes[end])) for end in (0, -1)
            )
            anchor = tf.where(passes == passes[0], first, second)
            partner = buckets.partners(anchor, draw_key=key(seed, _PARTNER, step))
            indices = tf.reshape(tf.stack([anchor, partner], axis=1), [2 * anchors])
        else:
            start = number * batch_size
            stop = tf.minimum(start + batch_size, size)
            indices = shuffled(tf.range(start, stop), size=size, order_key=key(seed, _ORDER, epoch))
        if static:
            indices = tf.ensure_shape(indices, [batch_size])

        batch = {}
        for view in ("image", *views):
            shown = buckets.partners(indices, draw_key=key(seed, _PARTNER, epoch)) if view == "partner" else indices
            # In adjacent pairs one image can stand twice in a batch, and must be augmented anew.
            draws = tf.range(batch_size, dtype=tf.int64) if pairs_adjacent else indices
            counter = step if pairs_adjacent else epoch
            seeds = image_seeds(draws, draw_key=key(seed, _VIEW_STREAMS[view], counter))
            batch[view] = _load(source, shown, seeds, clean if view == "clean" else augment)
        if "index" in extras:
            batch["index"] = indices
        label = tf.gather(buckets.labels, indices)
        if mix:
            targets = tf.one_hot(label, num_classes)
            for method_number, function in enumerate(mix):
                mix_seed = tf.bitcast(key(seed, _MIX, step, method_number)[:2], tf.int32)
                batch, targets = function(batch, targets, seed=mix_seed)
            batch["targets"] = targets
        return batch, label

    steps = tf.data.Dataset.range(first_step, epochs * steps_per_epoch)
    dataset = steps.map(batch_at, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)
    dataset.steps_per_epoch = steps_per_epoch
    return dataset


def evaluation_dataset(source: Source, *, batch_size: int, transform: Transform | None = None) -> tf.data.Dataset:
    """`(images, labels)` of every image once, in the order of the source, the last batch as large as what is left."""
    size = len(source.labels)
    batch_size = min(batch_size, size)
    labels = tf.constant(source.labels)

    def batch_at(step):
        indices = tf.range(step * batch_size, tf.minimum((step + 1) * batch_size, size))
        seeds = tf.zeros([tf.shape(indices)[0], 2], tf.int32)
        return _load(source, indices, seeds, transform), tf.gather(labels, indices)

    steps = tf.data.Dataset.range(-(-size // batch_size))
    return steps.map(batch_at, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)


def _load(source: Source, indices: tf.Tensor, seeds: tf.Tensor, transform: Transform | None) -> tf.Tensor:
    """float32 images of one view: a whole batch at once where all have one size, else image by image."""

    def transformed(indices, seeds):
        images = tf.cast(source.load(indices), tf.float32)
        images = tf.ensure_shape(images, [None, *source.image_shape])
        return images if transform is None else transform(images, seeds)

    if source.image_shape[0] is not None and source.image_shape[1] is not None:
        return transformed(indices, seeds)
    return tf.map_fn(
        lambda pair: transformed(pair[0][None], pair[1][None])[0], (indices, seeds), fn_output_signature=tf.float32
    )


def _source(images, labels) -> Source:
    if hasattr(images, "load"):
        if labels is not None:
            raise ValueError("Expected no labels beside a source, which brings its own.")
        return images
    if labels is None:
        raise ValueError("Expected labels beside an array of images. Received: labels=None")
    return ArraySource(images, labels)


def count_steps(size: int, *, batch_size: int, drop_remainder: bool = False) -> int:
    """Batches an epoch. Example: 10 images in batches of 4 are 3, or 2 without the remainder."""
    return size // batch_size if drop_remainder else -(-size // batch_size)


def check_batch_size(batch_size: int, *, size: int) -> None:
    """Raises ValueError unless `batch_size` is an integer from 1 to `size`."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or not 1 <= batch_size <= size:
        raise ValueError(f"Expected batch_size from 1 to {size}, the number of images. Received: {batch_size=}")


def _check_names(what: str, names: Sequence[str], *, known: Sequence[str]) -> None:
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"Unknown {what}; expected some of {list(known)}. Received: {unknown}")


def _report_single_images(source: Source) -> None:
    single = np.flatnonzero(np.bincount(source.labels) == 1)
    if len(single):
        names = [source.class_names[label] for label in single[:10]]
        logging.warning("%d classes have a single image, which is paired with itself: %s", len(single), names)
