"""The data set that knows its epochs, and can be opened at any of them."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from cskd_tf.data.sources.passes import without_graph_rewriting

_ENDLESS = 2**62  # steps


class PairedDataset(tf.data.Dataset):
    """What `paired_dataset` returns: a `tf.data.Dataset` that can be opened at any step of any epoch.

    Read by hand, it is the batches from `first_step` to the end of `epochs` epochs, the same whenever it is opened.
    `SelfDistiller.fit` opens it at the step that the model is at, and reads on from there for as many epochs as it
    trains. `map`, `prefetch` and `with_options` keep that; any other transformation returns a plain `tf.data.Dataset`,
    which is what it was asked for and knows nothing of epochs.

    Example: of 10 images in batches of 4, `data.opened_at(lambda: 7)` begins with the second batch of the third epoch.

    Args:
        batch_at: from a step, int64 counted from 0 through all epochs, and the number of classes of the targets that
            methods mix, to a batch.
        first_step: where reading by hand begins.
        epochs: after how many it ends.
        steps_per_epoch: batches an epoch.
        num_examples: images of the training set.
        num_classes: of its labels.
        pairs_adjacent: whether the batch is made of pairs.
        changes: transformations of the data set of batches.
        relabelled: whether one of them may have changed the labels.
    """

    def __init__(
        self,
        batch_at: Callable[[tf.Tensor, int], tuple],
        *,
        first_step: int,
        epochs: int,
        steps_per_epoch: int,
        num_examples: int,
        num_classes: int,
        pairs_adjacent: bool = False,
        changes: tuple[Callable[[tf.data.Dataset], tf.data.Dataset], ...] = (),
        relabelled: bool = False,
    ):
        self._batch_at, self._first_step, self._changes = batch_at, first_step, changes
        self.epochs, self.steps_per_epoch = epochs, steps_per_epoch
        self.num_examples, self.num_classes = num_examples, num_classes
        self.pairs_adjacent, self.relabelled = pairs_adjacent, relabelled
        steps = tf.data.Dataset.range(first_step, epochs * steps_per_epoch)
        self._by_hand = self._batches(steps, num_classes=num_classes)
        super().__init__(tf.data.experimental.to_variant(self._by_hand))

    def _inputs(self):  # TensorFlow asks every data set for it
        return [self._by_hand]

    @property
    def element_spec(self):
        return self._by_hand.element_spec

    def opened_at(self, position: Callable[[], int], *, num_classes: int | None = None) -> tf.data.Dataset:
        """Batches without end from a step on, which is asked for when the data set is opened.

        Args:
            position: returns the step; never before `first_step`.
            num_classes: of the network, for the targets that methods mix; by default the data's.
        """

        def start() -> np.int64:
            return np.int64(max(position(), self._first_step))

        def steps(_):
            first = tf.numpy_function(start, [], tf.int64)
            return tf.data.Dataset.range(tf.ensure_shape(first, []), _ENDLESS)

        return self._batches(tf.data.Dataset.from_tensors(0).flat_map(steps), num_classes=num_classes)

    def map(self, map_func, *args, **kwargs) -> "PairedDataset":
        return self._changed(lambda dataset: dataset.map(map_func, *args, **kwargs), relabelled=True)

    def prefetch(self, *args, **kwargs) -> "PairedDataset":
        return self._changed(lambda dataset: dataset.prefetch(*args, **kwargs))

    def with_options(self, *args, **kwargs) -> "PairedDataset":
        return self._changed(lambda dataset: dataset.with_options(*args, **kwargs))

    def _changed(self, change: Callable, *, relabelled: bool = False) -> "PairedDataset":
        return PairedDataset(
            self._batch_at,
            first_step=self._first_step,
            epochs=self.epochs,
            steps_per_epoch=self.steps_per_epoch,
            num_examples=self.num_examples,
            num_classes=self.num_classes,
            pairs_adjacent=self.pairs_adjacent,
            changes=(*self._changes, change),
            relabelled=self.relabelled or relabelled,
        )

    def _batches(self, steps: tf.data.Dataset, *, num_classes: int | None) -> tf.data.Dataset:
        batches = mapped(steps, lambda step: self._batch_at(step, num_classes or self.num_classes))
        for change in self._changes:
            batches = change(batches)
        return batches


def mapped(steps: tf.data.Dataset, batch_at: Callable) -> tf.data.Dataset:
    """Batches made in parallel, and handed out in order."""
    batches = steps.map(batch_at, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return without_graph_rewriting(batches.prefetch(2))  # with AUTOTUNE it goes on to fill gigabytes
