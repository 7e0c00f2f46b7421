import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.errors import UserError
from cskd_tf.evaluation.metrics import summarize
from cskd_tf.evaluation.predictions import Predictions


def test_predictions_come_back_from_disk(tmp_path):
    predictions = Predictions(np.ones((2, 3), "float32"), np.array([0, 1]), np.zeros((2, 4), "float32"))
    predictions.save(tmp_path / "predictions_val.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["predictions_val.npz"]
    back = Predictions.load(tmp_path / "predictions_val.npz")
    np.testing.assert_array_equal(back.logits, predictions.logits)
    np.testing.assert_array_equal(back.labels, predictions.labels)
    assert back.embeddings.shape == (2, 4)


def test_bfloat16_comes_back_as_float32(tmp_path):
    bfloat16 = tf.bfloat16.as_numpy_dtype
    half = Predictions(np.array([[2.0, 0.5]], bfloat16), [1], np.ones((1, 2), bfloat16))
    half.save(tmp_path / "half.npz")
    back = Predictions.load(tmp_path / "half.npz")
    assert back.logits.dtype == back.embeddings.dtype == np.float32
    np.testing.assert_array_equal(back.logits, [[2.0, 0.5]])


def test_lists_are_taken_and_none_is_no_embeddings():
    predictions = Predictions([[2.0, 0.0], [0.0, 1.0]], [0, 0])
    assert predictions.embeddings.shape == (2, 0)
    assert predictions.given_embeddings is None
    assert predictions.metrics(ece_bins=5) == summarize([[2.0, 0.0], [0.0, 1.0]], [0, 0], None, ece_bins=5)
    given = Predictions([[2.0, 0.0], [0.0, 1.0], [0.0, 1.0]], [0, 0, 1], [[1.0], [2.0], [9.0]])
    assert given.given_embeddings.tolist() == [[1.0], [2.0], [9.0]]
    assert given.metrics(ece_bins=5)["recall_at_1"] == 1


@pytest.mark.parametrize("logits", [[[1.0, 2.0], [1.0]], [["a", "b"]], None])
def test_what_is_no_array_of_numbers_is_refused(logits):
    with pytest.raises(UserError, match="Expected logits to be an array of numbers. Received: "):
        Predictions(logits, [0, 1])
