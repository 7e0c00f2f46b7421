"""Maximum entropy, the confidence penalty (Pereyra et al., 2017, https://arxiv.org/abs/1701.06548)."""

from cskd_tf.checks import check_number
from cskd_tf.losses import entropy
from cskd_tf.methods.base import Method


class MaxEntropy(Method):
    """Rewards predictions of high entropy: adds `-weight * H(softmax(z))` to the loss (section 3 of the paper).

    `z` are the image's logits `[B, C]`, the entropy is in nats per image, and of sequences per position.

    Example, of logits `[ln 3, 0]`, probabilities `[.75, .25]`:
        >>> outputs = {"image": {"logits": tf.constant([[math.log(3), 0.0]])}}
        >>> round(float(MaxEntropy(weight=1.0).terms({}, outputs, None)["negative_entropy"][0]), 6)
        -0.562335

    Args:
        weight: gamma, at least 0. The CS-KD paper states none; 1.0 fits the calibration error in its Table 6.

    Raises:
        UserError: an argument out of range.
    """

    term_names = ("negative_entropy",)
    per_position = True
    per_class = True

    def __init__(self, *, weight: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.weight = check_number("weight", weight, positive=False)

    def terms(self, batch, outputs, targets):
        return {"negative_entropy": -self.weight * entropy(outputs["image"]["logits"])}
