"""Which image comes when, beside which partner: decided on indices, stateless in (seed, epoch, index)."""

import dataclasses
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from cskd_tf.checks import check_seed
from cskd_tf.data.batches.views import Distribution

# Streams of randomness, beside those of the views' augmentation (`views.stream`). They are part of what a seed means:
# renumbering them changes every run.
ORDER, PARTNER, MIX, BALANCE = range(4)
# TensorFlow's default of 4 rounds leaves neighbouring indices correlated (0.34 where 16 rounds leave 0.001).
_ROUNDS = 16
_LARGEST = 2**31 - 2


def key(seed: int, *counters: tf.Tensor | int) -> tf.Tensor:
    """A well-mixed uint32 `[3]` key from a seed and integer counters, such as a stream of randomness and the epoch.

    `index_shuffle` under consecutive keys gives orders that resemble each other, so keys are drawn, not counted.
    """
    # By TensorFlow's choice of generator, which is Philox on CPUs, where tf.data runs, and on GPUs, but not under XLA.
    # Asked for Philox by name it makes forty operations of what is one, a quarter of the time until the first step.
    mixed = tf.stack([tf.cast(seed, tf.int64), tf.constant(0, tf.int64)])
    for counter in counters:
        mixed = tf.random.experimental.stateless_fold_in(mixed, tf.cast(counter, tf.int64))
    return tf.random.stateless_uniform([3], mixed, minval=None, maxval=None, dtype=tf.uint32)


def shuffled(positions: tf.Tensor, *, size: tf.Tensor | int, order_key: tf.Tensor) -> tf.Tensor:
    """The images at `positions` of a shuffled order of `size` images: a permutation that is never stored.

    Example:
        >>> sorted(shuffled(tf.range(5, dtype=tf.int64), size=5, order_key=key(0, 7)).numpy().tolist())
        [0, 1, 2, 3, 4]

    Args:
        positions: int64 `[n]`, from 0 to `size - 1`.
        size: number of images; or int64 `[n]`, each position's own, for several orders at once.
        order_key: from `key`; or `[n, 3]`, each position's own.

    Returns:
        int64 `[n]`.
    """
    last = tf.cast(size, tf.int64) - 1
    return tf.raw_ops.RandomIndexShuffle(index=positions, seed=order_key, max_index=last, rounds=_ROUNDS)


def uniform(indices: tf.Tensor, *, draw_key: tf.Tensor) -> tf.Tensor:
    """One number for each index, a function of the index and the key alone.

    Args:
        indices: int64 `[n]`.
        draw_key: from `key`.

    Returns:
        float64 `[n]` from [0, 1).
    """
    draws = tf.raw_ops.RandomIndexShuffle(index=indices, seed=draw_key, max_index=np.int64(_LARGEST), rounds=_ROUNDS)
    return tf.cast(draws, tf.float64) / (_LARGEST + 1)


def image_seeds(indices: tf.Tensor, *, draw_key: tf.Tensor) -> tf.Tensor:
    """A seed for each index, for `tf.random.stateless_*` and for transforms.

    Args:
        indices: int64 `[n]`.
        draw_key: from `key`.

    Returns:
        int32 `[n, 2]`.
    """
    columns = [
        tf.raw_ops.RandomIndexShuffle(
            index=indices + column * tf.constant(2**30, tf.int64),
            seed=draw_key,
            max_index=np.int64(_LARGEST),
            rounds=_ROUNDS,
        )
        for column in (0, 1)
    ]
    return tf.cast(tf.stack(columns, axis=-1), tf.int32)


@dataclasses.dataclass(frozen=True)
class Pairing:
    """Which images come together.

    Attributes:
        balanced: show all classes equally often, whatever their sizes; an epoch still has N places, and the images of
            a class are drawn with replacement.
        exclude_self: never pair an image with itself, unless it is alone in its class.
        replica_local: take partners from what the same replica sees. Of R replicas, image i belongs to shard `i % R`;
            each batch has as many images of each shard, one shard after the other, and partners come from the image's
            own shard, in which a small class may have a single image.
    """

    balanced: bool = False
    exclude_self: bool = False
    replica_local: bool = False

    def shards(self, distribution: Distribution) -> int:
        """Among how many shards images and their partners are dealt out.

        Example:
            >>> Pairing(replica_local=True).shards(Distribution(num_replicas=4)), Pairing().shards(Distribution())
            (4, 1)
        """
        return distribution.num_replicas if self.replica_local else 1


