import numpy as np
import pytest

from cskd_tf.evaluation.figures.mistakes import mistakes, worst_mistakes
from cskd_tf.evaluation.predictions import Predictions


@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_stands_over_what_it_is_and_what_it_is_taken_for(channels):
    predictions = Predictions(np.array([[0, np.log(3)], [0, np.log(9)], [1, 0]]), np.array([0, 0, 0]))
    worst = worst_mistakes(predictions)
    assert worst.tolist() == [1, 0]
    images = np.arange(2 * 4 * channels, dtype=np.uint8).reshape(2, 2, 2, channels)
    figure = mistakes(predictions, indices=worst, images=images, class_names=["cat", "dog"], title="val, epoch 3")
    (axis,) = figure.axes
    assert [text.get_text() for text in axis.texts] == ["cat\ntaken for dog\n90 %", "cat\ntaken for dog\n75 %"]
    for drawn, image in zip(axis.images, images, strict=True):
        np.testing.assert_array_equal(drawn.get_array(), image[..., 0] if channels == 1 else image)
    assert figure.get_suptitle() == "val, epoch 3\nmost confident mistakes"


def test_only_the_worst_are_chosen():
    predictions = Predictions(np.array([[0, logit] for logit in range(1, 31)], float), np.zeros(30, int))
    assert worst_mistakes(predictions, count=3).tolist() == [29, 28, 27]
    assert len(worst_mistakes(predictions)) == 12


def test_pictures_stand_upright_above_their_words():
    predictions = Predictions(np.array([[0.0, 1.0]] * 6), np.zeros(6, int))
    images = np.zeros((6, 2, 2, 1), np.uint8)
    figure = mistakes(predictions, indices=np.arange(6), images=images, class_names=["cat", "dog"], title="")
    (axis,) = figure.axes
    figure.draw_without_rendering()
    for picture, words in zip(axis.images, axis.texts, strict=True):
        left, right, last_row, first_row = picture.get_extent()
        corners = axis.transData.transform([(left, first_row), (right, last_row), words.get_position()])
        assert corners[0, 1] > corners[1, 1] > corners[2, 1]  # on the page, the first row on top
        assert corners[0, 0] < corners[2, 0] < corners[1, 0]
