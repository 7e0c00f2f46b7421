import itertools

import numpy as np
import pytest

from cskd_tf.evaluation.figures.misclassified import log_probability_histograms, top_five
from tests.evaluation.figures.made import legend, made

LABELS = [0, 1, 2, 0]
# Images 1 and 3 are wrong in both; image 2 in the second alone.
FIRST = [[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.05, 0.9, 0.05]]
SECOND = [[0.8, 0.1, 0.1], [0.5, 0.4, 0.1], [0.5, 0.2, 0.3], [0.2, 0.5, 0.3]]


def compared():
    return [made(FIRST, LABELS, name="first"), made(SECOND, LABELS, name="second")]


def test_histograms_are_of_the_images_that_all_get_wrong():
    figure = log_probability_histograms(compared(), title="digits", bins=2)
    assert figure.get_suptitle() == "digits\n2 images that all of them get wrong"
    predicted, true = figure.axes
    for axis, samples in ((predicted, [[0.6, 0.9], [0.5, 0.5]]), (true, [[0.3, 0.05], [0.4, 0.2]])):
        logs = np.log(samples)
        edges = np.linspace(logs.min(), logs.max(), 3)
        for stairs, values in zip(axis.patches, logs, strict=True):
            np.testing.assert_allclose(stairs.get_data().edges, edges)
            np.testing.assert_array_equal(stairs.get_data().values, np.histogram(values, edges)[0])
        assert [line.get_xdata()[0] for line in axis.get_lines()] == pytest.approx(np.median(logs, axis=1))
    medians = np.median(np.log([[0.6, 0.9], [0.3, 0.05]]), axis=1)
    assert legend(figure)[0] == "first: medians {:.2f} and {:.2f}".format(*medians)


def test_the_title_says_of_one_alone_that_it_is_wrong():
    (first, second) = compared()
    assert log_probability_histograms([first], title="").get_suptitle() == "\n2 images that it gets wrong"
    three = log_probability_histograms([second], title="").get_suptitle()
    assert three == "\n3 images that it gets wrong"
    once = made([[0.4, 0.6], [0.4, 0.6]], [0, 1], name="once")
    assert log_probability_histograms([once, once], title="").get_suptitle() == "\n1 image that all of them get wrong"


def test_without_common_mistakes_there_is_nothing_to_draw():
    right = made(np.eye(3)[LABELS] * 0.7 + 0.1, LABELS)
    with pytest.raises(ValueError, match=r"an image that all get wrong\. Received: none"):
        log_probability_histograms([right, *compared()], title="")


@pytest.mark.parametrize(
    "draw", [log_probability_histograms, lambda *args, **more: top_five(*args, **more, **PICTURES)]
)
def test_other_images_are_refused_by_name(draw):
    with pytest.raises(ValueError, match=r"the same images\. Received: others than those of 'first' of \['other'\]"):
        draw([*compared(), made(FIRST, [0, 1, 2, 1], name="other")], title="")


PICTURES = {
    "indices": np.array([0, 1, 2]),
    "images": np.arange(3 * 4, dtype=np.uint8).reshape(3, 2, 2, 1),
    "class_names": ["crow", "wren", "_a$b$"],
}


def test_bars_are_the_most_probable_classes_beside_the_picture():
    """Of the pictures, 1 is wrong in both, 2 in the second, 0 in none; the first is less sure of 2 than of 0."""
    figure = top_five(compared(), title="digits", **PICTURES)
    rows = np.array(figure.axes).reshape(3, 3)
    assert [row[0].get_xlabel() for row in rows] == ["true: wren", "true:  _a$b$", "true: crow"]
    np.testing.assert_array_equal(rows[0, 0].images[0].get_array(), PICTURES["images"][1, :, :, 0])
    picture, first, second = rows[0]
    assert [bar.get_width() for bar in first.patches] == pytest.approx([0.6, 0.3, 0.1])
    assert [label.get_text() for label in first.get_yticklabels()] == ["crow", "wren", " _a$b$"]
    assert [bool(bar.get_hatch()) for bar in first.patches] == [False, True, False]  # wren
    assert [bar.get_width() for bar in second.patches] == pytest.approx([0.5, 0.4, 0.1])
    assert [label.get_text() for label in first.get_xticklabels()] == ["0", "0.5", "1"]
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for axis in rows[-1, 1:] for label in axis.get_xticklabels()]
    assert all(left.x1 + 5 < right.x0 for left, right in itertools.pairwise(boxes))
    assert first.get_title() == "first"
    assert not picture.get_title()


def test_of_many_names_four_are_drawn():
    many = [made(FIRST, LABELS, name=str(number)) for number in range(6)]
    figure = top_five(many, title="", **PICTURES)
    assert [axis.get_title() for axis in figure.axes[:5]] == ["", "0", "1", "2", "3"]


def test_no_pictures_are_refused():
    with pytest.raises(ValueError, match="pictures of some images"):
        top_five(compared(), title="", **{**PICTURES, "indices": np.zeros(0, int)})


def test_the_most_probable_class_is_on_top():
    one = made([[0.1, 0.6, 0.3]], [0])
    pictures = {"indices": np.array([0]), "images": np.zeros((1, 2, 2, 1), np.uint8)}
    figure = top_five([one], class_names=["crow", "wren", "owl"], title="", **pictures)
    figure.draw_without_rendering()
    bars = figure.axes[1].patches
    heights = [bar.get_window_extent().y0 for bar in bars]
    assert [round(bar.get_width(), 6) for bar in bars] == [0.6, 0.3, 0.1]
    assert heights == sorted(heights, reverse=True)


def test_medians_are_no_means():
    true = [0.4, 0.3, 0.02]
    one = made([[each, 0.9 - each, 0.1] for each in true], [0, 0, 0])
    figure = log_probability_histograms([one], title="")
    expected = np.log([0.6, 0.3])
    markers = [line.get_xdata()[0] for axis in figure.axes for line in axis.get_lines()]
    np.testing.assert_allclose(markers, expected)
    assert legend(figure) == ["one: medians {:.2f} and {:.2f}".format(*expected)]