class ClassBuckets:
    """The images sorted by class, so that a partner is one look-up whatever the size of the data: 8 bytes per image.

    Example:
        Of labels 1, 0, 1, image 2 with the draw .7 gets partner `order[1 + floor(.7 * 2)] = 2`, itself, which the paper
        does not rule out.

        >>> buckets = ClassBuckets(np.array([1, 0, 1]), num_classes=2)
        >>> [tensor.numpy().tolist() for tensor in (buckets.order, buckets.offsets, buckets.counts)]
        [[1, 0, 2], [0, 1], [1, 2]]
        >>> buckets.members(tf.constant([1], tf.int64), tf.constant([0.7], tf.float64)).numpy().tolist()
        [2]

    Args:
        labels: int `[N]`, from 0 to `num_classes - 1`.
        num_classes: C.
        shards: image i belongs to shard `i % shards`, and gets partners of its own shard.
    """

    def __init__(self, labels: np.ndarray, *, num_classes: int, shards: int = 1):
        buckets = labels + num_classes * (np.arange(len(labels)) % shards) if shards > 1 else labels
        counts = np.bincount(buckets, minlength=num_classes * shards)
        self.num_classes, self.shards = num_classes, shards
        self.counts = tf.constant(counts, tf.int64)
        self.offsets = tf.constant(np.concatenate([[0], np.cumsum(counts)[:-1]]), tf.int64)
        self.order = tf.constant(np.argsort(buckets, kind="stable").astype(np.int32))
        self.labels = tf.constant(labels, tf.int32)

    def members(self, buckets: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
        """One image of each bucket.

        Args:
            buckets: int64 `[n]`: the class, plus C times the shard.
            uniforms: float64 `[n]` from [0, 1), which say where in its bucket.

        Returns:
            int64 `[n]`.
        """
        ranks = tf.cast(uniforms * tf.cast(tf.gather(self.counts, buckets), tf.float64), tf.int64)
        return tf.cast(tf.gather(self.order, tf.gather(self.offsets, buckets) + ranks), tf.int64)

    def partners(
        self, indices: tf.Tensor, *, draw_key: tf.Tensor, draws: tf.Tensor | None = None, exclude_self: bool = False
    ) -> tf.Tensor:
        """For each image a partner, uniform over the images of its class.

        Args:
            indices: int64 `[n]`.
            draw_key: from `key`.
            draws: int64 `[n]`, what tells the draws of one key apart; the indices where left out.
            exclude_self: leave out the image itself, unless it is the only one.

        Returns:
            int64 `[n]`.
        """
        buckets = tf.cast(tf.gather(self.labels, indices), tf.int64)
        buckets += self.num_classes * (indices % self.shards)
        numbers = uniform(indices if draws is None else draws, draw_key=draw_key)
        if not exclude_self:
            return self.members(buckets, numbers)
        # Uniform over all but the last; whoever draws itself gets the last, which nobody else can draw.
        counts, offsets = tf.gather(self.counts, buckets), tf.gather(self.offsets, buckets)
        ranks = tf.cast(numbers * tf.cast(tf.maximum(counts - 1, 1), tf.float64), tf.int64)
        drawn, last = (tf.cast(tf.gather(self.order, offsets + rank), tf.int64) for rank in (ranks, counts - 1))
        return tf.where(drawn == indices, last, drawn)


class Places(NamedTuple):
    """One batch, as indices.

    Attributes:
        indices: int64 `[b]`, the images.
        draws: int64 `[b]`, what tells the random draws of the batch's images apart: the indices, unless an image can be
            in a batch twice.
        counter: int64 scalar, what tells them apart from those of other batches: the epoch or the step.
    """

    indices: tf.Tensor
    draws: tf.Tensor
    counter: tf.Tensor


@dataclasses.dataclass(frozen=True)
class BatchOrder:
    """Which images make up which batch: a function of (seed, epoch, step), for any step, without the ones before it.

    Example:
        >>> order = BatchOrder(ClassBuckets(np.array([0, 1, 0, 1, 0]), num_classes=2), batch_size=2, seed=0)
        >>> [len(order.at(tf.constant(step, tf.int64)).indices) for step in range(order.steps_per_epoch)]
        [2, 2, 1]

    Attributes:
        buckets: the images by class and shard.
        batch_size: images per batch; a multiple of the shards.
        seed: of the order; an integer.
        pairing: which images and partners come together. Where it is balanced, the N places of an epoch are dealt out
            evenly among the classes, and at each place stands an image of its class, drawn with replacement.
        pairs_adjacent: whether a batch is image, partner, image, partner; the partners count as images.
        static_shapes: leave out a smaller last batch.

    Raises:
        UserError: a seed that is no integer of at most 64 bits.
    """

    buckets: ClassBuckets
    batch_size: int
    seed: int
    pairing: Pairing = Pairing()
    pairs_adjacent: bool = False
    static_shapes: bool = False

    def __post_init__(self):
        check_seed(self.seed)

    @property
    def size(self) -> int:
        return len(self.buckets.labels)

    @property
    def steps_per_epoch(self) -> int:
        return _count_steps(self.size, self.batch_size, shards=self.buckets.shards, static_shapes=self.static_shapes)

    def at(self, step: tf.Tensor) -> Places:
        """The batch of a step, int64, counted from 0 through all epochs."""
        places = self._pairs_at(step) if self.pairs_adjacent else self._places_at(step)
        if self.pairs_adjacent or self.static_shapes or self.size % self.batch_size == 0:
            places = places._replace(indices=tf.ensure_shape(places.indices, [self.batch_size]))
        return places

    def _places_at(self, step: tf.Tensor) -> Places:
        """The images of a step, each epoch's order on its own."""
        epoch, number = step // self.steps_per_epoch, step % self.steps_per_epoch
        numbers = self._shuffled(epoch, number)
        if not self.pairing.balanced:
            return Places(numbers, numbers, epoch)
        uniforms = uniform(numbers, draw_key=key(self.seed, BALANCE, epoch))
        return Places(self.buckets.members(numbers % self.buckets.num_classes, uniforms), numbers, epoch)

    def _shuffled(self, epoch: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        """int64 `[b]`: batch `number` of an epoch's shuffled order, as many images of each shard as of the others."""
        shards = self.buckets.shards
        share = self.batch_size // shards
        sizes = [-(-(self.size - shard) // shards) for shard in range(shards)]
        positions = [tf.range(tf.minimum(number * share, n), tf.minimum((number + 1) * share, n)) for n in sizes]
        if shards == 1:
            return shuffled(positions[0], size=self.size, order_key=key(self.seed, ORDER, epoch))
        owners = tf.repeat(tf.range(shards, dtype=tf.int64), [tf.shape(of_shard)[0] for of_shard in positions])
        keys = tf.stack([key(self.seed, ORDER, epoch, shard) for shard in range(shards)])
        within = shuffled(
            tf.concat(positions, axis=0), size=tf.gather(sizes, owners), order_key=tf.gather(keys, owners)
        )
        return within * shards + owners

    def _pairs_at(self, step: tf.Tensor) -> Places:
        """The images of a step and their partners, in turn."""
        # Half of a step's images are anchors, so that one shuffled order of all images lasts for two epochs, and a step
        # may begin in one order and end in the next.
        anchors = self.batch_size // 2
        positions = step * anchors + tf.range(anchors, dtype=tf.int64)
        passes, positions = positions // self.size, positions % self.size
        first, second = (
            shuffled(positions, size=self.size, order_key=key(self.seed, ORDER, passes[end])) for end in (0, -1)
        )
        anchor = tf.where(passes == passes[0], first, second)
        indices = tf.stack([anchor, self.partners(Places(anchor, anchor, step))], axis=1)
        return Places(tf.reshape(indices, [self.batch_size]), tf.range(self.batch_size, dtype=tf.int64), step)

    def partners(self, places: Places, *, number: int = 0) -> tf.Tensor:
        """For each image of a batch a partner, int64 `[b]`; partners of different `number` are drawn independently."""
        draw_key = key(self.seed, PARTNER, places.counter, *([number] if number else []))
        return self.buckets.partners(
            places.indices, draws=places.draws, draw_key=draw_key, exclude_self=self.pairing.exclude_self
        )


def count_steps(
    size: int, *, batch_size: int, pairing: Pairing = Pairing(), distribution: Distribution = Distribution()
) -> int:
    """Batches per epoch.

    Example:
        >>> count_steps(10, batch_size=4), count_steps(10, batch_size=4, distribution=Distribution(static_shapes=True))
        (3, 2)

    Args:
        size: number of images.
        batch_size: images per batch over all replicas.
        pairing: whether the images are dealt out among shards.
        distribution: among how many, and whether a smaller last batch is left out.
    """
    return _count_steps(size, batch_size, shards=pairing.shards(distribution), static_shapes=distribution.static_shapes)


def _count_steps(size: int, batch_size: int, *, shards: int, static_shapes: bool) -> int:
    share = batch_size // shards
    if static_shapes:
        return size // shards // share
    largest_shard = -(-size // shards)
    return -(-largest_shard // share)
