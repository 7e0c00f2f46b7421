"""The data set that knows its epochs, and can be opened at any of them."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from cskd_tf.data.batches.maker import BatchMaker, part_of
from cskd_tf.data.sources.passes import PARALLEL_CALLS, as_it_is
from cskd_tf.errors import UserError

_ENDLESS = 2**62  # steps


class PairedDataset(tf.data.Dataset):
    """What `paired_dataset` returns: a `tf.data.Dataset` that can be opened at any step of any epoch.

    Read by hand, it is the batches from `first_step` to the end of `epochs` epochs, the same whenever it is opened.
    `SelfDistiller.fit` opens it at the step that the model is at, and reads on from there for as many epochs as it
    trains. `map`, `prefetch` and `with_options` return a `PairedDataset`; any other transformation returns a plain
    `tf.data.Dataset`, which knows nothing of epochs.

    Example:
        10 images in batches of 4 are 3 batches per epoch, so that step 7 is the second batch of the third epoch.

        >>> images, labels = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1), [0, 1] * 5
        >>> data = cskd_tf.data.paired_dataset(images, labels, batch_size=4, seed=0, epochs=3)
        >>> by_hand = [numbers.numpy() for _, numbers in data]
        >>> _, opened = next(iter(data.opened_at(lambda: 7)))
        >>> data.steps_per_epoch, len(by_hand), bool((opened == by_hand[7]).numpy().all())
        (3, 9, True)

    Args:
        maker: makes the batch of any step.
        epochs: how many there are to read by hand.
        first_step: where reading by hand begins, counted from 0 through all epochs.
        changes: transformations of the data set of batches, in their order.
        relabelled: whether one of them may have changed the labels.

    Attributes:
        epochs: as given.
        steps_per_epoch: batches per epoch.
        num_examples: images of the training set.
        num_classes: of its labels.
        class_names: of the source; the numbers of the classes where it has no others.
        pairs_adjacent: whether the batch is made of pairs.
        relabelled: as given.

    Raises:
        UserError: no epochs, or a first step beyond them.
    """

    def __init__(
        self,
        maker: BatchMaker,
        *,
        epochs: int,
        first_step: int,
        changes: tuple[Callable[[tf.data.Dataset], tf.data.Dataset], ...] = (),
        relabelled: bool = False,
    ):
        self.steps_per_epoch = maker.order.steps_per_epoch
        self.num_examples, self.num_classes = len(maker.source.labels), len(maker.source.class_names)
        self.class_names = maker.source.class_names
        self.pairs_adjacent = maker.needs.pairs_adjacent
        if isinstance(epochs, bool) or not isinstance(epochs, int | np.integer):
            raise UserError(f"Expected epochs to be an integer. Received: {epochs=}")
        steps = int(epochs) * self.steps_per_epoch
        if steps >= 2**63:
            raise UserError(f"Expected fewer than 2**63 steps. Received: {epochs=} of {self.steps_per_epoch} steps")
        if epochs < 1 or not 0 <= first_step <= steps:
            raise UserError(
                f"Expected epochs of at least 1 and first_step from 0 to {steps}. Received: {epochs=}, {first_step=}"
            )
        self.epochs, self.relabelled = epochs, relabelled
        self._maker, self._first_step, self._changes = maker, first_step, changes
        self._by_hand = self._batches(tf.data.Dataset.range(first_step, steps), num_classes=self.num_classes)
        super().__init__(tf.data.experimental.to_variant(self._by_hand))

    def _inputs(self) -> list[tf.data.Dataset]:  # TensorFlow asks every data set for it
        return [self._by_hand]

    @property
    def element_spec(self) -> tuple:
        return self._by_hand.element_spec

    def opened_at(self, position: Callable[[], int], *, num_classes: int | None = None) -> tf.data.Dataset:
        """Batches without end, from the step that `position` returns when the data set is opened.

        Args:
            position: returns the step; the data begin at `first_step` where that is later. TensorFlow keeps it for
                ever: of an object that should end, it has to be `weakly` the method.
            num_classes: of the network, for the targets that methods mix; the data's where left out.
        """
        first_step = self._first_step  # what follows stays in TensorFlow's default graph, and this set must not

        def start() -> np.int64:
            return np.int64(max(position(), first_step))

        def steps(_):
            first = tf.numpy_function(start, [], tf.int64)
            return tf.data.Dataset.range(tf.ensure_shape(first, []), _ENDLESS)

        return self._batches(tf.data.Dataset.from_tensors(0).flat_map(steps), num_classes=num_classes)

    def shared_by(self, *, worker: int, num_workers: int) -> "PairedDataset":
        """The same data set, of each batch the part that one of several workers makes.

        Args:
            worker: which one, from 0.
            num_workers: how many there are.
        """
        distribution = dataclasses.replace(self._maker.distribution, worker=worker, num_workers=num_workers)
        if distribution == self._maker.distribution:
            return self
        return self._replaced(maker=dataclasses.replace(self._maker, distribution=distribution))

    def map(self, map_func: Callable, *args, **kwargs) -> "PairedDataset":
        return self._changed(lambda dataset: dataset.map(map_func, *args, **kwargs), relabelled=True)

    def prefetch(self, *args, **kwargs) -> "PairedDataset":
        return self._changed(lambda dataset: dataset.prefetch(*args, **kwargs))

    def with_options(self, *args, **kwargs) -> "PairedDataset":
        return self._changed(lambda dataset: dataset.with_options(*args, **kwargs))

    def _changed(self, change: Callable, *, relabelled: bool = False) -> "PairedDataset":
        return self._replaced(changes=(*self._changes, change), relabelled=self.relabelled or relabelled)

    def _replaced(self, **arguments) -> "PairedDataset":
        mine = {"maker": self._maker, "epochs": self.epochs, "first_step": self._first_step, "changes": self._changes}
        return PairedDataset(**{**mine, "relabelled": self.relabelled, **arguments})

    def _batches(self, steps: tf.data.Dataset, *, num_classes: int | None) -> tf.data.Dataset:
        batches = mapped(steps, lambda step: self._maker(step, num_classes or self.num_classes))
        for change in self._changes:
            batches = change(batches)
        return batches


class SharedDataset(tf.data.Dataset):
    """Batches made from the numbers of their steps; `shard` makes those of its share alone.

    Example:
        >>> data = SharedDataset(tf.data.Dataset.range(5), lambda step: 10 * step)
        >>> [int(batch) for batch in data.shard(2, 1)]
        [10, 30]

    Args:
        steps: int64 scalars.
        batch_at: makes the batch of a step.
    """

    def __init__(self, steps: tf.data.Dataset, batch_at: Callable):
        self._steps, self._batch_at = steps, batch_at
        self._batches = mapped(steps, batch_at)
        super().__init__(tf.data.experimental.to_variant(self._batches))

    def _inputs(self) -> list[tf.data.Dataset]:
        return [self._batches]

    @property
    def element_spec(self):
        return self._batches.element_spec

    def shard(self, num_shards: int, index: int, name: str | None = None) -> "SharedDataset":
        return SharedDataset(self._steps.shard(num_shards, index, name), self._batch_at)


def split_in_turn(batches: tf.data.Dataset, *, parts: int) -> tf.data.Dataset:
    """Each batch as several smaller ones, one for each replica of a worker, which tf.distribute takes in turn.

    Example:
        >>> [batch.numpy().tolist() for batch in split_in_turn(tf.data.Dataset.range(5).batch(5), parts=2)]
        [[0, 1, 2], [3, 4]]

    Args:
        batches: of any structure, rows first.
        parts: how many there are to be of each.
    """

    def split(*batch):
        element = batch if len(batch) > 1 else batch[0]
        smaller = [
            tf.nest.map_structure(functools.partial(part_of, part=part, parts=parts), element) for part in range(parts)
        ]
        datasets = map(tf.data.Dataset.from_tensors, smaller)
        return functools.reduce(lambda before, after: before.concatenate(after), datasets)

    return batches if parts == 1 else batches.flat_map(split)


def mapped(steps: tf.data.Dataset, batch_at: Callable) -> tf.data.Dataset:
    """Batches made in parallel, and handed out in order.

    Example:
        >>> [int(batch) for batch in mapped(tf.data.Dataset.range(3), lambda step: 10 * step)]
        [0, 10, 20]

    Args:
        steps: int64 scalars.
        batch_at: makes the batch of a step.
    """
    batch_at = tf.autograph.experimental.do_not_convert(batch_at)  # AutoGraph would read all our code, for seconds
    batches = steps.map(batch_at, num_parallel_calls=PARALLEL_CALLS, deterministic=True)
    return as_it_is(batches.prefetch(2))
