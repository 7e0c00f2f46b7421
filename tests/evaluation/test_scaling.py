import numpy as np
import pytest

from cskd_tf import metrics
from cskd_tf.errors import UserError
from cskd_tf.evaluation.scaling import SCALINGS
from tests.evaluation.cases import ORDINARY
from tests.helpers import softmax


def loss(logits, labels):
    return -np.log(softmax(logits)[np.arange(len(labels)), labels]).mean()


def errors_of(logits, labels):
    """The derivative of the cross-entropy by the logits."""
    return (softmax(logits) - np.eye(logits.shape[1])[labels]) / len(labels)


def test_the_derivative_by_the_temperature_is_zero():
    logits, labels = ORDINARY
    for scale in (1e-6, 0.3, 1.0, 40.0, 1e5):
        fitted = metrics.TemperatureScaling.fit(scale * logits, labels)
        slope = (errors_of(fitted.apply(scale * logits), labels) * logits).sum()
        assert abs(slope) < 1e-10
        assert fitted.temperature / scale == pytest.approx(metrics.TemperatureScaling.fit(logits, labels).temperature)
    assert fitted.parameters() == {"temperature": fitted.temperature}


def test_the_gradient_of_vector_and_matrix_is_zero():
    logits, labels = ORDINARY
    logits = 30 * logits + 7  # neither near 1 nor near 0
    errors = errors_of(metrics.VectorScaling.fit(logits, labels).apply(logits), labels)
    assert np.abs((errors * logits).sum(axis=0)).max() < 1e-4
    assert np.abs(errors.sum(axis=0)).max() < 1e-6
    errors = errors_of(metrics.MatrixScaling.fit(logits, labels).apply(logits), labels)
    assert np.abs(logits.T @ errors).max() < 1e-4
    assert np.abs(errors.sum(axis=0)).max() < 1e-6


def test_columns_of_very_different_size_have_their_optimum():
    generator = np.random.default_rng(0)
    labels = np.arange(600) % 4
    logits = 2 * np.eye(4)[labels] + generator.normal(size=(600, 4))
    sizes = np.logspace(-4, 4, 4)
    for kind in (metrics.VectorScaling, metrics.MatrixScaling):
        alike = kind.fit(logits, labels).apply(logits)
        np.testing.assert_allclose(kind.fit(sizes * logits, labels).apply(sizes * logits), alike, atol=1e-6)


@pytest.mark.parametrize("kind", [metrics.VectorScaling, metrics.MatrixScaling])
@pytest.mark.parametrize("rounding", [0.0, 1e-9, 1e-7, 1e-5])
def test_a_column_that_is_zero_for_most_images_counts(kind, rounding):
    """As behind a ReLU; what is nearly zero is no scale to measure the others by."""
    generator = np.random.default_rng(0)
    labels = np.arange(600) % 4
    logits = 1.5 * np.eye(4)[labels] + generator.normal(size=(600, 4))
    shown = generator.uniform(size=600) < np.where(labels == 0, 0.6, 0.06)
    logits[:, 0] = np.where(shown, 2 + generator.normal(size=600), rounding * generator.normal(size=600))
    exact = np.where(np.abs(logits) < 1e-4, 0.0, logits)
    found, expected = (loss(kind.fit(each, labels).apply(each), labels) for each in (logits, exact))
    assert found == pytest.approx(expected, abs=1e-3)
    without = np.where(np.arange(4) == 0, 0.0, logits)
    assert found < loss(kind.fit(without, labels).apply(without), labels) - 0.02


