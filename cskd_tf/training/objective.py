"""What a training step minimises: cross-entropy and the methods' terms, one weighted value per example."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from cskd_tf import losses
from cskd_tf.data.batches.views import IMAGE
from cskd_tf.methods.composition import Composition
from cskd_tf.networks.features import NetworkOutputs
from cskd_tf.training.labels import LabelKind
from cskd_tf.training.views import run_view


class Objective:
    """Cross-entropy and the terms of methods, of a network and labels of one kind.

    Args:
        composition: of the methods.
        labels: what they are.
        network: as it is run.
        added: what its layers add to the loss, in their last run.
    """

    def __init__(
        self,
        composition: Composition,
        labels: LabelKind,
        *,
        network: NetworkOutputs,
        added: Callable[[], Sequence[tf.Tensor]],
    ):
        self._composition, self._labels, self._network, self._added = composition, labels, network, added

    def outputs(self, images, *, training: bool = False) -> dict[str, Any]:
        """`{"logits", "embedding", "stages"}` of one run of the network, with the logits as inference sees them."""
        return self._with_head(self._network(images, training=training), training=training)

    def training(
        self, batch: dict[str, Any], tape: tf.GradientTape
    ) -> tuple[dict[str, dict[str, Any]], dict[str, tf.Tensor], tf.Tensor]:
        """What a batch costs.

        Returns:
            The outputs of each view; the terms as they are added up, of the shape of `LabelKind.counts`, by name; and
            what the network's layers add, float32 `[]`.
        """
        outputs, regularization = self._run_views(batch, tape)
        targets = self._labels.targets(batch, num_classes=outputs[IMAGE]["logits"].shape[-1])
        for method in self._composition.terms:
            targets = method.targets(batch, targets)
        terms = self._cross_entropies(outputs, batch["label"], targets)
        outputs = {name: self._as_scores(self._with_head(output, training=True)) for name, output in outputs.items()}
        outputs[IMAGE]["targets"] = targets
        for method in self._composition.terms:
            terms.update(self._composition.terms_of(method, batch, outputs, targets))
        weighted = {name: self._labels.in_the_loss(values, batch) for name, values in terms.items()}
        return outputs, weighted, regularization

    def evaluation(self, batch: dict[str, Any], logits: tf.Tensor) -> tf.Tensor:
        """Cross-entropy alone, of the shape of `LabelKind.counts`."""
        targets = self._labels.targets(batch, num_classes=logits.shape[-1])
        values = losses.cross_entropy(self._labels.scores(logits), targets=targets)
        return self._labels.in_the_loss(values, batch)

    def regularization(self) -> tf.Tensor:
        """What the network's layers have added in their last run, float32 `[]`, whatever the precision of each."""
        return tf.add_n([tf.constant(0.0), *(tf.cast(loss, tf.float32) for loss in self._added())])

    def _run_views(self, batch: dict, tape: tf.GradientTape) -> tuple[dict[str, dict[str, Any]], tf.Tensor]:
        """The network's outputs for each view, and what its layers add to the loss for the image itself."""
        outputs = {}
        for view in self._composition.views:
            outputs[view.name] = run_view(view, batch, run=self._network, tape=tape)
            if view.name == IMAGE:
                regularization = self.regularization()  # read now: the next run of the network clears it
        return outputs, regularization

    def _with_head(self, outputs: dict[str, Any], *, training: bool) -> dict[str, Any]:
        """The outputs with the head's logits, where a method replaces the network's."""
        head, logits = self._composition.head, outputs["logits"]
        if head is not None:
            # As a layer of float32: inside a mixed-precision model Keras would round the variables that it reads.
            logits = head(outputs, training=training)
        return {**outputs, "logits": tf.cast(logits, tf.float32)}

    def _as_scores(self, outputs: dict[str, Any]) -> dict[str, Any]:
        return {**outputs, "logits": self._labels.scores(outputs["logits"])}

    def _cross_entropies(self, outputs: dict[str, dict[str, Any]], labels, targets) -> dict[str, Any]:
        """The cross-entropy of each labelled view, by the names of their terms, in the share that methods leave."""
        head, terms = self._composition.head, {}
        for view in self._composition.views:
            if view.labelled:
                output = outputs[view.name]
                logits = output["logits"] if head is None else head.labelled_logits(output, labels)
                scores = self._labels.scores(logits)
                hard = losses.cross_entropy(scores, targets=_as_wide(targets, scores))
                terms[view.term_name] = self._composition.hard_weight * hard
        return terms


def _as_wide(targets, logits):
    """Targets `[..., C]` with zeros for the classes that a head has added to its logits."""
    added = logits.shape[-1] - targets.shape[-1]
    return tf.pad(targets, [(0, 0)] * (targets.shape.rank - 1) + [(0, added)])
