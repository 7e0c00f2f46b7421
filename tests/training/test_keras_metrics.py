import keras
import numpy as np
import pytest
import tensorflow as tf

import cskd_tf
from cskd_tf.metrics import ExpectedCalibrationError, expected_calibration_error
from tests.helpers import softmax
from tests.selection import few


def split(size=23, classes=4, seed=0):
    generator = np.random.default_rng(seed)
    return (2 * generator.normal(size=(size, classes))).astype("float32"), generator.integers(0, classes, size)


def measured(metric, labels, scores, weight=None, batch=8):
    for start in range(0, len(scores), batch):
        part = slice(start, start + batch)
        metric.update_state(labels[part], scores[part], None if weight is None else weight[part])
    return float(metric.result())


def test_without_an_argument_it_takes_logits_over_uneven_batches():
    logits, labels = split()
    metric = ExpectedCalibrationError(bins=15)
    assert measured(metric, labels, logits) == pytest.approx(
        expected_calibration_error(logits, labels, bins=15), abs=1e-6
    )
    metric.reset_state()
    assert float(metric.result()) == 0.0  # of nothing, as Keras' Mean has it


def test_the_larger_logit_is_the_prediction_where_probabilities_are_equal():
    metric = ExpectedCalibrationError()
    metric.update_state([1], [[0.0, 1e-10]])
    assert float(metric.result()) == pytest.approx(0.5)
    assert float(keras.ops.sum(metric._gap)) == pytest.approx(0.5)  # right, and not wrong


def test_probabilities_when_told():
    logits, labels = split()
    metric = ExpectedCalibrationError(from_logits=False)
    assert measured(metric, labels, softmax(logits)) == pytest.approx(
        expected_calibration_error(logits, labels), abs=1e-6
    )


@pytest.mark.parametrize(
    "form",
    [
        lambda labels: labels[:, None],
        lambda labels: labels[:, None].astype("float32"),
        lambda labels: labels.astype("uint8"),
        lambda labels: np.eye(4)[labels],
        lambda labels: np.eye(4, dtype=int)[labels],
        lambda labels: np.eye(4, dtype=bool)[labels],
        lambda labels: 0.7 * np.eye(4)[labels] + 0.3 * np.eye(4)[(labels + 1) % 4],
    ],
)
def test_labels_as_columns_one_hot_and_soft(form):
    logits, labels = split()
    assert measured(ExpectedCalibrationError(), form(labels), logits) == pytest.approx(
        expected_calibration_error(logits, labels), abs=1e-6
    )


@pytest.mark.parametrize("column", [False, True])
def test_weights_count_as_often_as_they_say(column):
    logits, labels = split()
    weight = np.random.default_rng(1).integers(0, 4, 23)
    repeated = np.repeat(np.arange(23), weight)
    expected = expected_calibration_error(logits[repeated], labels[repeated])
    given = weight[:, None] if column else weight
    assert measured(ExpectedCalibrationError(), labels, logits, given) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("from_logits", [True, False])
def test_predictions_of_sixteen_bits(dtype, from_logits):
    logits, labels = split(size=50, classes=100)
    scores = tf.cast(logits if from_logits else softmax(logits), dtype)
    wide = tf.cast(scores, tf.float64).numpy()
    confidence = (softmax(wide) if from_logits else wide).max(axis=1)
    expected = sum(
        abs(np.sum((wide.argmax(axis=1) == labels)[inside] - confidence[inside])) / 50
        for inside in (np.ceil(20 * confidence) == number for number in range(1, 21))
    )
    metric = ExpectedCalibrationError(from_logits=from_logits)
    assert measured(metric, labels, scores) == pytest.approx(expected, abs=1e-6)


def test_confidences_at_the_edges():
    probabilities = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [1.0, 0.0]], "float32")
    metric = ExpectedCalibrationError(bins=2, from_logits=False)
    # Two of the three at 1 are right, so is the one at .5, in the first bin: (3 * |2/3 - 1| + 1 * |1 - .5|) / 4.
    assert measured(metric, np.array([0, 0, 0, 0]), probabilities) == pytest.approx((1 + 0.5) / 4)
    assert expected_calibration_error(probabilities, [0, 0, 0, 0], bins=2, from_logits=False) == 0.375
    logits = np.array([[800.0, 0.0], [0.0, 800.0]], "float32")
    assert measured(ExpectedCalibrationError(), np.array([0, 0]), logits) == 0.5
    # A collapsed network's: ten classes at exactly .1, the upper edge of the second bin.
    metric = ExpectedCalibrationError(bins=10)
    assert measured(metric, np.zeros(4, int), np.full((4, 10), 0.1, "float32")) == pytest.approx(0.9)
    assert metric._count.numpy().tolist() == [4] + [0] * 9


