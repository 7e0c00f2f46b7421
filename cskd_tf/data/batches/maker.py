"""Makes one batch from the number of its step."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from cskd_tf.data.batches import views
from cskd_tf.data.batches.earlier import places_before, positions
from cskd_tf.data.batches.loading import load_images
from cskd_tf.data.batches.pairing import MIX, BatchOrder, Places, image_seeds, key
from cskd_tf.data.batches.views import Distribution, Mixer, Needs
from cskd_tf.data.images.transforms import Transform
from cskd_tf.data.sources.base import Source
from cskd_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class BatchMaker:
    """Makes the batch of any step, inside the tf.data graph.

    Attributes:
        source: of images and labels.
        order: which images make up which batch.
        needs: what a batch has to hold.
        distribution: which part of every batch to make.
        augment: transform of every view but `"clean"`.
        clean: transform of the view `"clean"`.
        sample_weight: of each image of the source, float32 `[N]`; None: without.

    Raises:
        UserError: the view `"clean"` without its transform.
    """

    source: Source
    order: BatchOrder
    needs: Needs
    distribution: Distribution
    augment: Transform | None = None
    clean: Transform | None = None
    sample_weight: np.ndarray | None = None

    def __post_init__(self):
        if views.CLEAN in self.needs.views and self.clean is None:
            raise UserError("Expected a transform for the view 'clean'. Received: clean=None")

    def __call__(self, step: tf.Tensor, num_classes: int) -> tuple[dict[str, tf.Tensor], *tuple[tf.Tensor, ...]]:
        """The batch of a step, its labels, and its weights, where images have some.

        Args:
            step: int64 scalar, counted from 0 through all epochs.
            num_classes: of the targets that methods mix.

        Returns:
            Views float32 `[b, H, W, C]` and extras by name, int32 labels `[b]`, and float32 weights `[b]`.
        """
        places = self.order.at(step)
        rows = self._rows_mixed_here(step, tf.shape(places.indices)[0])
        batch = {}
        for view in (views.IMAGE, *self.needs.views):
            shown = places_before(self.order, step, places=places) if view == views.PREVIOUS else places
            batch[view] = self._images(view, shown, rows=rows)
        position = positions(self.order, step, count=tf.shape(places.indices)[0])
        position = tf.ensure_shape(position, places.indices.shape)
        extras = {
            views.INDEX: places.indices,
            views.POSITION: position,
            views.PREVIOUS_POSITION: position - self.order.batch_size,
        }
        batch |= {name: self._loaded_part(extras[name]) for name in self.needs.extras}
        indices = self._loaded_part(places.indices)
        labels = tf.gather(self.order.buckets.labels, indices)
        weights = None if self.sample_weight is None else tf.gather(self.sample_weight, indices)
        if self.needs.mixing:
            mixing, seed = self.needs.mixing, self.order.seed
            batch, weights = mixed(
                batch, labels, mixing, weights=weights, seed=seed, step=step, num_classes=num_classes
            )
        made = (batch, labels) if weights is None else (batch, labels, weights)
        return tf.nest.map_structure(self._own_part, made) if self.needs.mixing else made

    def _rows_mixed_here(self, step: tf.Tensor, count: tf.Tensor) -> tf.Tensor | None:
        """int64 `[n]`, the rows of a mixed batch that are loaded here: the worker's, and what goes into them."""
        if not self.needs.mixing or self.distribution.num_workers == 1:
            return None
        own = self._own_part(tf.range(count))
        needed = tf.tensor_scatter_nd_update(tf.fill([count], False), own[:, None], tf.ones_like(own, tf.bool))
        for number, mixer in reversed(list(enumerate(self.needs.mixing))):
            others = mixer.others(count, seed=_mix_seed(self.order.seed, step, number))
            taken_in = tf.boolean_mask(others, needed)
            needed = tf.tensor_scatter_nd_update(needed, taken_in[:, None], tf.ones_like(taken_in, tf.bool))
        return tf.where(needed)[:, 0]

    def _images(self, view: str, places: Places, *, rows: tf.Tensor | None) -> tf.Tensor:
        """float32 images of one view; only `rows` of them where these are given, the others 0."""
        number = views.partner_number(view)
        indices = self.order.partners(places, number=number - 1) if number else places.indices
        draw_key = key(self.order.seed, views.stream(view), places.counter)
        loaded = self._loaded_part if rows is None else functools.partial(tf.gather, indices=rows)
        seeds = image_seeds(loaded(places.draws), draw_key=draw_key)
        transform = self.clean if view == views.CLEAN else self.augment
        images = load_images(self.source, loaded(indices), seeds, transform=transform)
        if rows is None:
            return images
        shape = tf.concat([tf.shape(indices), tf.shape(images)[1:]], axis=0)
        whole = tf.scatter_nd(rows[:, None], images, tf.cast(shape, tf.int64))
        return tf.ensure_shape(whole, [*indices.shape, *images.shape[1:]])

    def _own_part(self, rows: tf.Tensor) -> tf.Tensor:
        """The worker's rows of a whole batch."""
        return part_of(rows, self.distribution.worker, self.distribution.num_workers)

    def _loaded_part(self, rows: tf.Tensor) -> tf.Tensor:
        """The rows of a batch that are made here: all where they are mixed, which needs the whole batch."""
        return rows if self.needs.mixing else self._own_part(rows)


