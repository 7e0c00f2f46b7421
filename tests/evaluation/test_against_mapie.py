"""Conformal sets are those of MAPIE, on probabilities that are given."""

import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from mapie.conformity_scores.sets.raps import RAPSConformityScore
from sklearn.base import BaseEstimator, ClassifierMixin

from cskd_tf import metrics
from cskd_tf.evaluation.conformal import nonconformity, quantile
from tests.evaluation.cases import CASES
from tests.helpers import softmax

SEED = 3


class Given(ClassifierMixin, BaseEstimator):
    """A classifier whose inputs are its probabilities."""

    def __init__(self, classes=2):
        self.classes = classes

    def fit(self, inputs, labels):
        return self

    @property
    def classes_(self):
        return np.arange(self.classes)

    def __sklearn_is_fitted__(self):
        return True

    def predict_proba(self, inputs):
        return inputs

    def predict(self, inputs):
        return inputs.argmax(axis=1)


def halves(name):
    logits, labels = next((logits.astype(float), labels) for known, logits, labels in CASES if known == name)
    probabilities = softmax(logits)
    return probabilities[::2], labels[::2], probabilities[1::2]


def fitted(probabilities, labels, *, alpha, score):
    """MAPIE's classifier and its score, conformalized."""
    options = {"confidence_level": 1 - alpha, "conformity_score": score, "prefit": True, "random_state": SEED}
    theirs = SplitConformalClassifier(Given(probabilities.shape[1]), **options)
    theirs.conformalize(probabilities, labels)
    return theirs


def quantile_of(theirs):
    return theirs._mapie_classifier.conformity_score_function_.quantiles_.item()


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("name", ["random", "tied", "half", "all right", "all wrong"])
def test_threshold_sets(name, alpha):
    probabilities, labels, others = halves(name)
    theirs = fitted(probabilities, labels, alpha=alpha, score="lac")
    ours = metrics.ConformalSets.fit(np.log(probabilities), labels, kind="threshold", alpha=alpha)
    np.testing.assert_array_equal(ours.sets(np.log(others)), theirs.predict_set(others)[1][:, :, 0])
    assert ours.largest == pytest.approx(quantile_of(theirs), abs=1e-6)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("name", ["random", "half", "all right", "all wrong"])
def test_aps_sets(name, alpha):
    """Both draw one number for each image; ours are MAPIE's here."""
    probabilities, labels, others = halves(name)
    theirs = fitted(probabilities, labels, alpha=alpha, score="aps")
    sets = theirs.predict_set(others, conformity_score_params={"include_last_label": "randomized"})[1][:, :, 0]
    drawn = [np.random.RandomState(SEED).uniform(size=len(part)) for part in (probabilities, others)]
    strange = nonconformity(probabilities, kind="aps", uniforms=drawn[0])[np.arange(len(labels)), labels]
    np.testing.assert_allclose(strange, theirs._mapie_classifier.conformity_scores_[:, 0], atol=1e-6)
    largest = quantile(strange, alpha)
    assert largest == pytest.approx(quantile_of(theirs), abs=1e-6)
    np.testing.assert_array_equal(nonconformity(others, kind="aps", uniforms=drawn[1]) <= largest, sets)
    assert 0 < sets.mean() < 1


@pytest.mark.parametrize(("penalty", "free_ranks"), [(0.01, 5), (0.2, 1)])
def test_raps_scores(penalty, free_ranks):
    probabilities, labels, _ = halves("random")
    score = RAPSConformityScore()
    sums, ranks = score.get_true_label_cumsum_proba(labels, probabilities, np.arange(6))
    theirs = score._regularize_conformity_score(np.array([free_ranks]), penalty, sums, ranks)[:, 0, 0]
    options = {"uniforms": np.zeros(len(labels)), "penalty": penalty, "free_ranks": free_ranks}
    ours = nonconformity(probabilities, kind="raps", **options)[np.arange(len(labels)), labels]
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
