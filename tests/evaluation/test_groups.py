import numpy as np
import pytest
import sklearn.metrics

from cskd_tf import metrics
from tests.evaluation.cases import ORDINARY
from tests.helpers import softmax


def test_group_error_by_hand():
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.2, 0.1, 0.7]])
    labels = np.array([0, 2, 2, 1])
    assert metrics.group_error(scores, labels, groups=[0, 0, 1]) == 0.5
    with pytest.raises(ValueError, match=r"a group for each of 3 classes. Received: shape \(2,\)"):
        metrics.group_error(scores, labels, groups=[0, 1])


def test_classes_against_counting():
    logits, labels = ORDINARY
    predicted, confidence = logits.argmax(axis=1), softmax(logits).max(axis=1)
    rows = metrics.per_class(logits, labels, class_names=list("abcd"))
    assert [row["name"] for row in rows] == list("abcd")
    for number, row in enumerate(rows):
        own, guessed = labels == number, predicted == number
        assert row["images"] == own.sum()
        assert row["recall"] == pytest.approx((own & guessed).sum() / own.sum())
        assert row["precision"] == pytest.approx((own & guessed).sum() / guessed.sum())
        assert row["confidence"] == pytest.approx(confidence[own].mean())


def test_a_class_without_images_or_guesses_is_undefined():
    logits = np.array([[3.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    first, second, third = metrics.per_class(logits, [0, 1], class_names=["a", "b", "c"])
    assert (first["recall"], first["precision"]) == (1.0, 0.5)
    assert (second["recall"], second["precision"]) == (0.0, None)
    assert (third["images"], third["recall"], third["precision"], third["confidence"]) == (0, None, None, None)
    with pytest.raises(ValueError, match="a name for each of 3 classes. Received: 2 names"):
        metrics.per_class(logits, [0, 1], class_names=["a", "b"])


def test_groups_against_scikit_learn():
    logits, labels = ORDINARY
    groups = ["dog", "bird", "dog", "bird"]
    shown = metrics.per_group(logits, labels, groups=groups)
    assert shown["groups"] == ["dog", "bird"]
    named = np.array(groups)
    predicted = logits.argmax(axis=1)
    confusion = sklearn.metrics.confusion_matrix(named[labels], named[predicted], labels=["dog", "bird"])
    assert shown["confusion"] == confusion.tolist()
    for number, group in enumerate(shown["groups"]):
        own = named[labels] == group
        assert shown["images"][number] == own.sum()
        assert shown["top1_error"][number] == pytest.approx((predicted != labels)[own].mean())
        assert shown["group_error"][number] == pytest.approx((named[predicted] != group)[own].mean())
    together = np.average(shown["group_error"], weights=shown["images"])
    assert metrics.group_error(logits, labels, groups=groups) == pytest.approx(together)


def test_classes_of_one_group_have_no_group_error():
    assert np.isnan(metrics.group_error([[0.1, 0.7, 0.2]], [0], groups=["dog"] * 3))


def test_a_group_without_images_is_undefined():
    shown = metrics.per_group([[0.1, 0.7, 0.2]], [1], groups=["dog", "dog", "bird"])
    assert (shown["top1_error"], shown["group_error"], shown["images"]) == ([0.0, None], [0.0, None], [1, 0])
