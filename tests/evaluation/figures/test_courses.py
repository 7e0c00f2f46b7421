import numpy as np
import pytest

from cskd_tf.evaluation.figures.courses import ImageHistory, hard_images, training_curves
from tests.evaluation.figures.made import legend


def log(losses, *, split="val"):
    values = {f"{split}_{name}": 0.5 for name in ("top1_error", "nll", "ece")}
    return [
        {"epoch": number, "loss": loss, **values, f"{split}_recall_at_1": None, "learning_rate": 0.1}
        for number, loss in enumerate(losses, start=1)
    ]


def test_lines_are_means_over_seeds_within_their_range():
    figure = training_curves({"one": [log([3.0, 2.0]), log([1.0, 1.0])], "two": [log([4.0, 4.0])]}, title="digits")
    loss, error = figure.axes[:2]
    one, two = loss.get_lines()
    np.testing.assert_allclose(one.get_xydata(), [[1, 2], [2, 1.5]])
    np.testing.assert_allclose(two.get_xydata(), [[1, 4], [2, 4]])
    (band,) = loss.collections
    assert band.get_paths()[0].get_extents().bounds == pytest.approx((1, 1, 1, 2))  # from 1 to 3
    np.testing.assert_allclose(error.get_lines()[0].get_ydata(), [50, 50])
    assert error.get_ylabel() == "val top-1 error, %"
    assert np.isnan(figure.axes[4].get_lines()[0].get_ydata()).all()  # R@1 is undefined
    assert legend(figure) == ["one", "two"]
    assert one.get_linestyle() != two.get_linestyle()
    assert one.get_marker() != two.get_marker()


def test_an_axis_of_near_values_has_no_offset():
    (axis, *_) = training_curves({"one": [log([2.30601, 2.30602, 2.30603])]}, title="").axes
    axis.figure.draw_without_rendering()
    assert axis.yaxis.get_offset_text().get_text() == ""
    assert all(label.get_text().startswith("2.306") for label in axis.get_yticklabels())


def test_each_split_has_panels_of_its_own_with_the_runs_that_were_evaluated_on_it():
    logs = {"one": [log([1.0, 3.0], split="test")], "two": [log([2.0])], "none": []}
    axes = {axis.get_ylabel(): axis for axis in training_curves(logs, title="").axes}
    values = ("top-1 error, %", "NLL, nats", "ECE, %", "R@1, %")
    of_val, of_test = ([f"{split} {value}" for value in values] for split in ("val", "test"))
    assert list(axes) == ["training loss", *of_val, "learning rate", *of_test]
    lines = {label: [len(line.get_xdata()) for line in axis.get_lines()] for label, axis in axes.items()}
    assert lines["training loss"] == lines["learning rate"] == [2, 1]
    assert all(lines[label] == [1] for label in of_val)  # epochs of "two"
    assert all(lines[label] == [2] for label in of_test)
    assert axes["val NLL, nats"].get_lines()[0].get_marker() == axes["training loss"].get_lines()[1].get_marker()
    alone = training_curves({"one": logs["one"]}, title="")
    assert [axis.get_ylabel() for axis in alone.axes[:6]] == ["training loss", *of_test, "learning rate"]


def test_imported_runs_have_no_curves():
    with pytest.raises(ValueError, match="a log of at least one epoch"):
        training_curves({"one": [[]], "two": []}, title="")


def history(correct, target):
    correct, target = np.array(correct, bool), np.array(target)
    return ImageHistory(np.arange(1, len(correct) + 1), target, np.maximum(target, 0.5), correct)


def test_the_hardest_images_are_right_in_the_fewest_epochs_of_all_runs():
    """Image 0 is right in all 4 epochs of both runs, 1 in one, 2 and 3 in two each, of which 3 is less probable."""
    one = history([[1, 0, 1, 0], [1, 0, 0, 1]], [[0.9, 0.2, 0.4, 0.1], [0.9, 0.3, 0.4, 0.6]])
    two = history([[1, 0, 0, 1], [1, 1, 1, 0]], [[0.9, 0.2, 0.4, 0.1], [0.9, 0.7, 0.4, 0.2]])
    figure = hard_images({"one": one, "two": two}, title="digits", count=2)
    assert figure.get_suptitle() == "digits\n2 training images, right in at most 2 of 4 logged epochs"
    target, maximum = figure.axes
    np.testing.assert_allclose(target.get_lines()[0].get_xydata(), [[1, 0.15], [2, 0.45]])  # of images 1 and 3
    np.testing.assert_allclose(target.get_lines()[1].get_ydata(), [0.15, 0.45])
    np.testing.assert_allclose(maximum.get_lines()[1].get_ydata(), [0.5, 0.6])
    assert len(target.collections) == 2  # the middle half of each
    many = hard_images({str(number): one for number in range(4)}, title="", count=2)
    assert not many.axes[0].collections


@pytest.mark.parametrize("histories", [{}, {"a": history([[1, 0]], [[0.5, 0.5]]), "b": history([[1]], [[0.5]])}])
def test_histories_of_other_images_are_refused(histories):
    with pytest.raises(ValueError, match="one set of training images"):
        hard_images(histories, title="")


def test_bands_are_the_middle_half_of_the_images():
    target = np.array([[0.1, 0.2, 0.4, 0.5, 0.9]])
    history = ImageHistory(np.array([3]), target, 1 - target / 10, np.zeros((1, 5), bool))
    for axis, (low, high) in zip(hard_images({"one": history}, title="").axes, [(0.2, 0.5), (0.95, 0.98)], strict=True):
        (band,) = axis.collections
        assert band.get_paths()[0].get_extents().intervaly == pytest.approx((low, high))
