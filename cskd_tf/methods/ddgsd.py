"""DDGSD, data-distortion guided self-distillation (Xu and Liu, AAAI 2019)."""

import tensorflow as tf

from cskd_tf.checks import check_number
from cskd_tf.losses import kl_divergence
from cskd_tf.methods.base import Method, View, check_embedding
from cskd_tf.methods.replicas import global_mean


class DDGSD(Method):
    """Trains on two augmentations of each image and pulls their predictions and their mean embeddings together.

    Adds to the cross-entropy of the first view that of the second, `weight * (KL(a || b) + KL(b || a))` of the
    predictions `[B, C]` softened by T (no factor T^2, gradients both ways), in nats per image, and
    `feature_weight * || mean f_a - mean f_b ||^2` of the embeddings `[B, D]`, the means over the batch of all replicas,
    one value that each image carries.

    Example, of predictions (.75, .25) and (.5, .5), whose divergences are 0.130812 and 0.143841:
        >>> views = {"image": [[math.log(3), 0.0]], "second_view": [[0.0, 0.0]]}
        >>> same = tf.ones((1, 2))
        >>> outputs = {name: {"logits": tf.constant(logits), "embedding": same} for name, logits in views.items()}
        >>> terms = DDGSD(temperature=1.0).terms({}, outputs, None)
        >>> {name: round(float(term[0]), 6) for name, term in terms.items()}
        {'mutual_divergence': 0.274653, 'mean_distance': 0.0}

    Args:
        temperature: T, above 0.
        weight: of the predictions' divergences, at least 0.
        feature_weight: mu, of the embeddings' means, at least 0.

    Raises:
        UserError: an argument out of range; when the model is built, a network without an embedding.
    """

    views = (View("second_view", gradient=True, labelled=True),)
    term_names = ("mutual_divergence", "mean_distance")

    def __init__(self, *, temperature: float = 3.0, weight: float = 1.0, feature_weight: float = 5e-4, **kwargs):
        super().__init__(**kwargs)
        self.temperature = check_number("temperature", temperature, positive=True)
        self.weight = check_number("weight", weight, positive=False)
        self.feature_weight = check_number("feature_weight", feature_weight, positive=False)
        self.whole_batch = self.feature_weight > 0  # its means

    def attach(self, network, *, parts, num_examples=None):
        check_embedding(parts, method=self)

    def terms(self, batch, outputs, targets):
        first, second = outputs["image"], outputs["second_view"]
        divergences = [
            kl_divergence(target["logits"], output["logits"], temperature=self.temperature)
            for target, output in ((first, second), (second, first))
        ]
        difference = global_mean(tf.cast(first["embedding"], tf.float32) - tf.cast(second["embedding"], tf.float32))
        distance = tf.reduce_sum(difference**2) * tf.ones_like(divergences[0])
        return {
            "mutual_divergence": self.weight * tf.add_n(divergences),
            "mean_distance": self.feature_weight * distance,
        }
