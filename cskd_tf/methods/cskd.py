"""CS-KD: class-wise self-knowledge distillation (Yun et al., CVPR 2020, https://arxiv.org/abs/2003.13964)."""

import keras
import tensorflow as tf

from cskd_tf.losses import kl_divergence
from cskd_tf.methods.base import Method, View, check_number, partner_views


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
        partners: how many partners an image has, each drawn independently, the term being their mean. The paper has
            one; each costs a forward pass.

    Raises:
        ValueError: an argument out of range.
    """

    term_names = ("class_wise",)

    def __init__(self, *, temperature: float = 4.0, weight: float = 1.0, partners: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.temperature = check_number("temperature", temperature, positive=True)
        self.weight = check_number("weight", weight, positive=False)
        if isinstance(partners, bool) or not isinstance(partners, int) or partners < 1:
            raise ValueError(f"Expected partners to be an integer of at least 1. Received: partners={partners!r}")
        self.views = tuple(View(name, gradient=False, batch_norm="train") for name in partner_views(partners))

    def terms(self, batch: dict, outputs: dict, targets: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = outputs["image"]["logits"]
        partners = [tf.stop_gradient(outputs[view.name]["logits"]) for view in self.views]
        divergences = [kl_divergence(partner, logits, temperature=self.temperature) for partner in partners]
        return {"class_wise": self.weight * self.temperature**2 * tf.add_n(divergences) / len(divergences)}
