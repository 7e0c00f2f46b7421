"""`SelfDistiller` as a Keras user expects a model to behave."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import cskd_tf
from cskd_tf.data import paired_dataset
from cskd_tf.methods import CSKD, Method
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.optimizers import SGD
from tests.helpers import compiled
from tests.selection import quick


def test_a_loss_is_refused(linear_network):
    with pytest.raises(ValueError, match="Expected no loss"):
        SelfDistiller(linear_network()).compile("sgd", loss="mse")


class SoftmaxFirst(keras.Model):
    def __init__(self):
        super().__init__()
        self.head = keras.layers.Dense(3, activation="softmax")
        self.hidden = keras.layers.Dense(5)

    def call(self, images, training=False):
        return self.head(self.hidden(keras.ops.reshape(images, (-1, 16))))


@pytest.mark.parametrize(
    "last", [keras.layers.Softmax, lambda: keras.layers.Activation("softmax"), lambda: keras.layers.Dense(3, "softmax")]
)
def test_a_network_that_returns_probabilities_is_refused(linear_network, images_and_labels, last):
    network = linear_network()
    network.add(last())
    for each in (network, SoftmaxFirst()):
        with pytest.raises(ValueError, match=r"returns logits.*softmax"):
            compiled(each).fit(*images_and_labels, verbose=0)


def test_a_softmax_inside_a_network_is_no_reason_to_refuse_it(images_and_labels):
    inputs = keras.Input((4, 4, 1))
    flat = keras.layers.Flatten()(inputs)
    gate = keras.layers.Dense(16, activation="softmax")(flat)
    network = keras.Model(inputs, keras.layers.Dense(3)(flat * gate))
    compiled(network).fit(*images_and_labels, verbose=0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda labels: labels + 1, ValueError, "Expected labels from 0 to 2"),
        (lambda labels: labels - 1, ValueError, "Expected labels from 0 to 2"),
        (lambda labels: labels + 0.5, ValueError, r"Expected labels .*Received: \[0.5, 1.5, 2.5\]"),
        (lambda labels: np.eye(4, dtype=int)[labels], ValueError, r"Received: int64 of shape \(22, 4\)"),
    ],
)
def test_labels_that_do_not_fit_the_network_are_refused(linear_network, images_and_labels, change, error, message):
    images, labels = images_and_labels
    with pytest.raises(error, match=message):
        compiled(linear_network()).fit(images, change(labels), verbose=0)


def test_labels_may_be_a_column(linear_network, images_and_labels):
    images, labels = images_and_labels
    model = compiled(linear_network())
    assert model.evaluate(images, labels, verbose=0) == model.evaluate(images, labels[:, None], verbose=0)


def test_a_single_callback_will_do(linear_network, images_and_labels):
    compiled(linear_network()).fit(*images_and_labels, verbose=0, callbacks=keras.callbacks.TerminateOnNaN())


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.head = keras.layers.Dense(3)
        self.flatten = keras.layers.Flatten()
        self.hidden = keras.layers.Dense(5, activation="relu")

    def call(self, images, training=False):
        return self.head(self.hidden(self.flatten(images)))


def functional():
    inputs = keras.Input((4, 4, 1))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Dense(5)(keras.layers.Flatten()(inputs))))


NETWORKS = {
    "functional": functional,
    "sequential without shape": lambda: keras.Sequential(
        [keras.layers.Flatten(), keras.layers.Dense(5), keras.layers.Dense(3)]
    ),
    "subclassed": Subclassed,
    "nested": lambda: keras.Sequential([keras.layers.Rescaling(0.5), functional()]),
}


def test_attach_is_called_for_a_network_that_is_built_by_its_first_batch(images_and_labels):
    images, labels = images_and_labels

    class Attached(Method):
        term_names = ("constant",)

        def attach(self, network, *, parts, num_examples=None):
            assert network.built
            self.value = self.add_weight(name="value", shape=(), initializer="ones", trainable=False)

        def terms(self, batch, outputs, targets):
            return {"constant": self.value * tf.ones(tf.shape(batch["label"]))}

    for network in (keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)]), Subclassed()):
        model = compiled(network, [Attached()])
        assert model.fit(images, labels, verbose=0).history["constant"] == [1.0]


@pytest.mark.parametrize("kind", quick(NETWORKS, "subclassed"))
def test_any_keras_model_can_be_wrapped(kind, images_and_labels):
    images, labels = images_and_labels
    network = NETWORKS[kind]()
    model = SelfDistiller(network, [CSKD()])
    model.compile(SGD(0.01), metrics=["accuracy"])
    data = paired_dataset(images, labels, batch_size=8, seed=0, epochs=4)
    history = model.fit(data, epochs=4, verbose=0, validation_data=(images, labels)).history
    assert history["loss"][-1] < history["loss"][0]
    assert history["val_accuracy"][-1] == pytest.approx(
        (model.predict(images, verbose=0).argmax(axis=1) == labels).mean()
    )
    assert model.outputs(images[:2])["embedding"].shape == (2, 5)
    np.testing.assert_allclose(model.predict(images, verbose=0), network.predict(images, verbose=0), atol=1e-6)


def test_fit_takes_keras_positional_arguments(linear_network, images_and_labels):
    images, labels = images_and_labels
    history = compiled(linear_network()).fit(images, labels, 8, 3, 0).history
    assert len(history["loss"]) == 3


def test_evaluate_returns_the_loss_and_the_compiled_metrics(linear_network, images_and_labels):
    images, labels = images_and_labels
    model = SelfDistiller(linear_network(), [CSKD()])
    model.compile("sgd", metrics=["accuracy", cskd_tf.metrics.ExpectedCalibrationError(from_logits=True)])
    results = model.evaluate(images, labels, verbose=0, return_dict=True)
    logits = model.predict(images, verbose=0)
    assert set(results) == {"loss", "accuracy", "ece"}
    assert results["loss"] == pytest.approx(cskd_tf.metrics.negative_log_likelihood(logits, labels), abs=1e-5)
    assert results["ece"] == pytest.approx(cskd_tf.metrics.expected_calibration_error(logits, labels), abs=1e-5)


def test_save_and_load_bring_everything_back(batch_norm_network, images_and_labels, tmp_path):
    images, labels = images_and_labels
    model = compiled(batch_norm_network(), [CSKD(temperature=2.0, weight=3.0)], momentum=0.9)
    data = paired_dataset(images, labels, batch_size=8, seed=0, epochs=2)
    model.fit(data, epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    assert (copy.methods[0].temperature, copy.methods[0].weight) == (2.0, 3.0)
    np.testing.assert_array_equal(copy.predict(images, verbose=0), model.predict(images, verbose=0))
    later = paired_dataset(images, labels, batch_size=8, seed=0, epochs=2, first_step=3)
    for each in (model, copy):
        each.fit(later, initial_epoch=1, epochs=2, verbose=0)
    for one, two in zip(model.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_weights_can_be_saved_before_training(linear_network, images_and_labels, tmp_path):
    images, _ = images_and_labels
    model, other = (SelfDistiller(linear_network(), [CSKD()]) for _ in range(2))
    assert not np.allclose(model.predict(images, verbose=0), other.predict(images, verbose=0))
    model.save_weights(tmp_path / "w.weights.h5")
    other.load_weights(tmp_path / "w.weights.h5")
    np.testing.assert_array_equal(other.predict(images, verbose=0), model.predict(images, verbose=0))


def test_summary_shows_the_network(linear_network):
    lines = []
    SelfDistiller(linear_network(), [CSKD()]).summary(print_fn=lambda line, **_: lines.append(line))
    text = "\n".join(lines)
    assert "51" in text  # 16 * 3 + 3 parameters
    assert "Trainable params" in text


@pytest.mark.parametrize("policy", quick(["mixed_bfloat16", "mixed_float16"], "mixed_bfloat16"))
def test_mixed_precision(policy, images_and_labels):
    images, labels = images_and_labels
    keras.config.set_dtype_policy(policy)
    network = cskd_tf.networks.build("preact_resnet10", num_classes=3, input_shape=(8, 8, 1), width=4)
    model = compiled(network, [CSKD()], learning_rate=0.05)
    data = paired_dataset(images.repeat(2, axis=1).repeat(2, axis=2), labels, batch_size=8, seed=0, epochs=4)
    history = model.fit(data, epochs=4, verbose=0).history
    assert history["loss"][-1] < 0.9 * history["loss"][0]
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == (policy == "mixed_float16")
    assert network.get_layer("stem_conv").compute_dtype == policy.removeprefix("mixed_")
    assert model.outputs(np.zeros((1, 8, 8, 1), "float32"))["logits"].dtype == tf.float32
    assert all(variable.dtype == "float32" for variable in model.trainable_variables)


@pytest.mark.thorough
def test_steps_per_execution_gives_the_same_weights(linear_network, images_and_labels):
    images, labels = images_and_labels
    weights = []
    for steps in (1, 3):
        keras.utils.set_random_seed(1)
        model = SelfDistiller(linear_network(), [CSKD()])
        model.compile(SGD(0.1), steps_per_execution=steps)
        model.fit(paired_dataset(images, labels, batch_size=8, seed=0, epochs=2), epochs=2, verbose=0)
        weights.append(model.network.get_weights())
    for one, two in zip(*weights, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-7)


@pytest.mark.thorough
def test_the_step_compiles_for_an_accelerator_with_static_shapes(images_and_labels):
    images, labels = (part[:8] for part in images_and_labels)
    images = tf.constant(images.repeat(2, axis=1).repeat(2, axis=2))
    batch = ({"image": images, "partner": images[::-1]}, tf.constant(labels % 3))
    losses = []
    for jit in (False, True):
        keras.utils.set_random_seed(0)
        network = cskd_tf.networks.build("preact_resnet10", num_classes=3, input_shape=(8, 8, 1), width=4)
        model = compiled(network, [CSKD()])
        model.optimizer.build(model.trainable_variables)
        step = tf.function(model.train_step, jit_compile=jit, autograph=False)
        losses.append(float(step(batch)["loss"]))
    program = step.experimental_get_compiler_ir(batch)(stage="hlo")
    assert "custom-call" not in program
    assert "<=" not in program  # no dimension that is only bounded
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_sparsemax_is_wrong_where_several_classes_keep_a_share():
    # docs/replacements.md says so; (.75, .25, 0) is right. Where this fails, Keras has mended it.
    assert np.sum(keras.activations.sparsemax(np.array([[2.0, 1.5, -1.0]], "float32"))) < 0.5