@pytest.mark.parametrize("kind", [metrics.VectorScaling, metrics.MatrixScaling])
def test_one_image_of_huge_logits_is_no_reason_to_refuse_the_others(kind):
    generator = np.random.default_rng(0)
    labels = np.arange(400) % 4
    logits = 2.5 * np.eye(4)[labels] + generator.normal(size=(400, 4))
    largest = np.flatnonzero(logits.argmax(axis=1) == labels)[0]
    best = []
    for factor in (100.0, 1e4, 1e5, 1e6, 1e8):  # which is right, and sure of it, whatever the factor
        scaled = np.where(np.arange(400)[:, None] == largest, factor * logits, logits)
        try:
            best.append(loss(kind.fit(scaled, labels).apply(scaled), labels))
        except UserError:
            assert factor > 1e5  # where float64 ends
    assert len(best) >= 3
    np.testing.assert_allclose(best, best[0], atol=1e-8)


@pytest.mark.parametrize("value", [0.3, -27.6, 1e-3])
def test_a_class_of_which_all_images_say_the_same(value):
    logits, labels = ORDINARY
    logits = logits.copy()
    logits[:, 2] = value  # whose mean in float64 is not quite it
    for name in ("vector", "matrix"):
        fitted = SCALINGS[name].fit(logits, labels)
        errors = errors_of(fitted.apply(logits), labels)
        assert np.abs(errors.sum(axis=0)).max() < 1e-6
        assert loss(fitted.apply(logits), labels) < loss(logits, labels)


def test_each_scaling_is_at_least_as_good_as_the_one_before_it():
    logits, labels = ORDINARY
    losses = [loss(scaling.fit(logits, labels).apply(logits), labels) for scaling in SCALINGS.values()]
    assert loss(logits, labels) > losses[0] > losses[1] > losses[2]
    for name, move in (("vector", np.array([1.01, 1, 1, 1])), ("matrix", np.diag([1.01, 1, 1, 1]))):
        fitted = SCALINGS[name].fit(logits, labels)
        moved = SCALINGS[name](fitted.weights * move, fitted.biases + np.array([0.01, 0, 0, 0]))
        assert loss(moved.apply(logits), labels) > loss(fitted.apply(logits), labels)


def test_half_precision_is_fitted_in_double():
    logits, labels = ORDINARY
    half = logits.astype(np.float16)
    for scaling in SCALINGS.values():
        np.testing.assert_array_equal(
            scaling.fit(half, labels).apply(half), scaling.fit(half.astype(float), labels).apply(half.astype(float))
        )


@pytest.mark.parametrize(
    ("name", "logits", "labels", "message"),
    [
        ("temperature", 2 * np.eye(3), [0, 1, 2], "lower the temperature, the better"),
        ("temperature", 2 * np.eye(3), [1, 2, 0], "higher the temperature, the better"),
        ("temperature", np.zeros((4, 3)), [0, 1, 2, 0], "higher the temperature, the better"),
        ("temperature", np.zeros((4, 1)), [0, 0, 0, 0], "higher the temperature, the better"),
        ("vector", 2 * np.eye(3), [0, 1, 2], "images as there are parameters, 6. Received: 3 images"),
        ("matrix", 2 * np.eye(3), [0, 1, 2], "parameters, 12. Received: 3 images"),
        ("vector", ORDINARY[0], np.minimum(ORDINARY[1], 2), "images of every class. Received: none of class 3"),
        ("matrix", 9 * np.eye(4)[ORDINARY[1]] + ORDINARY[0], ORDINARY[1], "parameters tell apart"),
    ],
)  # fmt: skip
def test_where_nothing_is_the_best_it_is_said(name, logits, labels, message):
    with pytest.raises(ValueError, match=message):
        SCALINGS[name].fit(logits, labels)


def test_a_part_that_can_be_told_apart_has_no_best_parameters_either():
    """Class 0 is alone above 5 in its logit: its weight and its bias would grow for ever, though others overlap."""
    logits, labels = ORDINARY
    logits = logits.copy()
    logits[:, 0] = np.where(labels == 0, 10.0, 0.0) + 0.1 * logits[:, 0]
    with pytest.raises(ValueError, match="parameters tell apart"):
        metrics.VectorScaling.fit(logits, labels)
