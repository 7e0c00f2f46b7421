import numpy as np
import pytest

from cskd_tf.evaluation.figures.compared import Compared
from cskd_tf.evaluation.figures.hierarchy import group_confusions, group_errors
from tests.evaluation.figures.made import legend, made

GROUPS = ["bird", "bird", "dog", "room"]


def taken_for(labels, predicted, *, name="one"):
    return made(np.eye(4)[predicted] * 0.6 + 0.1, labels, name=name)


def test_cells_are_per_cent_of_a_groups_images():
    """Of three birds one is taken for the other bird and one for a dog; of two dogs one for a room; no rooms."""
    one = taken_for([0, 1, 0, 2, 2], [0, 0, 2, 2, 3])
    (axis,) = group_confusions([one], groups=GROUPS, title="mixed").axes
    third = 100 / 3
    expected = [[2 * third, third, 0], [0, 50, 50], [np.nan] * 3]
    np.testing.assert_allclose(axis.images[0].get_array().filled(np.nan), expected)
    assert [text.get_text() for text in axis.texts] == [
        "66.7", "33.3", "0.0", "0.0", "50.0", "50.0", "–", "–", "–"
    ]  # fmt: skip
    assert [label.get_text() for label in axis.get_yticklabels()] == ["bird", "dog", "room"]


def test_bars_are_the_error_among_the_classes_of_a_group():
    one = taken_for([0, 1, 0, 2, 2], [0, 0, 2, 2, 3])
    two = Compared("two", [*one.seeds, *taken_for([0, 2], [0, 2]).seeds])
    figure = group_errors([one, two], groups=GROUPS, title="mixed")
    first, second = figure.axes[0].containers
    assert [bar.get_width() for bar in first] == pytest.approx([200 / 3, 50, 0])
    assert [bar.get_width() for bar in second] == pytest.approx([50, 100 / 3, 0])  # of both seeds together
    assert [text.get_text().strip() for text in figure.axes[0].texts][:3] == ["66.7", "50.0", "no images"]
    assert first[0].get_hatch() != second[0].get_hatch()
    assert legend(figure) == ["one", "two"]


@pytest.mark.parametrize("draw", [group_confusions, group_errors])
@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (["all"] * 4, "at least two groups"),
        ([str(number) for number in range(61)], "at most 60 groups .*Received: 61"),
        (["a", "b"], r"a group for each of 4 classes\. Received: shape \(2,\)"),
    ],
)
def test_groups_that_do_not_fit_are_refused(draw, groups, message):
    with pytest.raises(ValueError, match=message):
        draw([taken_for([0, 1], [0, 1])], groups=groups, title="")


def test_cells_are_of_the_images_of_all_seeds():
    """Of the first seed's three birds two are right, of the second's one none: of four together two."""
    seeds = [
        made(np.eye(3)[predicted] * 0.6 + 0.1, labels).seeds[0]
        for labels, predicted in (([0, 1, 1, 2], [0, 1, 2, 2]), ([0, 2], [2, 0]))
    ]
    (axis,) = group_confusions([Compared("one", seeds)], groups=GROUPS[:3], title="").axes
    np.testing.assert_allclose(axis.images[0].get_array(), [[50, 50], [50, 50]])
