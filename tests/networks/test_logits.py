"""Networks are asked for logits, and found out by what they return."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.methods import Distillation
from cskd_tf.networks.logits import check_logits
from cskd_tf.training.callbacks import Evaluation
from cskd_tf.training.distiller import SelfDistiller

SHAPE = (None, 4, 4, 1)


def functional(last, classes=3):
    inputs = keras.Input(SHAPE[1:])
    return keras.Model(inputs, last(keras.layers.Dense(classes)(keras.layers.Flatten()(inputs))))


def deep(last):
    """Sixteen layers whose activations grow, so that other weights could run to infinity."""
    inputs = keras.Input(SHAPE[1:])
    hidden = keras.layers.Flatten()(inputs)
    for _ in range(16):
        hidden = keras.layers.BatchNormalization()(
            keras.layers.Dense(64, "relu", kernel_initializer="he_normal")(hidden)
        )
    return keras.Model(inputs, last(keras.layers.Dense(3)(hidden)))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.head = keras.layers.Dense(3)

    def call(self, images, training=False):
        return tf.nn.softmax(self.head(keras.ops.reshape(images, (-1, 16))))


def frozen(network):
    network.trainable = False
    return network


NO_LOGITS = {
    "activation by name": lambda make: make(activation="softmax"),
    "tf.nn.softmax": lambda make: make(activation=tf.nn.softmax),
    "keras.ops.softmax": lambda make: make(activation=keras.ops.softmax),
    "an operation": lambda make: functional(keras.ops.softmax),
    "a Lambda": lambda make: functional(keras.layers.Lambda(tf.nn.softmax)),
    "a cast behind it": lambda make: keras.Sequential(
        [make(activation="softmax"), keras.layers.Activation("linear", dtype="float32")]
    ),
    "half precision": lambda make: make(classes=100, activation="softmax", dtype="mixed_float16"),
    "two classes": lambda make: make(classes=2, activation="softmax"),
    "temperature": lambda make: functional(lambda logits: keras.ops.softmax(logits / 100)),
    "saturated": lambda make: functional(lambda logits: keras.ops.softmax(logits * 1e4)),
    "deep": lambda make: deep(keras.layers.Softmax()),
    "frozen": lambda make: frozen(make(activation="softmax")),
    "subclassed": lambda make: Subclassed(),
}


@pytest.mark.parametrize(
    ("make", "looks_like"),
    [
        *(pytest.param(make, "softmax", id=kind) for kind, make in NO_LOGITS.items()),
        pytest.param(lambda make: make(activation="log_softmax"), "log_softmax", id="log_softmax"),
        pytest.param(lambda make: make(activation="sigmoid"), "sigmoid", id="sigmoid"),
    ],
)
def test_what_is_no_logit_is_refused(make, looks_like, linear_network):
    with pytest.raises(ValueError, match=f"Expected a network that returns logits.*as after a {looks_like}"):
        SelfDistiller(make(linear_network)).build(SHAPE)


def constant(make, *, bias):
    network = make(classes=len(bias))
    kernel, _ = network.get_weights()
    network.set_weights([0 * kernel, np.array(bias, "float32")])
    return network


LOGITS = {
    "collapsed to a half each": lambda make: constant(make, bias=[0.5, 0.5]),
    "collapsed to a third each": lambda make: constant(make, bias=[1 / 3] * 3),
    "zero": lambda make: constant(make, bias=[0.0, 0.0]),
    "collapsed to logarithms": lambda make: constant(make, bias=np.log([0.25, 0.75])),
    "frozen": lambda make: frozen(constant(make, bias=[0.2, 0.3, 0.5])),
    "ReLU": lambda make: make(activation="relu"),
    "a softmax inside": lambda make: keras.Sequential([make(activation="softmax"), keras.layers.Dense(3)]),
    "deep": lambda make: deep(lambda logits: logits),
}


@pytest.mark.parametrize("kind", LOGITS)
def test_logits_pass_whatever_they_look_like(kind, linear_network):
    network = LOGITS[kind](linear_network)
    before = network.get_weights()
    classes = network.output_shape[-1]
    assert check_logits(network, input_shape=SHAPE) == classes
    for one, two in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_look_moves_no_random_numbers(linear_network):
    keras.utils.set_random_seed(1)
    without = keras.random.normal((3,)).numpy()
    keras.utils.set_random_seed(1)
    network = keras.Sequential([linear_network(), keras.layers.Dropout(0.5), keras.layers.Dense(3)])
    keras.utils.set_random_seed(1)
    check_logits(network, input_shape=SHAPE)
    np.testing.assert_array_equal(keras.random.normal((3,)).numpy(), without)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (lambda x: [keras.layers.Dense(3)(x), keras.layers.Dense(3)(x)], r"several outputs \(2\); choose one"),
        (lambda x: {"main": keras.layers.Dense(3)(x), "aux": keras.layers.Dense(3)(x)}, r"\(\['aux', 'main'\]\)"),
        (lambda x: keras.layers.Dense(1)(x), r"at least two classes.*outputs of shape \(None, 1\)"),
        (lambda x: keras.layers.Reshape((4, 3))(keras.layers.Dense(12)(x)), r"logits \[B, C\].*\(None, 4, 3\)"),
    ],
)
def test_outputs_of_another_form_are_named(outputs, message):
    inputs = keras.Input(SHAPE[1:])
    with pytest.raises(ValueError, match=message):
        SelfDistiller(keras.Model(inputs, outputs(keras.layers.Flatten()(inputs))))


def test_a_second_input_is_named():
    images, more = keras.Input(SHAPE[1:], name="images"), keras.Input((2,), name="more")
    both = keras.layers.Concatenate()([keras.layers.Flatten()(images), more])
    with pytest.raises(ValueError, match=r"one input, the images.*\['images', 'more'\]"):
        SelfDistiller(keras.Model([images, more], keras.layers.Dense(3)(both)))


def test_teachers_and_plain_models_under_evaluation_are_looked_at_too(linear_network, images_and_labels):
    with pytest.raises(ValueError, match="makes logits of the student's images.*as after a softmax"):
        SelfDistiller(linear_network(), [Distillation(teacher=functional(keras.ops.softmax))])
    model = linear_network(activation=tf.nn.softmax)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy())
    with pytest.raises(ValueError, match="returns logits.*as after a softmax"):
        model.fit(*images_and_labels, verbose=0, callbacks=[Evaluation(images_and_labels)])


def test_the_look_works_under_replicas(linear_network, two_replicas):
    with two_replicas.scope():
        SelfDistiller(linear_network())
        with pytest.raises(ValueError, match="as after a softmax"):
            SelfDistiller(linear_network(activation=tf.nn.softmax))


def test_stateful_layers_are_refused_by_name():
    """Which would take the partners for what comes next; Keras says that batches are of another size."""
    layers = [keras.layers.GRU(5, stateful=True, name="memory"), keras.layers.Dense(4)]
    network = keras.Sequential([keras.Input((8, 24), batch_size=8), keras.Sequential(layers)])
    with pytest.raises(ValueError, match=r"without stateful layers\. Received: .* with \['memory'\]"):
        check_logits(network, input_shape=network.input_shape)


@pytest.mark.parametrize(
    "build", [lambda network, x: network(x[:4]), lambda network, x: network.build((8, *SHAPE[1:]))]
)
def test_a_network_that_was_built_by_a_batch_takes_others(build):
    images = np.zeros((16, *SHAPE[1:]), "float32")
    network = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])
    build(network, images)
    model = SelfDistiller(network)
    model.compile("sgd")
    model.fit(images, np.arange(16) % 3, batch_size=6, verbose=0)
