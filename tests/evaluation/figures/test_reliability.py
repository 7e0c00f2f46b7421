import pathlib

import matplotlib.figure
import numpy as np
import pytest
from PIL import Image

from cskd_tf.evaluation.figures.compared import Compared
from cskd_tf.evaluation.figures.reliability import (
    OVER_COLOUR,
    reliability_curves,
    reliability_diagram,
    save_reliability_diagram,
)
from cskd_tf.evaluation.figures.style import as_image
from cskd_tf.evaluation.predictions import Predictions


@pytest.fixture
def predictions():
    """Confidences .65 (right), .65 (wrong) and .95 (right): .75 on average, and 2 of 3 right."""
    confidences = np.array([0.65, 0.65, 0.95])
    logits = np.log(np.stack([confidences, 1 - confidences], axis=1))
    return Predictions(logits, np.array([0, 1, 0]), np.zeros((3, 1)))


def bars(axes):
    """Centre, bottom and height of each bar that is not flat."""
    shapes = [(bar.get_x() + bar.get_width() / 2, bar.get_y(), bar.get_height()) for bar in axes.patches]
    return [shape for shape in shapes if shape[2] > 0]


def test_a_bar_is_accuracy_and_the_gap_to_confidence(predictions):
    figure = reliability_diagram(predictions, bins=2, title="digits")
    diagram, histogram = figure.axes
    accuracy, gap = bars(diagram)
    assert accuracy == pytest.approx((0.75, 0, 2 / 3))
    assert gap == pytest.approx((0.75, 2 / 3, 0.75 - 2 / 3))
    assert diagram.containers[1].get_label() == "over-confident by"
    (share,) = bars(histogram)
    assert share == pytest.approx((0.75, 0, 1))
    assert figure.get_suptitle() == "digits\nECE 8.33 % (2 bins)"


def test_empty_bins_have_no_bars(predictions):
    diagram, histogram = reliability_diagram(predictions, bins=10, title="").axes
    # Of (.6, .7] half is right, of (.9, 1] all.
    assert bars(histogram) == [pytest.approx((0.65, 0, 2 / 3)), pytest.approx((0.95, 0, 1 / 3))]
    lower, over, under = ([bar.get_height() for bar in container] for container in diagram.containers)
    assert lower == pytest.approx([0.5, 0.95])
    assert over == pytest.approx([0.15, 0])
    assert under == pytest.approx([0, 0.05])


def test_the_image_for_tensorboard_and_the_file_show_the_same_figure(predictions, tmp_path):
    image = as_image(reliability_diagram(predictions, bins=2, title="digits"))
    assert (image.shape, image.dtype) == ((1, 540, 440, 3), np.uint8)
    save_reliability_diagram(predictions, tmp_path / "diagram.png", bins=2, title="digits")
    with Image.open(tmp_path / "diagram.png") as opened:
        assert opened.size == (660, 810)
        pixels = np.asarray(opened.convert("RGB"))
    over = [int(OVER_COLOUR[start : start + 2], 16) for start in (1, 3, 5)]
    for rendered in (image[0], pixels):
        share = (rendered == over).all(axis=-1).mean()
        assert 0.005 < share < 0.03  # the gap of .083, and its place in the legend


def test_a_diagram_that_cannot_be_written_leaves_the_one_before(predictions, tmp_path, monkeypatch):
    path = tmp_path / "diagram.png"
    path.write_bytes(b"before")

    def fails(figure, target, **options):
        pathlib.Path(target).write_bytes(b"hal")
        raise OSError("No space left on device")

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", fails)
    with pytest.raises(OSError, match="No space left"):
        save_reliability_diagram(predictions, path, bins=2, title="digits")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("diagram.png", b"before")]


def of_confidences(confidences, right):
    """Predictions of two classes, with these probabilities of class 0, which is the label where it is `right`."""
    confidences = np.asarray(confidences)
    logits = np.log(np.stack([confidences, 1 - confidences], axis=1))
    return Predictions(logits, 1 - np.asarray(right, int), np.zeros((len(right), 1)))


def test_a_line_is_accuracy_against_mean_confidence_over_all_seeds():
    """Bin (.5, 1]: 8 images at .9, of which 6 are right, and of another seed 4 at .6, of which 1 is."""
    seeds = [of_confidences([0.9] * 8, [1] * 6 + [0] * 2), of_confidences([0.6] * 4, [1, 0, 0, 0])]
    figure = reliability_curves([Compared("one", seeds), Compared("two", seeds[1:])], bins=2, title="digits")
    diagram, histogram = figure.axes
    one, hollow, two, few, diagonal = diagram.get_lines()
    np.testing.assert_allclose(one.get_xydata(), [[0.8, 7 / 12]])
    assert not len(hollow.get_xydata())
    assert not len(two.get_xydata())
    np.testing.assert_allclose(few.get_xydata(), [[0.6, 0.25]])  # of 4 images: chance
    assert few.get_fillstyle() == "none"
    np.testing.assert_array_equal(diagonal.get_xydata(), [[0, 0], [1, 1]])
    np.testing.assert_allclose(histogram.patches[0].get_data().values, [0, 1])
    (legend,) = figure.legends
    # |.75 - .9| and |.25 - .6|: .15 and .35, whose deviation is .1414.
    assert [text.get_text() for text in legend.get_texts()] == [
        "one: ECE 25.00 ± 14.14 %", "two: ECE 35.00 %", "perfect calibration"
    ]  # fmt: skip
