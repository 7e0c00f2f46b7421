"""Conformal sets are those of MAPIE, on probabilities that are given.

Where several classes of an image are equally probable, MAPIE leaves their order to the sort, and has all or none of
them in a set. Ours come by their number: to MAPIE, which takes differences below 1e-8 for none, they go in that order.
"""

import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from mapie.conformity_scores.sets.raps import RAPSConformityScore
from sklearn.model_selection import StratifiedShuffleSplit

from cskd_tf import metrics
from cskd_tf.evaluation.conformal import nonconformity, quantile
from tests.evaluation.cases import PROBABILITIES
from tests.evaluation.given import GivenProbabilities

pytestmark = pytest.mark.filterwarnings("ignore:WARNING. your conformalization dataset has less labels:UserWarning")
SEED = 3
# A share alpha, and one of 1 - alpha, has to be an image of the half that is fitted on, or MAPIE refuses it.
ENOUGH = [
    (name, alpha)
    for name, (_, labels) in PROBABILITIES.items()
    for alpha in (0.05, 0.1, 0.3, 0.6)
    if len(labels[::2]) * min(alpha, 1 - alpha) >= 1
]
OF_TWO_LABELS = {"one class", "one label", "bin edges", "0 and 1"}  # for which MAPIE has thresholds alone


def halves(name):
    probabilities, labels = PROBABILITIES[name]
    return probabilities[::2], labels[::2], probabilities[1::2]


def in_order(probabilities):
    """The same, with equal ones a little smaller from class to class."""
    lower = probabilities + 3e-8 * np.arange(probabilities.shape[1], 0, -1)
    return lower / lower.sum(axis=1, keepdims=True)


def fitted(probabilities, labels, *, alpha, score):
    """MAPIE's classifier and its score, conformalized."""
    options = {"confidence_level": 1 - alpha, "conformity_score": score, "prefit": True, "random_state": SEED}
    theirs = SplitConformalClassifier(GivenProbabilities(probabilities.shape[1]), **options)
    theirs.conformalize(probabilities, labels)
    return theirs


def quantile_of(theirs):
    return theirs._mapie_classifier.conformity_score_function_.quantiles_.item()


@pytest.mark.parametrize(("name", "alpha"), ENOUGH)
def test_threshold_sets(name, alpha):
    probabilities, labels, others = halves(name)
    theirs = fitted(probabilities, labels, alpha=alpha, score="lac")
    logits, of_others = (np.log(np.maximum(part, 1e-300)) for part in (probabilities, others))
    ours = metrics.ConformalSets.fit(logits, labels, kind="threshold", alpha=alpha)
    np.testing.assert_array_equal(ours.sets(of_others), theirs.predict_set(others)[1][:, :, 0])
    assert ours.largest == pytest.approx(quantile_of(theirs), abs=1e-6)


@pytest.mark.parametrize(("name", "alpha"), [pair for pair in ENOUGH if pair[0] not in OF_TWO_LABELS])
def test_aps_sets(name, alpha):
    """Both draw one number for each image; ours are MAPIE's here."""
    probabilities, labels, others = halves(name)
    theirs = fitted(in_order(probabilities), labels, alpha=alpha, score="aps")
    options = {"conformity_score_params": {"include_last_label": "randomized"}}
    sets = theirs.predict_set(in_order(others), **options)[1][:, :, 0]
    drawn = [np.random.RandomState(SEED).uniform(size=len(part)) for part in (probabilities, others)]
    strange = nonconformity(probabilities, kind="aps", uniforms=drawn[0])[np.arange(len(labels)), labels]
    np.testing.assert_allclose(strange, theirs._mapie_classifier.conformity_scores_[:, 0], atol=1e-6)
    largest = quantile(strange, alpha)
    assert largest == pytest.approx(quantile_of(theirs), abs=1e-6)
    ours = nonconformity(others, kind="aps", uniforms=drawn[1])
    clear = np.abs(ours - largest) > 1e-6  # of what is as strange as the limit rounding decides
    np.testing.assert_array_equal((ours <= largest)[clear], sets[clear])


@pytest.mark.parametrize(("penalty", "free_ranks"), [(0.0, 0), (0.01, 5), (0.2, 1)])
@pytest.mark.parametrize("name", sorted(PROBABILITIES.keys() - {"one class"}))
def test_raps_scores(name, penalty, free_ranks):
    """By the functions that its sets are made of, for labels of any number."""
    probabilities, labels = PROBABILITIES[name]
    score = RAPSConformityScore()
    classes = np.arange(probabilities.shape[1])
    sums, ranks = score.get_true_label_cumsum_proba(labels, in_order(probabilities), classes)
    theirs = score._regularize_conformity_score(np.array([free_ranks]), penalty, sums, ranks)[:, 0, 0]
    options = {"uniforms": np.zeros(len(labels)), "penalty": penalty, "free_ranks": free_ranks}
    ours = nonconformity(probabilities, kind="raps", **options)[np.arange(len(labels)), labels]
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.1, 0.3])
@pytest.mark.parametrize("name", ["random", "tied", "half", "all right", "all wrong"])
def test_raps_sets(name, alpha):
    """With the penalty and the free ranks that MAPIE chooses by a fifth of the images, and no random part in the sets.

    MAPIE scales the penalty at random too, where the paper's equation does not; and its sets are never empty.
    """
    probabilities, labels, others = halves(name)
    theirs = fitted(in_order(probabilities), labels, alpha=alpha, score="raps")
    options = {"conformity_score_params": {"include_last_label": False}}
    sets = theirs.predict_set(in_order(others), **options)[1][:, :, 0]
    score = theirs._mapie_classifier.conformity_score_function_
    split = StratifiedShuffleSplit(n_splits=1, test_size=score.size_raps, random_state=SEED)
    kept, _ = next(split.split(probabilities, labels))
    uniforms = np.random.RandomState(SEED).uniform(size=len(kept))
    chosen = {"kind": "raps", "penalty": score.lambda_star, "free_ranks": score.k_star.item()}
    strange = nonconformity(probabilities[kept], uniforms=uniforms, **chosen)[np.arange(len(kept)), labels[kept]]
    largest = quantile(strange, alpha)
    assert largest == pytest.approx(quantile_of(theirs), abs=1e-6)
    ours = nonconformity(others, uniforms=np.zeros(len(others)), **chosen)
    clear = np.abs(ours - largest).min(axis=1) > 1e-6
    empty = (ours > largest).all(axis=1)
    np.testing.assert_array_equal((ours <= largest)[clear & ~empty], sets[clear & ~empty])
    assert (sets[empty].sum(axis=1) == 1).all()
    assert clear.sum() > 10


@pytest.mark.parametrize("kind", ["threshold", "aps", "raps"])
def test_too_few_images_hold_every_class(kind):
    """Of one image nothing can be promised with 90 %: MAPIE refuses, and our sets hold all classes, which is true."""
    probabilities, labels = PROBABILITIES["one image"]
    with pytest.raises(ValueError, match="Number of samples of the score is too low"):
        fitted(probabilities, labels, alpha=0.1, score="lac").predict_set(probabilities)
    ours = metrics.ConformalSets.fit(np.log(probabilities), labels, kind=kind, alpha=0.1)
    assert ours.sets(np.log(probabilities)).all()
