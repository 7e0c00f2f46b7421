"""USKD, universal self-knowledge distillation (Yang et al., ICCV 2023, https://arxiv.org/abs/2303.13005)."""

import tensorflow as tf

from cskd_tf.checks import check_number
from cskd_tf.errors import UserError
from cskd_tf.losses import cross_entropy, one_hot
from cskd_tf.methods.base import Method
from cskd_tf.methods.replicas import global_mean
from cskd_tf.methods.zipf import cross_entropy_of_others, ranks, zipf_targets
from cskd_tf.networks.layers import linear

_SMOOTHING = 0.1  # of the weak classifier's labels
_SMALL = 1e-6  # keeps the shares of the other classes finite


class USKD(Method):
    """Makes soft labels without a teacher: of the label from the prediction, of the other classes from two rankings.

    A weak classifier, linear on the mean of the last stage but one, predicts `w` `[B, C]` beside the network's `s`, the
    softmax of its logits z `[B, C]`. To the cross-entropy of label y it adds, in nats per image,

    - `target_weight * P * -log s_y`, with `P = s_y^2 + 1 - mean s_y^2` over the batch of all replicas;
    - `others_weight * -sum over c != y of q_c log softmax over c != y of z_c`, where `q_c` is in proportion to
      `1 / rank_c` over the classes other than y, in the order of `w_c / (1 - w_y) + s_c / (1 - s_y)` among all classes;
    - `weak_weight * CE` of w with labels smoothed by 0.1.

    P and q are without gradient; the weak classifier's flows into the network. This is the form of the authors' code as
    it came with the paper (its 1e-6 in both denominators too). Their later code has log-probabilities in place of s in
    the order.

    Example, two classes, s = w = (.75, .25) and label 0, alone in its batch: P is 1, q leaves a single class, and the
    weak classifier's labels are (.95, .05), so that the terms are `-ln .75`, 0 and `-.95 ln .75 - .05 ln .25`:
        >>> method = USKD(target_weight=1.0, others_weight=1.0, weak_weight=1.0)
        >>> logits = tf.constant([[math.log(3), 0.0]])
        >>> terms = method._terms(logits, logits, tf.constant([0]))
        >>> {name: round(abs(float(term[0])), 6) for name, term in terms.items()}
        {'soft_target': 0.287682, 'soft_others': 0.0, 'weak_cross_entropy': 0.342613}

    Args:
        target_weight: alpha, at least 0: 1.0 on ImageNet, 0.1 in the authors' config of ResNet-18 on CIFAR-100.
        others_weight: beta, at least 0: 0.1 on both.
        weak_weight: mu, at least 0: 0.005 on ImageNet, 0.1 on CIFAR-100.

    Raises:
        UserError: an argument out of range; when the model is built, a network with fewer than two stages.
    """

    term_names = ("soft_target", "soft_others", "weak_cross_entropy")
    whole_batch = True  # the mean of the squares
    one_label = True

    def __init__(self, *, target_weight: float = 1.0, others_weight: float = 0.1, weak_weight: float = 0.005, **kwargs):
        super().__init__(**kwargs)
        self.target_weight = check_number("target_weight", target_weight, positive=False)
        self.others_weight = check_number("others_weight", others_weight, positive=False)
        self.weak_weight = check_number("weak_weight", weak_weight, positive=False)

    def attach(self, network, *, parts, num_examples=None):
        if len(parts.stages) < 2:
            raise UserError(
                "Expected a network with at least 2 stages for USKD: layers named stage1, stage2 and so on. "
                f"Received: {network.name} with {len(parts.stages)}"
            )
        features = parts.stages[-2].shape[-1]
        self.weak_classifier = linear(parts.logits.shape[-1], inputs=features, name="weak_classifier")
        self.weak_classifier.build((None, features))
        self.bind(network)

    def terms(self, batch, outputs, targets):
        output = outputs["image"]
        features = tf.reduce_mean(tf.cast(output["stages"][-2], tf.float32), axis=[1, 2])
        return self._terms(output["logits"], self.weak_classifier(features), batch["label"])

    def _terms(self, logits, weak_logits, labels):
        label = one_hot(labels, num_classes=logits.shape[-1])
        strong, weak = (tf.stop_gradient(tf.nn.softmax(each)) for each in (logits, weak_logits))
        squares = tf.reduce_sum(label * strong, axis=-1) ** 2
        soft_target = tf.stop_gradient(squares + 1 - global_mean(squares))
        q = zipf_targets(ranks(_share(weak, label) + _share(strong, label)), labels)
        smoothed = (1 - _SMOOTHING) * label + _SMOOTHING / logits.shape[-1]
        return {
            "soft_target": self.target_weight * soft_target * cross_entropy(logits, targets=label),
            "soft_others": self.others_weight * cross_entropy_of_others(logits, targets=q, labels=labels),
            "weak_cross_entropy": self.weak_weight * cross_entropy(weak_logits, targets=smoothed),
        }


def _share(probabilities, label):
    """Probabilities `[B, C]` in proportion to what those of the label, one-hot, leave."""
    of_label = tf.reduce_sum(label * probabilities, axis=-1, keepdims=True)
    return probabilities / (1 - of_label + _SMALL)
