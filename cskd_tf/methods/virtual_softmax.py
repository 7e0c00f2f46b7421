"""Virtual softmax (Chen et al., NeurIPS 2018, https://arxiv.org/abs/1811.12611)."""

import tensorflow as tf

from cskd_tf.methods.base import Head, class_vectors


class VirtualSoftmax(Head):
    """Adds to the logits, in training, one of a class that is never right: `||W_y|| * ||f||` (equation 4 of the paper).

    It is what the true class would score if its vector pointed along the embedding, so that the classes are pushed
    apart for as long as it does not. The classifier has no bias (the network's is frozen); gradients flow through both
    norms. Inference and all other views see the plain logits `f W`.

    Example, of an embedding (3, 4), class vectors (1, 0) and (0, 2), and label 1: logits (3, 8) and the virtual one
    `2 * 5`, so that the cross-entropy is `ln(e^-5 + 1 + e^2) = 2.127731`:
        >>> vectors = keras.initializers.Constant([[1.0, 0.0], [0.0, 2.0]])
        >>> network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, kernel_initializer=vectors)])
        >>> head = VirtualSoftmax()
        >>> model = cskd_tf.SelfDistiller(network, [head])
        >>> head.labelled_logits({"embedding": tf.constant([[3.0, 4.0]])}, tf.constant([1])).numpy().tolist()
        [[3.0, 8.0, 10.0]]

    Raises:
        UserError: when the model is built, around a network whose classifier is not found.
    """

    one_label = True

    def attach(self, network, *, parts, num_examples=None):
        self._class_vectors = class_vectors(parts, method=self)
        self.bind(network)

    def logits(self, outputs, *, training=False):
        return tf.cast(outputs["embedding"], tf.float32) @ self._class_vectors()

    def labelled_logits(self, outputs, labels):
        own = tf.gather(_norm(self._class_vectors(), axis=0), labels)
        virtual = own * _norm(tf.cast(outputs["embedding"], tf.float32), axis=-1)
        return tf.concat([self.logits(outputs, training=True), virtual[:, None]], axis=-1)


def _norm(vectors: tf.Tensor, *, axis: int) -> tf.Tensor:
    """The lengths, with a gradient of 0 at 0, where that of `tf.norm` is NaN."""
    return tf.sqrt(tf.reduce_sum(vectors**2, axis=axis) + 1e-24)
