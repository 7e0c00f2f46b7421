import pytest

from cskd_tf.evaluation.figures.compared import Compared
from cskd_tf.evaluation.figures.selection import risk_coverage_curves
from cskd_tf.evaluation.figures.style import NO_BREAK
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
    told = [line.replace(NO_BREAK, " ") for line in legend(figure)]
    assert told == ["both; AURC (× 1000): 135.42 ± 191.51", "one; AURC (× 1000): 0.00"]
    assert both.get_linestyle() != one.get_linestyle()


def test_a_long_name_is_wrapped_before_its_area_and_not_within():
    figure = risk_coverage_curves([made([[0.9, 0.1], [0.8, 0.2]], [0, 0], name="long " * 12)], title="")
    assert legend(figure)[0].split("\n")[1].split(" ") == ["AURC (× 1000): 0.00".replace(" ", NO_BREAK)]
