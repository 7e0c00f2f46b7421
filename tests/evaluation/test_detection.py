import numpy as np
import pytest
import scipy.spatial
import sklearn.metrics

from cskd_tf import metrics
from tests.evaluation.cases import SCORES
from tests.helpers import softmax


@pytest.mark.parametrize("name", SCORES)
def test_detection_by_counting_pairs_and_thresholds(name):
    own, others = (part.astype(float) for part in SCORES[name])
    result = metrics.detection(own, others)
    pairs = (own[:, None] > others).mean() + (own[:, None] == others).mean() / 2
    assert result["auroc"] == pytest.approx(pairs, abs=1e-12)
    highest = max(threshold for threshold in own if (own >= threshold).mean() >= 0.95)
    assert result["fpr_at_95_recall"] == pytest.approx((others >= highest).mean(), abs=1e-12)
    precision, recall, before = 0.0, 0.0, 0.0
    for threshold in sorted({*own, *others}, reverse=True):
        recall = (own >= threshold).mean()
        precision += (
            (recall - before) * (own >= threshold).sum() / sum((part >= threshold).sum() for part in (own, others))
        )
        before = recall
    assert result["aupr_inside"] == pytest.approx(precision, abs=1e-12)


@pytest.mark.parametrize("name", SCORES)
def test_detection_of_the_others_is_that_of_the_own_with_signs_turned(name):
    own, others = SCORES[name]
    result, turned = metrics.detection(own, others), metrics.detection(-others, -own)
    assert result["aupr_outside"] == pytest.approx(turned["aupr_inside"], abs=1e-12)
    assert result["auroc"] == pytest.approx(turned["auroc"], abs=1e-12)
    labels = np.repeat([1, 0], [len(own), len(others)])
    expected = sklearn.metrics.roc_auc_score(labels, np.concatenate([own, others]))
    assert result["auroc"] == pytest.approx(expected, abs=1e-12)


def test_scores_of_outputs():
    generator = np.random.default_rng(0)
    logits = 300 * generator.normal(size=(5, 3))
    np.testing.assert_allclose(metrics.maximum_probability(logits), softmax(logits).max(axis=1))
    smaller = logits / 100
    np.testing.assert_allclose(metrics.negative_energy(smaller), np.log(np.exp(smaller).sum(axis=1)))
    np.testing.assert_allclose(metrics.negative_energy(smaller + 5000), 5000 + np.log(np.exp(smaller).sum(axis=1)))


@pytest.mark.parametrize("neighbours", [1, 4, 30])
def test_distance_to_the_nearest_by_sorting_all(neighbours):
    generator = np.random.default_rng(0)
    points, known = generator.normal(size=(8, 3)), generator.normal(size=(30, 3))
    known[3] = 0  # without a direction: a collapsed network
    lengths = np.maximum(np.linalg.norm(known, axis=1, keepdims=True), 1e-300)
    all_distances = scipy.spatial.distance.cdist(
        points / np.linalg.norm(points, axis=1, keepdims=True), known / lengths
    )
    expected = -np.sort(all_distances, axis=1)[:, neighbours - 1]
    measured = metrics.negative_distance(points, reference=known, neighbours=neighbours)
    np.testing.assert_allclose(measured, expected, atol=1e-7)


def test_what_cannot_be_told_apart_is_refused():
    with pytest.raises(ValueError, match=r"Expected scores \[N\] and \[M\]. Received: shapes \(0,\) and \(1,\)"):
        metrics.detection([], [1.0])
    with pytest.raises(ValueError, match="Expected finite scores"):
        metrics.detection([np.nan], [1.0])
    with pytest.raises(ValueError, match="neighbours from 1 to 2, the training images. Received: 3"):
        metrics.negative_distance(np.eye(2), reference=np.eye(2), neighbours=3)
    with pytest.raises(ValueError, match="Received: 1.5"):
        metrics.negative_distance(np.eye(2), reference=np.eye(2), neighbours=1.5)
    with pytest.raises(ValueError, match=r"embeddings of one length. Received: shapes \(2, 2\) and \(3, 3\)"):
        metrics.negative_distance(np.eye(2), reference=np.eye(3))
