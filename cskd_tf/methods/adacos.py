"""AdaCos, cosine logits with an adaptive scale (Zhang et al., CVPR 2019, https://arxiv.org/abs/1905.00292)."""

import math

import keras
import tensorflow as tf

from cskd_tf.checks import check_flag, check_option
from cskd_tf.errors import UserError
from cskd_tf.methods.base import Head, class_vectors
from cskd_tf.methods.replicas import gather


class AdaCos(Head):
    """Replaces the logits by `s * cos(theta)`, of the angles between embedding and class vectors, without bias.

    The class vectors are the kernel `[D, C]` of the network's own classifier, whose bias is frozen from then on. When
    the model is built they start anew, Xavier uniform as in the code that the CS-KD paper cites: within
    `+-sqrt(6 / (D + C))`, from Keras' seed. What is loaded after that, from a `.keras` file or a checkpoint, replaces
    them as it does all weights.

    The scale starts at `sqrt(2) ln(C - 1)`; in each training step, before it is used, it becomes (equation 15 of the
    paper)

    `s = ln(B) / cos(min(pi / 4, median_i theta_i))`, `B = mean_i sum_{k != y_i} exp(s_before cos theta_ik)`,

    where `theta_i` is the angle to the true class; the batch is that of all replicas, the median the lower one of an
    even number, and no gradient flows. Where that is not above 0, as with three classes whose vectors lie far apart
    (`B <= 1`), it would train towards the wrong class, and the scale stays what it was. Every view that learns the
    labels moves it, so beside DDGSD it moves twice per step. It stays at inference, and is saved with the model.

    Example, of 3 classes: the scale starts at `sqrt(2) ln 2`; one image with cosines (1, 0, 0) and label 0 makes
    `B = 2`, the median angle 0, and `s = ln 2 / 1`:
        >>> network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, kernel_initializer="identity")])
        >>> head = AdaCos(class_vectors="network")
        >>> model = cskd_tf.SelfDistiller(network, [head])
        >>> round(float(head.scale.value), 6)
        0.980258
        >>> head.labelled_logits({"embedding": tf.constant([[1.0, 0.0, 0.0]])}, tf.constant([0])).numpy().round(6)
        array([[0.693147, 0.      , 0.      ]], dtype=float32)

    Args:
        scale_at_evaluation: whether inference uses the scale too. Public code returns bare cosines there, and the CS-KD
            paper's ECE of 73.76 % (Table 6) shows that this was measured.
        class_vectors: `"xavier"`, or `"network"` to keep the classifier as it is, of a network that is trained already.

    Raises:
        UserError: when the model is built, with fewer than three classes (the scale would start at 0), or around a
            network whose classifier is not found.
    """

    whole_batch = True  # the median, and the mean
    one_label = True

    def __init__(self, *, scale_at_evaluation: bool = True, class_vectors: str = "xavier", **kwargs):
        super().__init__(**kwargs)
        self.class_vectors = check_option("class_vectors", class_vectors, ("xavier", "network"))
        self.scale_at_evaluation = check_flag("scale_at_evaluation", scale_at_evaluation)

    def attach(self, network, *, parts, num_examples=None):
        classes = parts.logits.shape[-1]
        if classes < 3:
            raise UserError(f"Expected at least three classes for AdaCos. Received: {classes} classes")
        self._class_vectors = class_vectors(parts, method=self)
        if self.class_vectors == "xavier":
            kernel = parts.classifier.kernel
            if not isinstance(kernel, keras.Variable):
                raise UserError(
                    "Expected a classifier whose kernel AdaCos can begin anew; class_vectors='network' begins with "
                    f"what it is. Received: {parts.classifier}, whose kernel is computed, as LoRA's is"
                )
            with tf.init_scope():  # and not as an operation of a graph that is being traced
                vectors = keras.initializers.GlorotUniform()((kernel.shape[-2], classes), dtype=kernel.dtype)
                kernel.assign(tf.reshape(vectors, kernel.shape))
        start = keras.initializers.Constant(math.sqrt(2) * math.log(classes - 1))
        options = {"dtype": "float32", "trainable": False, "aggregation": "only_first_replica", "autocast": False}
        self.scale = self.add_weight(name="scale", shape=(), initializer=start, **options)
        self.bind(network)

    def logits(self, outputs, *, training=False):
        cosines = self._cosines(outputs)
        if not training and not self.scale_at_evaluation:
            return cosines
        return tf.stop_gradient(self.scale.value) * cosines

    def labelled_logits(self, outputs, labels):
        cosines = self._cosines(outputs)
        self._update_scale(tf.stop_gradient(cosines), labels)
        return tf.stop_gradient(self.scale.value) * cosines

    def _cosines(self, outputs):
        embedding = tf.math.l2_normalize(tf.cast(outputs["embedding"], tf.float32), axis=-1)
        return embedding @ tf.math.l2_normalize(self._class_vectors(), axis=0)

    def _update_scale(self, cosines, labels):
        own = tf.one_hot(labels, cosines.shape[-1])
        others = tf.reduce_sum((1 - own) * tf.exp(self.scale.value * cosines), axis=-1)
        angles = tf.acos(tf.clip_by_value(tf.reduce_sum(own * cosines, axis=-1), -1.0, 1.0))
        others, angles = gather(others), tf.sort(gather(angles))
        median = angles[(tf.shape(angles)[0] - 1) // 2]
        scale = tf.math.log(tf.reduce_mean(others)) / tf.cos(tf.minimum(math.pi / 4, median))
        self.scale.assign(tf.where(scale > 0, scale, self.scale.value))
