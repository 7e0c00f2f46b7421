"""BYOT, be your own teacher (Zhang et al., ICCV 2019, https://arxiv.org/abs/1905.08094)."""

import keras
import tensorflow as tf
from keras import layers

from cskd_tf.checks import check_flag, check_fraction, check_number, check_option
from cskd_tf.errors import UserError
from cskd_tf.losses import cross_entropy, soft_cross_entropy
from cskd_tf.methods.base import Method, check_embedding
from cskd_tf.methods.replicas import global_sum
from cskd_tf.networks.features import layers_of
from cskd_tf.networks.layers import Pieces, torch_default


class BYOT(Method):
    """Puts a classifier on each shallower stage and trains it by the labels, the deepest logits and embedding.

    Adds `sum_i [ (1 - alpha) CE_i + alpha * CE(softmax(z_deep / T), z_i / T) + feature_weight * || f_i - f_deep ||^2 ]`
    (equation 7 of the paper), without gradient into `z_deep` `[B, C]` and `f_deep` `[B, D]`, in nats per image. An exit
    halves stage `i` (`[B, H, W, K]`) by 3 x 3 convolutions until it has the deepest stage's size and channels, whose
    pooled values are `f_i` `[B, D]`, through a linear layer where the network's own embedding has another size than its
    deepest stage. The exits keep their own balance beside methods that take a share of the network's
    cross-entropy.

    The distance is squared, as a comment in the authors' code says of the paper's version. With `form="public"`, as
    that code computes: one plain norm of all differences in the batch, each exit's `f_i` through a linear adapter of
    its own before it is compared, and no distance of the exit next to the deepest.

    A public re-implementation has alpha 0.1 and feature weight 1e-6, but of another loss: its deepest cross-entropy has
    weight `1 - alpha`, its distillation a factor T^2, and its distances are summed over the batch.

    Example, at T = 1 and alpha .3: one exit with logits (0, 0) beside the deepest (ln 3, 0), label 0, features (3, 4)
    and (0, 0) at feature weight .03 give `.7 ln 2 + .3 ln 2 + .03 * 25 = 1.443147`, the last part of which is
        >>> float(BYOT(feature_weight=0.03)._distance(tf.constant([[3.0, 4.0]]))[0])
        25.0

    Args:
        alpha: share of the deepest predictions, in [0, 1].
        temperature: T, above 0.
        feature_weight: of the embeddings' distance, at least 0.
        squared: take the squared distance; None: in the paper's form, and not in the public one.
        form: `"paper"` or `"public"`.

    Raises:
        UserError: an argument out of range; when the model is built, a network without stages or without an embedding.
    """

    term_names = ("exits_cross_entropy", "exits_distillation", "exits_features")

    def __init__(
        self,
        *,
        alpha: float = 0.3,
        temperature: float = 3.0,
        feature_weight: float = 0.03,
        squared: bool | None = None,
        form: str = "paper",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.alpha = check_fraction("alpha", alpha, one=True)
        self.temperature = check_number("temperature", temperature, positive=True)
        self.feature_weight = check_number("feature_weight", feature_weight, positive=False)
        self.form = check_option("form", form, ("paper", "public"))
        self.whole_batch = form == "public"  # one norm of all differences
        self.squared = check_flag("squared", form == "paper" if squared is None else squared)

    def attach(self, network, *, parts, num_examples=None):
        stages = parts.stages
        # The public form leaves the last of the exits out of the distances.
        if len(stages) < (least := 2 if self.form == "paper" else 3):
            raise UserError(
                f"Expected a network with at least {least} stages for BYOT: layers named stage1, stage2 and so on. "
                f"Received: {network.name} with {len(stages)}"
            )
        check_embedding(parts, method=self)
        channels = [stage.shape[-1] for stage in stages]
        classes, features = parts.logits.shape[-1], parts.embedding.shape[-1]
        # The exits' batch norm is as the network's; where that has none, over all replicas.
        synchronized = all(getattr(layer, "synchronized", True) for layer in layers_of(network))
        pieces = Pieces(synchronized=synchronized, dtype=network.dtype_policy)
        self.exits = [
            _exit(pieces, stages[number].shape[1:], channels[number + 1 :], features=features, number=number)
            for number in range(len(stages) - 1)
        ]
        self.heads = [
            layers.Dense(classes, kernel_initializer=torch_default(), dtype="float32", name=f"{made.name}_classifier")
            for made in self.exits
        ]
        self.adapters = [
            layers.Dense(features, kernel_initializer=torch_default(), dtype="float32", name=f"{made.name}_adapter")
            for made in (self.exits[:-1] if self.form == "public" else ())
        ]
        for layer in (*self.heads, *self.adapters):
            layer.build((None, features))
        self.bind(network)

    def terms(self, batch, outputs, targets):
        deep = outputs["image"]
        deep_logits = tf.stop_gradient(deep["logits"])
        deep_features = tf.stop_gradient(tf.cast(deep["embedding"], tf.float32))
        stages = zip(self.exits, deep["stages"], strict=False)  # the deepest has no exit
        features = [tf.cast(make(stage, training=True), tf.float32) for make, stage in stages]
        logits = [head(values) for head, values in zip(self.heads, features, strict=True)]
        hard = [cross_entropy(each, targets=targets) for each in logits]
        soft = [soft_cross_entropy(deep_logits, each, temperature=self.temperature) for each in logits]
        if self.form == "public":
            features = [adapter(values) for adapter, values in zip(self.adapters, features[:-1], strict=True)]
        near = [self._distance(values - deep_features) for values in features]
        return {
            "exits_cross_entropy": (1 - self.alpha) * tf.add_n(hard),
            "exits_distillation": self.alpha * tf.add_n(soft),
            "exits_features": self.feature_weight * tf.add_n(near),
        }

    def _distance(self, difference):
        """One value per example: its own norm, or that of the whole batch, which then counts once for the batch."""
        squares = tf.reduce_sum(difference**2, axis=-1)
        if self.form == "public":
            squares = global_sum(squares) * tf.ones_like(squares)
        return squares if self.squared else tf.sqrt(squares + 1e-12)


def _exit(pieces: Pieces, shape, channels, *, features: int, number: int) -> keras.Model:
    """From one stage to an embedding: a halving for each stage that follows, then the mean over the image."""
    inputs = keras.Input(shape)
    outputs = inputs
    for step, filters in enumerate(channels, start=1):
        name = f"exit{number + 1}_{step}"
        outputs = pieces.convolution(outputs, filters, kernel_size=3, stride=2, name=f"{name}_conv")
        outputs = pieces.batch_norm_relu(outputs, name=f"{name}_bn")
    options = {"data_format": "channels_last", "dtype": pieces.dtype}
    outputs = layers.GlobalAveragePooling2D(**options, name=f"exit{number + 1}_embedding")(outputs)
    if outputs.shape[-1] != features:
        outputs = layers.Dense(features, dtype=pieces.dtype, name=f"exit{number + 1}_project")(outputs)
    return keras.Model(inputs, outputs, name=f"exit{number + 1}")
