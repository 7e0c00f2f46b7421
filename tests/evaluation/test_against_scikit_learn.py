"""Metrics and scalings from parts of scikit-learn: its ranks, curves, neighbours and regressions."""

import math

import numpy as np
import pytest
import sklearn.calibration
import sklearn.frozen
import sklearn.linear_model
import sklearn.metrics
import sklearn.neighbors

from cskd_tf import metrics
from cskd_tf.evaluation.assessment import decompose
from tests.evaluation.cases import CASES, NAMES, ORDINARY, PROBABILITIES
from tests.evaluation.given import GivenLogits
from tests.helpers import softmax


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize(("name", "logits", "labels"), CASES, ids=NAMES)
def test_top_k_error(name, logits, labels, k):
    """Of equal scores it takes the higher class first, and we the lower one: it gets the classes in reverse."""
    classes = logits.shape[1]
    measured = metrics.top_k_error(logits, labels, k=k)
    if k >= classes:  # of which it warns
        assert measured == 0
        return
    options = {"k": k, "labels": np.arange(classes)}
    right = sklearn.metrics.top_k_accuracy_score(classes - 1 - labels, logits[:, ::-1], **options)
    assert measured == pytest.approx(1 - right, abs=1e-12)
    if name not in ("tied", "equal", "certain"):
        right = sklearn.metrics.top_k_accuracy_score(labels, logits, **options)
        assert measured == pytest.approx(1 - right, abs=1e-12)


def risks_by_roc(confidence, correct):
    """Risks of a ROC curve between what is right and what is wrong, whose diagonals are ties in a random order."""
    wrong, right, _ = sklearn.metrics.roc_curve(correct, confidence, drop_intermediate=False)
    wrong, right = wrong * (~correct).sum(), right * correct.sum()
    answered = np.arange(1, len(correct) + 1)
    return np.interp(answered, wrong + right, wrong) / answered


@pytest.mark.parametrize("name", sorted(PROBABILITIES.keys() - {"one class", "one image", "all right", "all wrong"}))
def test_areas_of_selective_classification(name):
    """But where all are right, or wrong, and there is no ROC curve."""
    probabilities, labels = PROBABILITIES[name]
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    risks, best = risks_by_roc(confidence, correct), risks_by_roc(correct.astype(float), correct)
    # As Traub et al. (2024) derive the AUGRC from the ROC curve of what is right.
    error, order = 1 - correct.mean(), sklearn.metrics.roc_auc_score(correct, confidence)
    for measure, expected in (
        (metrics.area_under_risk_coverage, risks.mean()),
        (metrics.excess_area_under_risk_coverage, (risks - best).mean()),
        (metrics.area_under_generalized_risk_coverage, (1 - order) * error * (1 - error) + error**2 / 2),
    ):
        assert measure(probabilities, labels, from_logits=False) == pytest.approx(expected, abs=1e-12)


def found_among_neighbours(embeddings, labels, *, k):
    """Of each image how probably one of its class is among the k nearest of scikit-learn's tree."""
    tree = sklearn.neighbors.NearestNeighbors(algorithm="kd_tree").fit(embeddings)  # differences, and no products
    distances, others = tree.kneighbors(n_neighbors=len(labels) - 1)
    shares = []
    for distance, mates in zip(distances, labels[others] == labels[:, None], strict=True):
        if mates.any():
            nearer, tied = distance < distance[k - 1], distance == distance[k - 1]
            draws, places = int(tied.sum()), k - int(nearer.sum())
            missed = math.comb(draws - int((mates & tied).sum()), places) / math.comb(draws, places)
            shares.append(0 if mates[nearer].any() else missed)
    return 1 - np.mean(shares)


@pytest.mark.parametrize("k", [1, 2, 8])
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("one class", "one image")])
def test_recall_at_k(name, k):
    """Logits stand for embeddings: of which many are equal, or at equal distance, in some."""
    embeddings, labels = next((logits, labels) for known, logits, labels in CASES if known == name)
    expected = found_among_neighbours(embeddings.astype(float), labels, k=k)
    assert metrics.recall_at_k(embeddings, labels, k=k) == pytest.approx(expected, abs=1e-12)


def cases_of_two(logits, labels):
    """The images of the first two classes, by these alone."""
    return logits[labels < 2, :2].astype(float), labels[labels < 2]


SCALED = {name: (logits.astype(float), labels) for name, logits, labels in CASES if name in ("random", "tied", "half")}
SCALED |= {"ordinary": ORDINARY, "too sure": (3 * ORDINARY[0], ORDINARY[1])}
SCALED["hardly sure"] = ORDINARY[0] / 50, ORDINARY[1]


@pytest.mark.parametrize("name", SCALED)
def test_temperature_and_the_parts_of_the_cross_entropy(name):
    """Its temperature is searched for up to 1e-8 or so, and the cross-entropy is flat there."""
    logits, labels = SCALED[name]
    options = {"method": "temperature", "ensemble": False}
    given = sklearn.frozen.FrozenEstimator(GivenLogits(logits.shape[1]))
    scaled = sklearn.calibration.CalibratedClassifierCV(given, **options).fit(logits, labels)
    fitted = metrics.TemperatureScaling.fit(logits, labels)
    expected = scaled.predict_proba(logits)
    np.testing.assert_allclose(softmax(fitted.apply(logits)), expected, atol=1e-6)
    parts = decompose(logits, labels)
    lowest = sklearn.metrics.log_loss(labels, expected)
    assert parts["nll_refinement"] == pytest.approx(lowest, abs=1e-9)
    before = sklearn.metrics.log_loss(labels, softmax(logits))
    assert parts["nll_calibration"] == pytest.approx(before - lowest, abs=1e-9)


def regression(logits, labels, **options):
    return sklearn.linear_model.LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000, **options).fit(logits, labels)


@pytest.mark.parametrize("name", SCALED)
def test_scalings_of_two_classes(name):
    """A temperature is the regression on the difference of their logits, a vector the one on both."""
    logits, labels = cases_of_two(*SCALED[name])
    size = logits.std()  # its search needs inputs of about 1
    difference = (logits[:, 1:] - logits[:, :1]) / size
    expected = regression(difference, labels, fit_intercept=False).predict_proba(difference)
    measured = metrics.TemperatureScaling.fit(logits, labels).apply(logits)
    np.testing.assert_allclose(softmax(measured), expected, atol=1e-6)
    expected = regression(logits / size, labels).predict_proba(logits / size)
    measured = metrics.VectorScaling.fit(logits, labels).apply(logits)
    np.testing.assert_allclose(softmax(measured), expected, atol=1e-6)


@pytest.mark.parametrize("name", SCALED)
def test_matrix_scaling(name):
    logits, labels = SCALED[name]
    size = logits.std()
    expected = regression(logits / size, labels).predict_proba(logits / size)
    np.testing.assert_allclose(softmax(metrics.MatrixScaling.fit(logits, labels).apply(logits)), expected, atol=1e-6)
