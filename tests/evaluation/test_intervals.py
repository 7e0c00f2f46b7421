import numpy as np
import pytest
import scipy.stats

from cskd_tf.evaluation.intervals import interval, resampled
from cskd_tf.evaluation.outcomes import Outcomes
from tests.evaluation.cases import ORDINARY


def test_intervals_are_scipys_of_the_same_draws():
    values = np.random.default_rng(0).normal(size=50)
    drawn = resampled(lambda chosen: {"mean": values[chosen].mean(), "top": values[chosen].max()}, 50, resamples=200)
    for name, statistic in (("mean", np.mean), ("top", np.max)):
        options = {"n_resamples": 200, "method": "percentile", "batch": 1, "rng": np.random.default_rng(0)}
        expected = scipy.stats.bootstrap((values,), statistic, **options)
        np.testing.assert_allclose(drawn[name], expected.bootstrap_distribution, atol=1e-12)
        assert interval(drawn[name]) == pytest.approx(list(expected.confidence_interval), abs=1e-12)


@pytest.mark.thorough
def test_an_interval_holds_the_error_rate_as_often_as_it_says():
    """95 % of 400 intervals, give or take what the percentile bootstrap of 100 images is off by, and chance."""
    generator, inside = np.random.default_rng(1), 0
    for _ in range(400):
        wrong = generator.random(100) < 0.3
        low, high = interval(
            resampled(lambda chosen, wrong=wrong: {"error": wrong[chosen].mean()}, 100, resamples=200)["error"]
        )
        inside += low <= 0.3 <= high
    assert 0.90 <= inside / 400 <= 0.98


def test_every_metric_has_an_interval_around_it():
    outcomes = Outcomes.of(*ORDINARY, ORDINARY[0])
    drawn = resampled(outcomes.metrics, len(ORDINARY[1]), resamples=200)
    for name, value in outcomes.metrics().items():
        low, high = interval(drawn[name])
        assert low <= high
        if not name.startswith(("ece", "top5", "e_aurc")):  # of draws these are larger on average, or always 0
            assert low < value < high, name


def test_the_same_seed_draws_the_same_images():
    one, again, other = (
        resampled(lambda chosen: {"sum": float(chosen.sum())}, 9, resamples=20, seed=seed)["sum"] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="resamples=0, size=3"):
        resampled(lambda chosen: {"mean": 0.0}, 3, resamples=0)
    with pytest.raises(ValueError, match="size=0"):
        resampled(lambda chosen: {"mean": 0.0}, 0)
