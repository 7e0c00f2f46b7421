import pytest

from cskd_tf.evaluation.figures.compared import Compared
from cskd_tf.evaluation.figures.selection import risk_coverage_curves
from tests.evaluation.figures.made import legend, made


def test_lines_are_the_mean_curves_in_per_cent():
    """Confidences .9, .8, .7, .6 of which the second is wrong, and of another seed none."""
    probabilities = [[confidence, 1 - confidence] for confidence in (0.9, 0.8, 0.7, 0.6)]
    wrong, right = made(probabilities, [0, 1, 0, 0]), made(probabilities, [0] * 4)
    figure = risk_coverage_curves([Compared("both", [*wrong.seeds, *right.seeds]), right], title="digits")
    both, one = figure.axes[0].get_lines()
    at = {round(coverage, 3): risk for coverage, risk in both.get_xydata()}
    assert [at[coverage] for coverage in (0.25, 0.5, 0.75, 1.0)] == pytest.approx([0, 25, 100 / 6, 12.5])
    assert not one.get_ydata().any()
    # 1/4 of 0, 1/2, 1/3 and 1/4 is .2708, and half of it the mean.
    assert legend(figure) == ["both: AURC × 1000 135.42 ± 191.51", "one: AURC × 1000 0.00"]
    assert both.get_linestyle() != one.get_linestyle()
