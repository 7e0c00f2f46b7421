"""From indices to batches: `({"image": x, "partner": x', ...}, label)` in tf.data."""

import re
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from cskd_tf.data.batches.dataset import PairedDataset, mapped
from cskd_tf.data.batches.pairing import (
    FURTHER_PARTNERS,
    MIX,
    VIEWS,
    BatchOrder,
    ClassBuckets,
    count_steps,
    image_seeds,
    key,
)
from cskd_tf.data.images.decode import decode_batch, transform_batch
from cskd_tf.data.images.transforms import Transform
from cskd_tf.data.sources.arrays import as_source
from cskd_tf.data.sources.base import EncodedSource, Source
from cskd_tf.errors import UserError

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
    exclude_self: bool = False,
    balanced: bool = False,
    shards: int = 1,
    mix: Sequence[Callable] = (),
    drop_remainder: bool = False,
    num_replicas: int = 1,
    worker: int = 0,
    num_workers: int = 1,
) -> PairedDataset:
    """Training batches in which every image comes beside another image of its class.

    An epoch shows each image once, in an order and with partners that are a function of (seed, epoch) alone, in
    `ceil(N / batch_size)` batches, the last one as large as what is left. `SelfDistiller.fit(data, epochs=E)` opens it
    at the step that the model is at, so that no epoch comes twice, whatever loop `fit` is called in.

    Example: 10 images, batch size 4 and 2 epochs are 6 batches of 4, 4, 2, 4, 4, 2 images.

    Args:
        images: array `[N, H, W, C]`, or a source (`ImageFolder`, ...) that brings its labels.
        labels: int `[N]`, every class of `range(max + 1)` at least once; None with a source.
        batch_size: images a batch over all replicas, partners not counted, from 1 to N.
        seed: integer; all randomness follows from it.
        epochs: how many epochs there are to read by hand; `fit` reads as many as it trains.
        first_step: how many batches to leave out at the start; nothing before it is read, and `fit` never begins
            before it.
        augment: transform of every view but `"clean"` (see `cskd_tf.data.images.transforms`); without one, pixels pass
            unchanged as float32.
        clean: transform of the view `"clean"`.
        views: of `"partner"`, `"partner_2"` and so on (further partners, drawn independently), `"second_view"` (the
            image with another augmentation), `"clean"`.
        extras: of `"index"` (int64 `[B]`).
        pairs_adjacent: batches hold image, partner, image, partner; the partners count as images, so that an epoch
            still shows N images, half of them as partners.
        exclude_self: never pair an image with itself, unless it is alone in its class.
        balanced: show all classes equally often, whatever their sizes; an epoch still has N places, and the images of
            a class are drawn with replacement.
        shards: image i belongs to shard `i % shards`; the batch has the same share of each, one after the other, and
            partners come from the image's own shard, where a small class may have one image alone. With as many
            shards as replicas, no partner leaves its replica.
        mix: functions `(batch, targets, seed=) -> (batch, targets)` on whole batches, targets float32 `[B, C]`, which
            then stand under `"targets"` in the batch; C are the network's classes in `fit`, by hand the data's.
        drop_remainder: leave out a smaller last batch, where shapes have to be static; logged.
        num_replicas: among which each batch will be split, for the checks.
        worker: which part of every batch to make, where several workers each make theirs (`InputContext`'s
            `input_pipeline_id`). Together the parts are the batch that one worker makes alone (but for the last bits of
            pixels, where files of different sizes are resampled together).
        num_workers: how many workers there are.

    Returns:
        A `tf.data.Dataset` that knows its epochs (`PairedDataset`).

    Raises:
        ValueError: a batch size, view or extra that does not fit, or data that cannot be used (see `ArraySource`).
    """
    source = as_source(images, labels)
    size = len(source.labels)
    check_batches(
        size,
        batch_size=batch_size,
        shards=shards,
        balanced=balanced,
        pairs_adjacent=pairs_adjacent,
        drop_remainder=drop_remainder,
        num_replicas=max(num_replicas, num_workers),
    )
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise UserError(f"Expected seed to be an integer. Received: {seed=}")
    if not 0 <= worker < num_workers:
        raise UserError(f"Expected worker from 0 to {num_workers - 1}. Received: {worker=}")
    partner_views = {view: number for view in views if (number := _partner_number(view))}
    known = [view for view in VIEWS if view != "image"]
    _check_names("views", [view for view in views if view not in partner_views], known=known)
    _check_names("extras", extras, known=EXTRAS)
    if "clean" in views and clean is None:
        raise UserError("Expected a transform for the view 'clean'. Received: clean=None")
    order = BatchOrder(
        ClassBuckets(source.labels, num_classes=len(source.class_names), shards=shards),
        batch_size=batch_size,
        seed=seed,
        drop_remainder=drop_remainder,
        balanced=balanced,
        pairs_adjacent=pairs_adjacent,
        exclude_self=exclude_self,
    )
    steps = epochs * order.steps_per_epoch
    if epochs < 1 or not 0 <= first_step <= steps:
        raise UserError(
            f"Expected epochs of at least 1 and first_step from 0 to {steps}. Received: {epochs=}, {first_step=}"
        )
    if drop_remainder and size % batch_size:
        left_out = size - order.steps_per_epoch * batch_size
        logging.info("The last %d images of each epoch are left out: static shapes", left_out)
    if pairs_adjacent or partner_views:
        _report_single_images(source)
    static = drop_remainder or pairs_adjacent or size % batch_size == 0
    # Mixing needs the whole batch; else a worker loads its own part alone.
    whole = 1 if mix else num_workers

    def batch_at(step, num_classes):
        places = order.at(step)
        if static:
            places = places._replace(indices=tf.ensure_shape(places.indices, [batch_size]))
        partners = {view: order.partners(places, number=number - 1) for view, number in partner_views.items()}
        batch = {}
        for view in ("image", *views):
            shown = _part(partners.get(view, places.indices), worker, whole)
            stream = VIEWS.get(view) or FURTHER_PARTNERS + partner_views[view]
            seeds = image_seeds(_part(places.draws, worker, whole), draw_key=key(seed, stream, places.counter))
            batch[view] = _load(source, shown, seeds, clean if view == "clean" else augment)
        indices = _part(places.indices, worker, whole)
        if "index" in extras:
            batch["index"] = indices
        label = tf.gather(order.buckets.labels, indices)
        if mix:
            targets = tf.one_hot(label, num_classes)
            for method_number, function in enumerate(mix):
                mix_seed = tf.bitcast(key(seed, MIX, step, method_number)[:2], tf.int32)
                batch, targets = function(batch, targets, seed=mix_seed)
            batch["targets"] = targets
            batch, label = tf.nest.map_structure(lambda rows: _part(rows, worker, num_workers), (batch, label))
        return batch, label

    return PairedDataset(
        batch_at,
        first_step=first_step,
        epochs=epochs,
        steps_per_epoch=order.steps_per_epoch,
        num_examples=size,
        num_classes=len(source.class_names),
        pairs_adjacent=pairs_adjacent,
    )


