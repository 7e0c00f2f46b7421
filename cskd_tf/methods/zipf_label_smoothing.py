"""Zipf's label smoothing (Liang et al., ECCV 2022, https://arxiv.org/abs/2207.12980)."""

import tensorflow as tf

from cskd_tf.checks import check_count, check_flag, check_number, check_option
from cskd_tf.errors import UserError
from cskd_tf.losses import cross_entropy
from cskd_tf.methods.base import Method, Untracked
from cskd_tf.methods.zipf import cross_entropy_of_others, ranks, zipf_targets
from cskd_tf.networks.layers import linear


class ZipfLabelSmoothing(Method):
    """Pulls the probabilities of the other classes towards Zipf's law, in the order in which the network ranks them.

    Adds `weight * KL( q || softmax over c != y of z_c )` to the cross-entropy, where `q_c` is in proportion to
    `1 / rank_c` over the classes c other than the label y, without gradient into q; in nats per image, of logits
    `[B, C]`. The ranks are among all classes, from 1; equal ones share the best.

    With `ranking="dense"` the classes are ranked by votes: the classifier is applied to every pixel of the last stage
    `[B, H, W, K]`, and each pixel votes for its highest class; those without a vote share the last rank. `exits` of
    the stages before it vote too, each by a linear classifier of its own on its pixels, which learns by
    `exit_weight * CE` of its mean logits. `upsample` doubles the stages' sizes before they vote, bilinearly.
    `ranking="logits"` takes the order of the logits themselves.

    As the authors' code: its MegEngine part trains CIFAR-100 and TinyImageNet with one exit, of weight 0.1 and 0.5, its
    PyTorch part with `upsample=True` and no exit; both have `weight` 0.1 on CIFAR-100 and ImageNet, 1.0 on TinyImageNet
    and INAT-21, and neither exits nor upsampling on the last two with large images.

    Example, of the logits (ln 3, 5, 0) and label 1: the others have ranks 2 and 3, so that q is (.6, .4), and the
    probabilities (.75, .25): `.6 ln (.6 / .75) + .4 ln (.4 / .25)`.
        >>> method = ZipfLabelSmoothing(weight=1.0, ranking="logits")
        >>> outputs = {"image": {"logits": tf.constant([[math.log(3), 5.0, 0.0]])}}
        >>> round(float(method.terms({"label": tf.constant([1])}, outputs, None)["zipf"][0]), 6)
        0.054115

    Args:
        weight: lambda, at least 0.
        ranking: `"dense"` or `"logits"`.
        exits: how many further stages vote, at least 0.
        exit_weight: alpha, of the exits' cross-entropy, at least 0.
        upsample: whether votes are counted at twice the stages' sizes.

    Raises:
        UserError: an argument out of range, or options of the dense ranking beside that of the logits; when the model
            is built, a network whose last stage its classifier cannot read, or with too few stages.
    """

    one_label = True

    def __init__(
        self,
        *,
        weight: float = 0.1,
        ranking: str = "dense",
        exits: int = 0,
        exit_weight: float = 0.1,
        upsample: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.weight = check_number("weight", weight, positive=False)
        self.ranking = check_option("ranking", ranking, ("dense", "logits"))
        self.exits = check_count("exits", exits, least=0)
        self.exit_weight = check_number("exit_weight", exit_weight, positive=False)
        self.upsample = check_flag("upsample", upsample)
        if ranking == "logits" and (exits or upsample):
            raise UserError(
                f"Expected exits and upsample beside ranking='dense' alone. Received: {ranking=}, {exits=}, {upsample=}"
            )
        self.term_names = ("zipf", "zipf_exits_cross_entropy") if exits else ("zipf",)

    def refuses(self, composition):
        if self.ranking == "dense" and composition.head is not None:
            return "Expected ranking='logits' beside a method that replaces the classifier head."
        return None

    def attach(self, network, *, parts, num_examples=None):
        if self.ranking == "logits":
            return
        stages = parts.stages
        reads_last_stage = parts.classifier is not None and stages and stages[-1].shape[-1] == parts.embedding.shape[-1]
        if not reads_last_stage or len(stages) <= self.exits:
            raise UserError(
                f"Expected a network with {self.exits + 1} stages or more (layers named stage1, stage2 and so on), the "
                f"last of which its classifier reads, pooled, for ZipfLabelSmoothing(exits={self.exits}); or "
                f"ranking='logits'. Received: {network.name} with {len(stages)} stages"
            )
        self._classifier = Untracked(parts.classifier)  # the network's, which trains and saves it
        if self.exits:
            self.heads = [self._exit(stage, parts.logits.shape[-1]) for stage in stages[-1 - self.exits : -1]]
        self.bind(network)

    def _exit(self, stage, classes: int):
        head = linear(classes, inputs=stage.shape[-1], name=f"zipf_exit_{stage.shape[-1]}")
        head.build(stage.shape)
        return head

    def terms(self, batch, outputs, targets):
        output, labels = outputs["image"], batch["label"]
        if self.ranking == "logits":
            return {"zipf": self.weight * self._divergence(output["logits"], ranks(output["logits"]), labels)}
        stages = output["stages"]
        votes = self._votes(self._classifier.value, stages[-1])
        exits = []
        for head, stage in zip(self.heads if self.exits else (), stages[-1 - self.exits : -1], strict=True):
            votes += self._votes(head, stage)
            exits.append(cross_entropy(tf.reduce_mean(head(stage), axis=[1, 2]), targets=targets))
        terms = {"zipf": self.weight * self._divergence(output["logits"], ranks(votes), labels)}
        return {**terms, "zipf_exits_cross_entropy": self.exit_weight * tf.add_n(exits)} if exits else terms

    def _votes(self, classifier, stage):
        """How many pixels of a stage `[B, H, W, K]` have each class as their highest, float32 `[B, C]`."""
        stage = tf.stop_gradient(tf.cast(stage, tf.float32))
        if self.upsample:
            stage = tf.image.resize(stage, 2 * tf.shape(stage)[1:3])
        logits = classifier(stage)
        return tf.reduce_sum(tf.one_hot(tf.argmax(logits, axis=-1), logits.shape[-1]), axis=[1, 2])

    def _divergence(self, logits, places, labels):
        q = zipf_targets(places, labels)
        negative_entropy = tf.reduce_sum(tf.math.xlogy(q, q), axis=-1)
        return cross_entropy_of_others(logits, targets=q, labels=labels) + negative_entropy