@pytest.mark.parametrize("wrong", [[[3.0, 1.0]], [[1.5, -0.5]], [[0.5, 0.498]]])
def test_what_is_no_probability_is_refused(wrong):
    metric = ExpectedCalibrationError(from_logits=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expected probabilities that sum to 1; from_logits=True"):
        metric.update_state([0], wrong)
    assert np.isnan(float(metric.result()))
    metric.reset_state()
    metric.update_state([0], [[0.9, 0.1]])
    assert float(metric.result()) == pytest.approx(0.1)


@pytest.mark.parametrize("from_logits", few([True, False], 1))
def test_under_xla(from_logits):
    logits, labels = split()
    metric = ExpectedCalibrationError(from_logits=from_logits)

    @tf.function(jit_compile=True)
    def update(labels, scores, weight):
        metric.update_state(labels, scores, weight)
        return metric.result()

    update(labels, logits if from_logits else softmax(logits), np.ones((23, 1)))
    assert float(metric.result()) == pytest.approx(expected_calibration_error(logits, labels), abs=1e-6)
    value = update(labels, 3 * logits, np.ones((23, 1)))
    assert np.isnan(float(value)) is not from_logits  # XLA drops the assertion


def test_in_compile_of_a_softmax_network(images_and_labels):
    images, labels = images_and_labels
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")])
    metric = ExpectedCalibrationError(bins=10, from_logits=False)
    model.compile(loss="sparse_categorical_crossentropy", metrics=[metric], weighted_metrics=[])
    value = model.evaluate(images, labels, verbose=0, return_dict=True)["ece"]
    expected = expected_calibration_error(model.predict(images, verbose=0), labels, bins=10, from_logits=False)
    assert value == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("jit_compile", few([False, True], 1))
def test_in_compile_of_a_distiller(images_and_labels, linear_network, jit_compile):
    images, labels = images_and_labels
    model = cskd_tf.SelfDistiller(linear_network())
    model.compile("sgd", metrics=[ExpectedCalibrationError()], jit_compile=jit_compile)
    value = model.evaluate(images, labels, batch_size=8, verbose=0, return_dict=True)["ece"]
    assert value == pytest.approx(expected_calibration_error(model.predict(images, verbose=0), labels), abs=1e-6)


@pytest.mark.parametrize("floatx", few(["float64", "float16"], 1))
def test_in_compile_whatever_keras_computes_in(floatx, images_and_labels, linear_network):
    """In float16 a count would end at 2048."""
    images, labels = (np.tile(array, (100, *[1] * (array.ndim - 1))) for array in images_and_labels)
    keras.config.set_floatx(floatx)
    try:
        model = linear_network(dtype="float32")
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss, metrics=[ExpectedCalibrationError()])
        value = model.evaluate(images, labels, batch_size=1100, verbose=0, return_dict=True)["ece"]
        logits = model.predict(images, verbose=0)
    finally:
        keras.config.set_floatx("float32")
    assert value == pytest.approx(expected_calibration_error(logits, labels), abs=1e-6)


@pytest.mark.thorough
def test_on_two_replicas(images_and_labels, linear_network, two_replicas):
    images, labels = images_and_labels
    with two_replicas.scope():
        model = linear_network()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss, metrics=[ExpectedCalibrationError()])
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)
    value = model.evaluate(data, verbose=0, return_dict=True)["ece"]
    assert value == pytest.approx(expected_calibration_error(model.predict(images, verbose=0), labels), abs=1e-6)


def test_saved_and_loaded():
    for from_logits in (True, False):
        metric = ExpectedCalibrationError(bins=7, from_logits=from_logits)
        loaded = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
        assert (loaded.bins, loaded.from_logits, loaded.name) == (7, from_logits, "ece")


@pytest.mark.parametrize(
    ("labels", "scores", "weight", "message"),
    [
        ([0], [[1.0]], None, r"two classes or more. Received: shape \(1, 1\)"),
        ([0], [1.0], None, r"predictions \[B, classes\] of two classes or more. Received: shape \(1,\)"),
        ([[0, 1, 0]], [[1.0, 2.0]], None, r"Received: shapes \(1, 3\) and \(1, 2\)"),
        ([0, 1], [[1.0, 2.0]], None, r"Received: shapes \(2,\) and \(1, 2\)"),
        ([0], [[1.0, 2.0]], [[1.0, 2.0]], r"weights \[B\] or \[B, 1\] beside \(1,\). Received: shape \(1, 2\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(labels, scores, weight, message):
    with pytest.raises(ValueError, match=message):
        ExpectedCalibrationError().update_state(labels, scores, weight)


def test_bins_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="bins=0"):
        ExpectedCalibrationError(bins=0)


@pytest.mark.parametrize(
    ("labels", "weights", "message"),
    [
        ([4, 0], None, "Expected labels from 0 to classes - 1"),
        ([-1, 0], None, "Expected labels from 0 to classes - 1"),
        ([1, 0], [-1.0, 2.0], "Expected weights that are finite and not below 0"),
        ([1, 0], [np.nan, 2.0], "Expected weights that are finite and not below 0"),
    ],
)
def test_labels_and_weights_that_cannot_be_are_refused_and_under_xla_undefined(labels, weights, message):
    logits = np.zeros((2, 4), "float32")
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        ExpectedCalibrationError().update_state(labels, logits, weights)
    metric = ExpectedCalibrationError()
    tf.function(metric.update_state, jit_compile=True)(tf.constant(labels), tf.constant(logits), weights)
    assert np.isnan(metric.result())
