import numpy as np

from cskd_tf.evaluation.predictions import Predictions


def test_predictions_come_back_from_disk(tmp_path):
    predictions = Predictions(np.ones((2, 3), "float32"), np.array([0, 1]), np.zeros((2, 4), "float32"))
    predictions.save(tmp_path / "predictions_val.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["predictions_val.npz"]
    back = Predictions.load(tmp_path / "predictions_val.npz")
    np.testing.assert_array_equal(back.logits, predictions.logits)
    np.testing.assert_array_equal(back.labels, predictions.labels)
    assert back.embeddings.shape == (2, 4)
