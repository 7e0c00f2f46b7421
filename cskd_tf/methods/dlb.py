"""DLB, self-distillation from the last mini-batch (Shen et al., CVPR 2022, https://arxiv.org/abs/2203.16172)."""

import keras
import tensorflow as tf

from cskd_tf.checks import check_count, check_number
from cskd_tf.data.batches.views import IMAGE, POSITION, PREVIOUS, PREVIOUS_POSITION
from cskd_tf.losses import cross_entropy, kl_divergence
from cskd_tf.methods.base import Method, View
from cskd_tf.methods.replicas import gather


class DLB(Method):
    """Shows each image twice, in two batches in a row, and pulls the second prediction towards the first.

    Beside the images `x` a step has those of the last step, `x'`, augmented anew, in a second pass. With their targets
    `t'` `[B, C]` and the logits `z_last` `[B, C]` that the last step had for them, the loss is, in nats per image,

    `(CE(z(x), t) + CE(z(x'), t')) / 2 + weight * T^2 * KL( softmax(z_last / T) || softmax(z(x') / T) )`,

    without gradient into `z_last`: as the authors' code, which takes the mean cross-entropy of both halves together. In
    the first step there is nothing before, and the loss is `CE(z(x), t)`. `t'` are the targets that the last step had,
    after other methods smoothed or refined them.

    Where the last batch of an epoch is smaller, images come again one batch size of images later: some with it, the
    others with the batch behind it (the authors' code shows a whole batch again beside the smaller one).

    What the last step had is kept by each replica, for all of them, with the number of images shown before: so it is
    resumed within an epoch, and an image of which nothing is kept takes cross-entropy alone.

    Example, with `z(x') = (0, 0)` and, from the step before, `z_last = (4 ln 3, 0)`, at T = 4 softened to (.75, .25):
    half of `ln 2`, and `16 * 0.130812`:
        >>> network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, kernel_initializer="identity")])
        >>> method = DLB(temperature=4.0, weight=1.0)
        >>> model = cskd_tf.SelfDistiller(network, [method])
        >>> last = {"logits": tf.constant([[4 * math.log(3), 0.0]]), "targets": tf.constant([[1.0, 0.0]])}
        >>> method.after_step({"position": tf.constant([0], tf.int64)}, {"image": last})
        >>> views = {view: {"logits": tf.constant([[0.0, 0.0]])} for view in ("image", "previous")}
        >>> batch = {"previous_position": tf.constant([0], tf.int64)}
        >>> terms = method.terms(batch, views, tf.constant([[1.0, 0.0]]))
        >>> {name: round(float(term[0]), 5) for name, term in terms.items()}
        {'previous_cross_entropy': 0.34657, 'previous_distillation': 2.09299}

    Args:
        temperature: T, above 0. The authors' code names no value but in the name of one experiment: 3.
        weight: alpha, at least 0; there 0.5.
        largest_batch: of how many images over all replicas a batch may be at most: so many rows are kept, of 8 bytes
            per class.

    Raises:
        UserError: an argument out of range, or beside a method that mixes labels or takes a share of the cross-entropy;
            when the data are made, a batch that is larger.
    """

    views = (View(PREVIOUS, gradient=True),)
    extras = (POSITION, PREVIOUS_POSITION)
    term_names = ("previous_cross_entropy", "previous_distillation")
    hard_weight = 0.5
    weighable = False  # half of its terms are of the images of the last step

    def __init__(self, *, temperature: float = 3.0, weight: float = 0.5, largest_batch: int = 1024, **kwargs):
        super().__init__(**kwargs)
        self.temperature = check_number("temperature", temperature, positive=True)
        self.weight = check_number("weight", weight, positive=False)
        self.largest_batch = check_count("largest_batch", largest_batch)

    def refuses(self, composition):
        if composition.mixes_labels:
            return "Expected images that come again with the label they had beside DLB, and not mixed with others."
        if composition.hard_weight != self.hard_weight:
            return "Expected all of the cross-entropy beside DLB, which halves it between a step and the one before."
        return None

    def attach(self, network, *, parts, num_examples=None):
        shape = (self.largest_batch, parts.logits.shape[-1])
        options = {"trainable": False, "aggregation": "only_first_replica"}
        self.last_logits = self.add_weight(name="last_logits", shape=shape, initializer="zeros", **options)
        self.last_targets = self.add_weight(name="last_targets", shape=shape, initializer="zeros", **options)
        nothing = keras.initializers.Constant(-1)
        self.last_position = self.add_weight(
            name="last_position", shape=shape[:1], dtype="int64", initializer=nothing, **options
        )
        self.bind(network)

    def terms(self, batch, outputs, targets):
        position, logits = batch[PREVIOUS_POSITION], outputs[PREVIOUS]["logits"]
        rows = position % self.largest_batch
        kept = (position >= 0) & (tf.gather(self.last_position.value, rows) == position)
        last_logits, last_targets = (tf.gather(each.value, rows) for each in (self.last_logits, self.last_targets))
        again = cross_entropy(logits, targets=last_targets)
        divergence = kl_divergence(last_logits, logits, temperature=self.temperature)
        # An image without one before it has all its cross-entropy, of which the other half is the network's.
        own = cross_entropy(outputs[IMAGE]["logits"], targets=targets)
        return {
            "previous_cross_entropy": self.hard_weight * tf.where(kept, again, own),
            "previous_distillation": self.weight * self.temperature**2 * tf.where(kept, divergence, 0.0),
        }

    def after_step(self, batch, outputs):
        # Every replica keeps all rows, so that they stay the same.
        position, output = gather(batch[POSITION]), outputs[IMAGE]
        new = (
            (self.last_logits, gather(output["logits"])),
            (self.last_targets, gather(output["targets"])),
            (self.last_position, position),
        )
        for variable, values in new:
            variable.value.scatter_update(tf.IndexedSlices(values, position % self.largest_batch))