def mixed(
    batch: dict[str, tf.Tensor],
    labels: tf.Tensor,
    mixing: Sequence[Mixer],
    *,
    weights: tf.Tensor | None = None,
    seed: int,
    step: tf.Tensor,
    num_classes: int,
) -> tuple[dict[str, tf.Tensor], tf.Tensor | None]:
    """The batch after all methods that mix, with their targets, float32 `[B, C]`, and its weights.

    Of images i and j, mixed by the share l, the loss is `l w_i CE(y_i) + (1 - l) w_j CE(y_j)`. That is a weight,
    `l w_i + (1 - l) w_j`, times the cross-entropy of targets in proportion to `l w_i` and `(1 - l) w_j`: what mixing
    makes of weights times targets.

    Args:
        batch: views of all images of a step.
        labels: int `[B]`.
        mixing: as `Needs` has it.
        weights: float32 `[B]`; None: without.
        seed: that all randomness follows from.
        step: int64 scalar.
        num_classes: C.
    """
    labelled = tf.one_hot(labels, num_classes)
    targets = labelled if weights is None else labelled * weights[:, None]
    for number, mixer in enumerate(mixing):
        batch, targets = mixer.mix(batch, targets, seed=_mix_seed(seed, step, number))
    if weights is not None:
        weights = tf.reduce_sum(targets, axis=-1)
        shares = tf.math.divide_no_nan(targets, weights[:, None])
        targets = tf.where(weights[:, None] > 0, shares, labelled)  # which weigh nothing
    return {**batch, "targets": targets}, weights


def _mix_seed(seed: int, step: tf.Tensor, number: int) -> tf.Tensor:
    """int32 `[2]`, of one of several methods that mix, in a step."""
    return tf.bitcast(key(seed, MIX, step, number)[:2], tf.int32)


def part_of(rows: tf.Tensor, part: int, parts: int) -> tf.Tensor:
    """One of `parts` even parts, the first ones larger by one where they cannot be even.

    Example:
        >>> [part_of(tf.range(5), part, 2).numpy().tolist() for part in range(2)]
        [[0, 1, 2], [3, 4]]

    Args:
        rows: `[b, ...]`.
        part: which one, from 0.
        parts: how many there are.
    """
    if parts == 1:
        return rows
    static = rows.shape[0]
    count = tf.shape(rows)[0] if static is None else static
    share, rest = count // parts, count % parts
    start = part * share + (tf.minimum(part, rest) if static is None else min(part, rest))
    return rows[start : start + share + (tf.cast(part < rest, tf.int32) if static is None else int(part < rest))]
