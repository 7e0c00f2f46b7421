import dataclasses
import math

import numpy as np
import pytest
import scipy.stats

from cskd_tf import metrics
from cskd_tf.evaluation.conformal import FREE_RANKS, KINDS, PENALTY, nonconformity, quantile, uniforms_of
from tests.evaluation.cases import CASES, NAMES
from tests.helpers import softmax


def by_hand(row, label, *, kind, uniform):
    """One number, by its definition."""
    if kind == "threshold":
        return 1 - row[label]
    order = sorted(range(len(row)), key=lambda number: (-row[number], number))
    rank = order.index(label) + 1
    total = sum(row[number] for number in order[:rank]) - uniform * row[label]
    return total + (PENALTY * max(rank - FREE_RANKS, 0) if kind == "raps" else 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "logits", "labels"), CASES, ids=NAMES)
def test_nonconformity_by_its_definition(name, logits, labels, kind):
    probabilities = softmax(logits.astype(float))[:20]
    uniforms = np.random.default_rng(0).uniform(size=len(probabilities))
    expected = [
        [by_hand(row, label, kind=kind, uniform=uniform) for label in range(len(row))]
        for row, uniform in zip(probabilities, uniforms, strict=True)
    ]
    np.testing.assert_allclose(nonconformity(probabilities, kind=kind, uniforms=uniforms), expected, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_quantile_is_the_smallest_that_keeps_the_promise(kind):
    """Of n + 1 images, ceil((n + 1)(1 - alpha)) of them: 19 of 20 with alpha = .05, so the 19th of 19."""
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(19, 4)), generator.integers(0, 4, 19)
    fitted = metrics.ConformalSets.fit(logits, labels, kind=kind, alpha=0.05)
    strange = nonconformity(softmax(logits), kind=kind, uniforms=uniforms_of(logits, seed=0))[np.arange(19), labels]
    assert fitted.largest == pytest.approx(strange.max(), abs=1e-12)
    fitted = metrics.ConformalSets.fit(logits, labels, kind=kind, alpha=0.1)
    assert fitted.largest == pytest.approx(np.sort(strange)[17], abs=1e-12)
    with_too_few = metrics.ConformalSets.fit(logits, labels, kind=kind, alpha=0.04)
    assert math.isinf(with_too_few.largest)
    assert with_too_few.sets(logits).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_sets_hold_the_class_as_often_as_promised(kind, alpha):
    """Exactly 1 - alpha on average over draws, but for ties and less than 1 / (n + 1)."""
    generator = np.random.default_rng(1)
    coverages = []
    for _ in range(60):
        labels = generator.integers(0, 10, 600)
        logits = 2 * np.eye(10)[labels] + 1.5 * generator.normal(size=(600, 10))
        fitted = metrics.ConformalSets.fit(logits[:199], labels[:199], kind=kind, alpha=alpha)
        coverages.append(metrics.coverage_and_size(fitted.sets(logits[199:]), labels[199:])["coverage"])
    error = np.std(coverages) / np.sqrt(len(coverages))
    assert abs(np.mean(coverages) - (1 - alpha)) < 4 * error + 1 / 200


def test_penalised_ranks_make_large_sets_smaller():
    generator = np.random.default_rng(2)
    labels = generator.integers(0, 60, 4000)
    logits = 2 * np.eye(60)[labels] + generator.normal(size=(4000, 60))
    sizes = {}
    for kind in KINDS:
        fitted = metrics.ConformalSets.fit(logits[:2000], labels[:2000], kind=kind)
        sizes[kind] = fitted.sets(logits[2000:]).sum(axis=1)
    assert sizes["raps"].max() < sizes["aps"].max()
    assert sizes["threshold"].mean() < sizes["aps"].mean()


def test_an_alpha_of_nearly_one_leaves_nearly_nothing_and_what_is_no_set_is_refused():
    assert quantile(np.arange(1.0, 10.0), 1 - 1e-13) == 1.0
    with pytest.raises(ValueError, match="Expected sets as bool .*Received: float64"):
        metrics.coverage_and_size(np.array([[0.9, 0.1]]), np.array([0]))
    assert metrics.coverage_and_size([[True, False]], [0]) == {"coverage": 1.0, "size": 1.0, "empty": 0.0}


@pytest.mark.parametrize(("options", "message"), [({"kind": "lac"}, "kind='lac'"), ({"alpha": 0.0}, "alpha=0.0")])
def test_other_kinds_and_alphas_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        metrics.ConformalSets.fit([[1.0, 0.2]], [0], **{"kind": "aps", **options})


@pytest.mark.parametrize("kind", KINDS)
def test_an_images_set_is_the_same_alone_and_among_others(kind):
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(300, 5)), generator.integers(0, 5, 300)
    fitted = metrics.ConformalSets.fit(logits[:100], labels[:100], kind=kind, alpha=0.3, seed=3)
    assert fitted.seed == 3
    together = fitted.sets(logits)
    alone = np.concatenate([fitted.sets(row[None]) for row in logits])
    np.testing.assert_array_equal(alone, together)
    other = metrics.ConformalSets.fit(logits[:100], labels[:100], kind=kind, alpha=0.3, seed=4)
    assert (other.sets(logits) != together).any() == (kind != "threshold")
    redrawn = dataclasses.replace(fitted, seed=4)  # by the same threshold
    assert (redrawn.sets(logits) != together).any() == (kind != "threshold")


def test_the_random_part_is_uniform():
    drawn = uniforms_of(np.random.default_rng(0).normal(size=(20_000, 3)), seed=1)
    assert scipy.stats.kstest(drawn, "uniform").pvalue > 0.01


def test_logits_of_other_classes_than_fitted_are_refused():
    fitted = metrics.ConformalSets.fit(2 * np.eye(3), np.arange(3), kind="aps")
    with pytest.raises(ValueError, match=r"Expected logits of 3 classes, as fitted\. Received: 7"):
        fitted.sets(np.zeros((2, 7)))
