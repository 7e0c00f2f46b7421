"""PS-KD, progressive refinement of targets (Kim et al., ICCV 2021, https://arxiv.org/abs/2006.12000)."""

import math

import keras
import tensorflow as tf
from absl import logging

from cskd_tf.checks import check_count, check_fraction, check_option
from cskd_tf.errors import UserError
from cskd_tf.losses import refine_targets
from cskd_tf.methods.base import Method, Untracked
from cskd_tf.methods.replicas import gather


class PSKD(Method):
    """Softens the targets by what the network itself predicted one epoch ago, the more the longer it has trained.

    In epoch t of E, counted from 1, the target `[B, C]` of image x is `(1 - a_t) * target + a_t * P_{t-1}(x)` with
    `a_t = alpha * t / E` (equations 5 and 6 of the paper), at temperature 1; in the first epoch it stays as it is.
    Images that another method has mixed or cut keep their targets. Which epoch it is comes from `SelfDistiller.fit`; a
    training loop of your own calls `method.on_epoch_begin(epoch, epochs=E)` before each, and `fit` called for one epoch
    at a time needs `initial_epoch`.

    `P_{t-1}` comes from a table of one row a training image, the prediction in its last training step (`"stored"`, as
    in the authors' code: no further pass, N x C numbers of 2 bytes), or from a copy of the network as it was when the
    last epoch ended, at inference (`"network"`: one more pass; what the paper does on ImageNet, section 3.2). The table
    belongs to the training state: it is in the checkpoints that training resumes from, not in that of the best epoch
    nor in what inference loads. (Keras' own files of a whole `SelfDistiller` hold it, so that they, too, resume.)

    A mixed or cut image leaves its row as it is. Beside CutMix or Cutout at probability 1/2 a stored target is
    therefore 2 epochs old on average and not 1: more than 3 for one image in 8, more than 13 for one in 8,192. With
    `"network"` all are of the last epoch.

    Of sequences every position has its own prediction, and the table N x L x C numbers; the paper's translation
    (section 4.4) has `alpha=0.7` and, on the larger corpus, `source="network"` (section 3.2).

    Of several classes (`multi_label=True`) the stored predictions are sigmoids, and of each the rest to 1: the table
    has N x C x 2 numbers.

    Example: alpha .8 in epoch 150 of 300 is `a = .4`, at which the target (1, 0) with the prediction (.5, .5) becomes
    (.8, .2):
        >>> from cskd_tf.losses import refine_targets
        >>> refine_targets(tf.constant([[1.0, 0.0]]), previous=tf.constant([[0.5, 0.5]]), share=0.4).numpy().round(3)
        array([[0.8, 0.2]], dtype=float32)

    Args:
        alpha: of the last epoch, in [0, 1]; 0.8 on CIFAR-100 (0.7 for ResNeXt-29 in a further run of footnote 5).
        source: `"stored"` or `"network"`; beside CutMix or Cutout the latter has targets of the last epoch.
        top_k: keep this many probabilities of a row, and spread what is left evenly over the other classes; None: all.

    Raises:
        UserError: an argument out of range; when the model is built, a table without the number of images.
    """

    follows_epochs = True
    per_position = True

    def __init__(self, *, alpha: float = 0.8, source: str = "stored", top_k: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.alpha = check_fraction("alpha", alpha, one=True)
        self.source = check_option("source", source, ("stored", "network"))
        self.top_k = top_k if top_k is None else check_count("top_k", top_k)
        self.extras = ("index",) if source == "stored" else ()
        self.per_class = source == "stored"  # what the network itself returns is no choice between yes and no

    def refuses(self, composition):
        if all_mixed := [type(method).__name__ for method in composition.mixing if method.mixes_all]:
            return (
                f"Expected images that PS-KD can refine the targets of, and {all_mixed[0]} changes them all; "
                "CutMix and Cutout take probability=0.5, CutMix with coin='image'."
            )
        if self.source == "network" and composition.head is not None:
            return "Expected source='stored' beside a method that replaces the classifier head."
        return None

    def attach(self, network, *, parts, num_examples=None):
        options = {"trainable": False, "initializer": "zeros", "aggregation": "only_first_replica"}
        self.share = self.add_weight(name="share", shape=(), dtype="float32", **options)
        self._trained = Untracked(network)
        self.bind(network)
        if self.source == "network":
            copies = [keras.Variable(shape=weight.shape, dtype=weight.dtype, **options) for weight in network.weights]
            self._previous = Untracked(copies)
            return
        if num_examples is None:
            raise UserError("Expected SelfDistiller(..., num_examples=N) for PS-KD's stored predictions.")
        check_count("num_examples", num_examples)
        *positions, classes = parts.logits.shape[1:]
        if None in positions:
            raise UserError(
                "Expected sequences of one length, which PS-KD's table has a place for each position of, or "
                f"source='network'. Received: logits of shape {tuple(parts.logits.shape)}"
            )
        kept = min(self.top_k or classes, classes)
        shape = (num_examples, *positions, kept)
        # Said before it is allocated: ImageNet's is 2.4 GiB.
        size = math.prod(shape) * (2 + 4 * (kept < classes)) / 2**20
        words = " x ".join(map(str, shape))
        logging.info("PS-KD stores %s probabilities on each replica: %.1f MiB", words, size)
        self.table = self.add_weight(name="table", shape=shape, dtype="float16", **options)
        if self._keeps_some(classes):
            self.classes_kept = self.add_weight(name="classes", shape=shape, dtype="int32", **options)

    @property
    def untracked_variables(self):
        return self._previous.value if self.source == "network" else ()

    def on_epoch_begin(self, epoch, *, epochs):
        self.share.assign(self.alpha * (epoch + 1) / epochs if epoch else 0.0)
        if self.source == "network":
            for previous, value in zip(self._previous.value, self._trained.value.get_weights(), strict=True):
                previous.assign(value)

    epoch_state = untracked_variables

    def targets(self, batch, targets):
        if self.source == "network":
            network = self._trained.value
            with keras.StatelessScope(zip(network.weights, self._previous.value, strict=True)):
                previous = tf.nn.softmax(tf.cast(network(batch["image"], training=False), tf.float32))
        else:
            previous = self._read(batch["index"], targets.shape[-1])
        # A row that was never written is no prediction: of an image that was mixed, or not drawn, so far.
        written = tf.cast(tf.reduce_sum(previous, axis=-1) > 0, tf.float32)
        share = self.share.value * written
        if "mixed" in batch:
            share *= 1 - batch["mixed"]
        return refine_targets(targets, previous=tf.stop_gradient(previous), share=share)

    def after_step(self, batch, outputs):
        if self.source == "network":
            return
        values = tf.nn.softmax(outputs["image"]["logits"])
        rows = [(self.table, values)]
        if self._keeps_some(values.shape[-1]):
            values, classes = tf.math.top_k(values, self.top_k)
            rows = [(self.table, values), (self.classes_kept, classes)]
        index = gather(batch["index"])
        for variable, new in rows:
            new = tf.cast(new, variable.dtype)
            if "mixed" in batch:  # the prediction is of another image
                old = tf.gather(variable.value, batch["index"])
                new = tf.where(batch["mixed"][:, None] > 0, old, new)
            # Every replica writes all rows, so that their tables stay the same.
            variable.value.scatter_update(tf.IndexedSlices(gather(new), index))

    def _keeps_some(self, classes: int) -> bool:
        return self.top_k is not None and self.top_k < classes

    def _read(self, index, classes: int):
        rows = tf.cast(tf.gather(self.table.value, index), tf.float32)
        if not self._keeps_some(classes):
            return tf.math.divide_no_nan(rows, tf.reduce_sum(rows, axis=-1, keepdims=True))  # 2 bytes add up to about 1
        kept = tf.reduce_sum(rows, axis=-1, keepdims=True)
        spread = tf.where(kept > 0, tf.maximum(1 - kept, 0.0) / (classes - rows.shape[-1]), 0.0)
        places = tf.one_hot(tf.gather(self.classes_kept.value, index), classes)
        full = spread + tf.reduce_sum(places * (rows - spread)[..., None], axis=-2)
        return tf.math.divide_no_nan(full, tf.reduce_sum(full, axis=-1, keepdims=True))
