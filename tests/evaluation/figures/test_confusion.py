import numpy as np
import pytest

from cskd_tf.evaluation.figures.confusion import confusion_matrix
from cskd_tf.evaluation.predictions import Predictions

LABELS = np.array([0, 0, 0, 0, 1, 1])


def predicted(classes, labels=LABELS, taken=(0, 0, 0, 1, 1, 1)):
    return Predictions(np.eye(classes)[list(taken)], labels)


def test_cells_are_shares_of_a_row_in_per_cent():
    figure = confusion_matrix(predicted(3), class_names=["cat", "dog", "a name of more than 18"], title="val")
    (axis,) = figure.axes
    texts = [text.get_text() for text in axis.texts]
    assert texts == ["75.0", "25.0", "0.0", "0.0", "100.0", "0.0", "–", "–", "–"]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["cat", "dog", "a name of… than 18"]
    assert axis.get_xlabel() == "predicted class"


@pytest.mark.parametrize(("classes", "named"), [(13, 13), (60, 60), (61, 0), (300, 0)])
def test_many_classes_have_colours_in_place_of_numbers_and_then_no_names(classes, named):
    figure = confusion_matrix(predicted(classes), class_names=list(map(str, range(classes))), title="val")
    axis, bar = figure.axes
    assert not axis.texts
    assert len(axis.get_yticklabels()) == named
    assert bar.get_ylabel() == "% of the class's images"


def test_names_of_other_classes_are_refused():
    with pytest.raises(ValueError, match="Expected names of 3 classes. Received: 2"):
        confusion_matrix(predicted(3), class_names=["cat", "dog"], title="val")
