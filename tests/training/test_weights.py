"""Weights of examples and classes: Keras' own, on every path into the step, and the formula where Keras has none."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import paired_dataset
from cskd_tf.methods import CSKD, DLB, Mixup
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.optimizers import SGD
from tests.helpers import softmax
from tests.selection import few

REFUSALS = (ValueError, tf.errors.InvalidArgumentError)
WEIGHTS = np.random.default_rng(3).uniform(0, 3, 22).astype("float32")
CLASS_WEIGHT = {0: 0.5, 2: 3.0}  # and 1, which Keras takes for class 1


class Batches(keras.utils.PyDataset):
    def __init__(self, *parts):
        super().__init__()
        self.parts = parts

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return tuple(part[8 * index : 8 * index + 8] for part in self.parts)


def generator(*parts):
    while True:
        yield from (Batches(*parts)[index] for index in range(3))


def sliced(*parts):
    return tf.data.Dataset.from_tensor_slices(parts).batch(8)


WAYS = {
    "arrays": lambda x, y, w: {"x": x, "y": y, "sample_weight": w, "batch_size": 8, "shuffle": False},
    "arrays of a column": lambda x, y, w: {
        "x": x, "y": y, "sample_weight": w[:, None], "batch_size": 8, "shuffle": False,
    },
    "tf.data": lambda x, y, w: {"x": sliced(x, y, w)},
    "PyDataset": lambda x, y, w: {"x": Batches(x, y, w), "shuffle": False},
    "generator": lambda x, y, w: {"x": generator(x, y, w), "steps_per_epoch": 3, "shuffle": False},
}  # fmt: skip
CLASS_WAYS = {
    "arrays": lambda x, y: {"x": x, "y": y, "batch_size": 8, "shuffle": False},
    "one-hot arrays": lambda x, y: {"x": x, "y": np.eye(3)[y], "batch_size": 8, "shuffle": False},
    "tf.data": lambda x, y: {"x": sliced(x, y)},
    "PyDataset": lambda x, y: {"x": Batches(x, y), "shuffle": False},
}


def plain_sgd():
    return keras.optimizers.SGD(0.1)


def kernel_of(network):
    return [np.random.default_rng(1).normal(size=weight.shape) for weight in network.weights]


def trained_by_keras(network, images, labels, **options):
    network.set_weights(kernel_of(network))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(
        plain_sgd(), loss, metrics=["accuracy"], weighted_metrics=["sparse_categorical_accuracy"], run_eagerly=True
    )
    history = network.fit(images, labels, batch_size=8, epochs=2, shuffle=False, verbose=0, **options).history
    return network.get_weights(), history


def model_of(network, methods=(), *, weights=None, **options):
    network.set_weights(kernel_of(network))
    model = SelfDistiller(network, methods)
    model.compile(plain_sgd(), **{"run_eagerly": True, **options})
    return model


def check_same(model, history, expected):
    weights, expected_history = expected
    for one, other in zip(model.network.get_weights(), weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    for name, values in expected_history.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def keras_results():
    """What Keras makes of each kind of weights, trained once."""
    return {}


def metrics():
    return {"metrics": ["accuracy"], "weighted_metrics": [keras.metrics.SparseCategoricalAccuracy()]}


@pytest.mark.parametrize("way", few(WAYS, 2))
def test_weights_of_examples_are_those_of_keras(way, linear_network, images_and_labels, keras_results):
    if "examples" not in keras_results:
        keras_results["examples"] = trained_by_keras(linear_network(), *images_and_labels, sample_weight=WEIGHTS)
    model = model_of(linear_network(), **metrics())
    history = model.fit(**WAYS[way](*images_and_labels, WEIGHTS), epochs=2, verbose=0).history
    check_same(model, history, keras_results["examples"])


@pytest.mark.parametrize("way", few(CLASS_WAYS, 2))
def test_weights_of_classes_are_those_of_keras(way, linear_network, images_and_labels, keras_results):
    if "classes" not in keras_results:
        keras_results["classes"] = trained_by_keras(linear_network(), *images_and_labels, class_weight=CLASS_WEIGHT)
    rows = "one-hot" in way
    model = model_of(linear_network(), **({} if rows else metrics()))
    data = CLASS_WAYS[way](*images_and_labels)
    history = model.fit(**data, epochs=2, verbose=0, class_weight=CLASS_WEIGHT).history
    expected, logs = keras_results["classes"]
    check_same(model, history, (expected, {"loss": logs["loss"]} if rows else logs))


def test_single_batches_and_evaluation_are_those_of_keras(linear_network, images_and_labels):
    images, labels = images_and_labels
    network = linear_network()
    network.set_weights(kernel_of(network))
    network.compile(plain_sgd(), keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
    model = model_of(linear_network())
    for options in ({"class_weight": CLASS_WEIGHT}, {"sample_weight": WEIGHTS}, {}):
        logs, expected = (each.train_on_batch(images, labels, return_dict=True, **options) for each in (model, network))
        assert logs["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert model.class_weight is None  # a loop of the user's own has none
    for one, other in zip(model.network.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    for call, options in (("evaluate", {"batch_size": 8, "verbose": 0}), ("test_on_batch", {})):
        logs, expected = (
            getattr(each, call)(images, labels, sample_weight=WEIGHTS, return_dict=True, **options)
            for each in (model, network)
        )
        assert logs["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    history = model.fit(images, labels, validation_data=(images, labels, WEIGHTS), verbose=0).history
    assert history["val_loss"][0] == pytest.approx(model.evaluate(sliced(images, labels, WEIGHTS), verbose=0))


def weighted_loss(logits, partner_logits, labels, weights, *, temperature, weight):
    """The weighted parts of CS-KD, by hand, and the gradient of their sum at the logits."""
    rows = np.arange(len(labels))
    cross_entropy = -np.log(softmax(logits)[rows, labels])
    softened, target = softmax(logits / temperature), softmax(partner_logits / temperature)
    class_wise = weight * temperature**2 * (target * np.log(target / softened)).sum(axis=1)
    at_logits = softmax(logits) - np.eye(logits.shape[1])[labels] + weight * temperature * (softened - target)
    parts = {"cross_entropy": (weights * cross_entropy).mean(), "class_wise": (weights * class_wise).mean()}
    return parts, weights[:, None] * at_logits / len(labels)


@pytest.mark.parametrize("jit", [False, True])
def test_terms_are_weighted_as_the_cross_entropy_is(jit, linear_network, images_and_labels):
    images, labels = images_and_labels
    partners = images[::-1].copy()
    network = linear_network(kernel_regularizer=keras.regularizers.L2(0.05))
    model = model_of(network, [CSKD(temperature=2.0, weight=3.0)], run_eagerly=False, jit_compile=jit)
    kernel, bias = model.network.get_weights()
    flat = images.reshape(22, -1)
    logits, partner_logits = (each.reshape(22, -1) @ kernel + bias for each in (images, partners))
    parts, gradient = weighted_loss(logits, partner_logits, labels, WEIGHTS, temperature=2.0, weight=3.0)
    data = tf.data.Dataset.from_tensors(({"image": images, "partner": partners}, labels, WEIGHTS))
    history = model.fit(data, verbose=0).history
    for name, value in parts.items():
        assert history[name] == [pytest.approx(value, rel=1e-5)]
    added = 0.05 * (kernel**2).sum()  # once, whatever the examples weigh
    assert history["loss"] == [pytest.approx(sum(parts.values()) + added, rel=1e-5)]
    expected = kernel - 0.1 * (flat.T @ gradient + 0.1 * kernel), bias - 0.1 * gradient.sum(axis=0)
    for one, other in zip(model.network.get_weights(), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


@pytest.mark.thorough
def test_replicas_and_parts_of_a_batch_take_the_same_weighted_step(linear_network, images_and_labels, replicas):
    made = []
    for count, parts in ((1, 1), (2, 2)):
        with replicas(count).scope():
            network = linear_network(kernel_regularizer="l2")
            network.set_weights(kernel_of(network))
            model = SelfDistiller(network, [CSKD(weight=2.0)])
            options = {"gradient_accumulation_steps": parts, "weighted_metrics": ["accuracy"]}
            model.compile(SGD(0.02, momentum=0.9), **options)
        data = paired_dataset(*images_and_labels, batch_size=8, seed=5, sample_weight=WEIGHTS, **model.data_options)
        history = model.fit(data, epochs=2, verbose=0).history
        made.append((model.network.get_weights(), history))
    (weights, logs), (other_weights, other_logs) = made
    for one, other in zip(weights, other_weights, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-6)
    for name, values in logs.items():
        np.testing.assert_allclose(other_logs[name], values, rtol=1e-5, err_msg=name)


@pytest.mark.thorough
@pytest.mark.parametrize("of", ["examples", "classes"])
def test_a_mixed_image_counts_each_of_its_images_as_that_weighs(of, linear_network):
    """The loss is `l w_i CE(y_i) + (1 - l) w_j CE(y_j)`; here each image is a class of its own."""
    images = np.random.default_rng(0).normal(size=(6, 4, 4, 1)).astype("float32")
    weights = np.array([0.0, 0.5, 1.0, 2.0, 4.0, 0.25], "float32")
    model = model_of(linear_network(classes=6), [Mixup()])
    options = {"batch_size": 6, "seed": 1, **model.data_options}
    plain = paired_dataset(images, np.arange(6), **options)
    ((batch, _),) = plain
    probabilities = softmax(model.predict(batch["image"], verbose=0))
    expected = -(batch["targets"].numpy() * weights * np.log(probabilities)).sum(axis=1).mean()
    if of == "classes":
        history = model.fit(plain, verbose=0, class_weight=dict(enumerate(weights))).history
    else:
        history = model.fit(paired_dataset(images, np.arange(6), sample_weight=weights, **options), verbose=0).history
    assert history["loss"] == [pytest.approx(expected, rel=1e-5)]


@pytest.mark.thorough
def test_other_class_weights_make_another_step(linear_network, images_and_labels):
    images, labels = images_and_labels
    model = model_of(linear_network(), run_eagerly=False)
    model.optimizer.learning_rate = 0.0
    cross_entropy = -np.log(softmax(model.predict(images, verbose=0))[np.arange(22), labels])
    traced = []
    for class_weight in ({0: 2.0}, {0: 2.0}, None, {1: 5.0, 0: 0.0}):
        weights = [(class_weight or {}).get(label, 1.0) for label in labels]
        history = model.fit(images, labels, class_weight=class_weight, verbose=0, batch_size=22).history
        assert history["loss"] == [pytest.approx((cross_entropy * weights).mean(), rel=1e-5)]
        traced.append(model.train_function)
    assert traced[0] is traced[1]  # the same weights need no other


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_weights_are_float32_in_mixed_precision(policy, linear_network, images_and_labels):
    keras.config.set_dtype_policy(policy)
    images, labels = images_and_labels
    model = model_of(linear_network())
    logits = model.outputs(images)["logits"].numpy()
    expected = (WEIGHTS * -np.log(softmax(logits)[np.arange(22), labels])).mean()
    assert model.train_on_batch(images, labels, WEIGHTS)[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("wrong", [-0.5, np.nan, np.inf])
@pytest.mark.parametrize("way", WAYS)
def test_weights_that_are_none_are_refused(way, wrong, linear_network, images_and_labels):
    weights = WEIGHTS.copy()
    weights[3] = wrong
    model = model_of(linear_network())
    before = model.network.get_weights()
    with pytest.raises(REFUSALS, match="Expected sample weights that are finite and not below 0"):
        model.fit(**WAYS[way](*images_and_labels, weights), verbose=0)
    np.testing.assert_array_equal(model.network.get_weights()[0], before[0])
    if "arrays" in way:
        with pytest.raises(ValueError, match=rf"not below 0. Received: \[{wrong}\]"):
            model.evaluate(*images_and_labels, sample_weight=weights, verbose=0)
        with pytest.raises(ValueError, match=rf"not below 0. Received: \[{wrong}\]"):
            model.fit(*images_and_labels, validation_data=(*images_and_labels, weights), verbose=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample_weight": np.ones((22, 3))}, r"sample weights \[B\], one per example. Received: shape \(22, 3\)"),
        ({"sample_weight": WEIGHTS, "class_weight": {0: 1.0}}, "class_weight or sample_weight, and not both"),
        ({"class_weight": {3: 1.0}}, r"class_weight of classes from 0 to 2. Received: \[3\]"),
        (
            {"class_weight": {0: -1.0}},
            r"class_weight\[0\] to be a finite number of at least 0. Received: class_weight\[0\]=-1.0",
        ),
        ({"class_weight": {0: np.nan}}, r"class_weight\[0\] to be a finite number"),
        ({"class_weight": {0: "heavy"}}, r"class_weight\[0\] to be a finite number"),
        ({"class_weight": {"cat": 1.0}}, r"class_weight of classes from 0 to 2. Received: \['cat'\]"),
        ({"class_weight": [1.0, 2.0, 3.0]}, "class_weight as a dictionary.*Received: list"),
    ],
)
def test_weights_that_do_not_fit_are_refused(options, message, linear_network, images_and_labels):
    with pytest.raises(ValueError, match=message):
        model_of(linear_network()).fit(*images_and_labels, verbose=0, **options)


def test_both_kinds_of_weights_at_once_are_refused(linear_network, images_and_labels):
    with pytest.raises(ValueError, match="class_weight or sample weights, and not both. Received: batches with"):
        model_of(linear_network()).fit(sliced(*images_and_labels, WEIGHTS), class_weight={0: 2.0}, verbose=0)


def test_terms_of_other_images_are_not_weighted(linear_network, images_and_labels):
    model = model_of(linear_network(), [DLB()])
    data = paired_dataset(*images_and_labels, batch_size=8, seed=0, **model.data_options)
    with pytest.raises(ValueError, match=r"terms are of other images.*Method.weighable\). Received: \['DLB'\]"):
        model.fit(data, class_weight={0: 2.0}, verbose=0)


@pytest.mark.parametrize("per_position", [False, True])
def test_weights_of_sequences(per_position):
    symbols, labels = np.array([[0, 1, 2], [2, 1, 0]]), np.array([[1, 0, -1], [1, -1, -1]])
    weights = np.array([[0.5, 2.0, 9.0], [3.0, 9.0, 9.0]] if per_position else [2.0, 0.5], "float32")
    network = keras.Sequential([keras.Input((3,), dtype="int32"), keras.layers.Embedding(3, 2)])
    network.set_weights(kernel_of(network))
    model = SelfDistiller(network, sequences=True)
    model.compile(plain_sgd(), run_eagerly=True, weighted_metrics=["accuracy"])
    logits = network.get_weights()[0][symbols]
    each = weights if per_position else np.repeat(weights[:, None], 3, axis=1)
    counted = labels >= 0
    chosen = np.maximum(labels, 0)
    values = -np.log(np.take_along_axis(softmax(logits), chosen[..., None], axis=-1)[..., 0])
    correct = logits.argmax(axis=-1) == chosen
    logs = model.train_on_batch(symbols, labels, weights, return_dict=True)
    assert logs["loss"] == pytest.approx((each * values)[counted].sum() / 3, rel=1e-5)
    assert logs["accuracy"] == pytest.approx((each * correct)[counted].sum() / each[counted].sum(), rel=1e-5)
    with pytest.raises(ValueError, match=r"sample weights \[B\], or \[B, L\] as the labels.*Received: shape \(2, 2\)"):
        model.train_on_batch(symbols, labels, np.ones((2, 2)))
    with pytest.raises(ValueError, match="sample_weight of labels that are every position.*Received: class_weight"):
        model.train_on_batch(symbols, labels, class_weight={0: 2.0})
