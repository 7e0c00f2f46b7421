"""CS-KD: class-wise self-knowledge distillation (Yun et al., CVPR 2020, https://arxiv.org/abs/2003.13964)."""

import keras
import tensorflow as tf

from cskd_tf.losses import kl_divergence
from cskd_tf.methods.base import Method, View, check_number


@keras.saving.register_keras_serializable("cskd_tf")
class CSKD(Method):
    """Pulls the prediction for an image towards the one for another image of its class.

    Adds `weight * T^2 * KL( stop_gradient softmax(z(x') / T) || softmax(z(x) / T) )` to the cross-entropy of `x`
    (equations 1 and 2 of the paper), where `x'` is drawn uniformly from the training images of the class. The paper
    picks T from {1, 4} and the weight from {1, 2, 3, 4} by validation error: 4 and 1 for CIFAR-100, 4 and 3 for
    CUB-200-2011.

    Example: with T = 4 and weight 1, logits `z(x) = [0, 0]` and `z(x') = [4 ln 3, 0]` (softened: `[.75, .25]`) give
    the term `16 * 0.130812 = 2.092993`.

    Args:
        temperature: T, above 0.
        weight: of the class-wise term, at least 0.

    Raises:
        ValueError: temperature or weight out of range.
    """

    views = (View("partner", gradient=False, batch_norm="train"),)
    term_names = ("class_wise",)

    def __init__(self, *, temperature: float = 4.0, weight: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.temperature = check_number("temperature", temperature, positive=True)
        self.weight = check_number("weight", weight, positive=False)

    def terms(self, batch: dict, outputs: dict, targets: tf.Tensor) -> dict[str, tf.Tensor]:
        partner = tf.stop_gradient(outputs["partner"]["logits"])
        divergence = kl_divergence(partner, outputs["image"]["logits"], temperature=self.temperature)
        return {"class_wise": self.weight * self.temperature**2 * divergence}