def _partner_number(view: str) -> int:
    """1 for `partner`, 2 for `partner_2` and so on; 0 for other views."""
    match = re.fullmatch(r"partner(?:_([2-9]|[1-9][0-9]+))?", view)
    return int(match[1] or 1) if match else 0


def _part(rows: tf.Tensor, part: int, parts: int) -> tf.Tensor:
    """One of `parts` even parts, the first ones larger by one where they cannot be even, as tf.distribute splits."""
    if parts == 1:
        return rows
    static = rows.shape[0]
    count = tf.shape(rows)[0] if static is None else static
    share, rest = count // parts, count % parts
    start = part * share + (tf.minimum(part, rest) if static is None else min(part, rest))
    return rows[start : start + share + (tf.cast(part < rest, tf.int32) if static is None else int(part < rest))]


def evaluation_dataset(source: Source, *, batch_size: int, transform: Transform | None = None) -> tf.data.Dataset:
    """`(images, labels)` of every image once, in the order of the source, the last batch as large as what is left."""
    if not isinstance(source, Source):
        raise UserError(f"Expected a cskd_tf.data.Source, such as ImageFolder. Received: {type(source).__name__}")
    size = len(source.labels)
    batch_size = min(batch_size, size)
    labels = tf.constant(source.labels)

    def batch_at(step):
        indices = tf.range(step * batch_size, tf.minimum((step + 1) * batch_size, size))
        seeds = tf.zeros([tf.shape(indices)[0], 2], tf.int32)
        return _load(source, indices, seeds, transform), tf.gather(labels, indices)

    return mapped(tf.data.Dataset.range(-(-size // batch_size)), batch_at)


def _load(source: Source, indices: tf.Tensor, seeds: tf.Tensor, transform: Transform | None) -> tf.Tensor:
    """float32 images of one view."""
    if isinstance(source, EncodedSource):
        return decode_batch(source.read(indices), seeds, transform=transform, channels=source.image_shape[2])
    images = tf.ensure_shape(source.load(indices), [None, *source.image_shape])
    return transform_batch(images, seeds, transform=transform)


def check_batches(
    size: int,
    *,
    batch_size: int,
    shards: int,
    balanced: bool,
    pairs_adjacent: bool,
    drop_remainder: bool,
    num_replicas: int,
) -> None:
    """Raises ValueError unless so many images can be dealt out in such batches; the arguments of `paired_dataset`."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or not 1 <= batch_size <= size:
        raise UserError(f"Expected batch_size from 1 to {size}, the number of images. Received: {batch_size=}")
    if shards < 1 or batch_size % shards or [shards > 1, balanced, pairs_adjacent].count(True) > 1:
        raise UserError(
            "Expected shards that divide the batch size, and only one of shards (data.replica_local), balanced classes "
            f"and adjacent pairs. Received: {shards=}, {batch_size=}, {balanced=}, {pairs_adjacent=}"
        )
    if pairs_adjacent and batch_size % (2 * num_replicas):
        raise UserError(
            f"Expected a multiple of {2 * num_replicas} as batch size, for whole pairs on each of {num_replicas} "
            f"replica(s). Received: {batch_size=}"
        )
    steps = count_steps(size, batch_size=batch_size, shards=shards, drop_remainder=drop_remainder)
    last = size - (steps - 1) * batch_size
    if not pairs_adjacent and last < num_replicas:
        raise UserError(
            f"Expected the last batch of an epoch to have an image for each of {num_replicas} replicas; choose another "
            f"batch size. Received: batch_size={batch_size}, which leaves {last} of {size} images"
        )


def _check_names(what: str, names: Sequence[str], *, known: Sequence[str]) -> None:
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"Unknown {what}; expected some of {list(known)}. Received: {unknown}")


def _report_single_images(source: Source) -> None:
    single = np.flatnonzero(np.bincount(source.labels) == 1)
    if len(single):
        names = [source.class_names[label] for label in single[:10]]
        logging.warning("%d classes have a single image, which is paired with itself: %s", len(single), names)
