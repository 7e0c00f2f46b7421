import numpy as np
import pytest

from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.runs.tensorboard.projector import write_projector
from tests.helpers import GONE


def test_what_a_process_left_that_was_killed_at_it_goes(tmp_path):
    (tmp_path / f"embeddings.{GONE}.partial.tsv").write_text("0.1\t0.")
    predictions = Predictions(np.eye(2), np.arange(2), np.eye(2))
    images = np.zeros((2, 4, 4, 1), np.uint8)
    write_projector(tmp_path, predictions, indices=np.arange(2), images=images, class_names=["cat", "dog"], name="test")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["embeddings.tsv", "metadata.tsv", "projector_config.pbtxt", "sprite.png"]


def test_each_image_has_its_class_the_predicted_one_and_its_probability(tmp_path):
    logits = np.log([[0.25, 0.75], [0.5, 0.5], [0.875, 0.125]])
    predictions = Predictions(logits, np.array([0, 1, 0]), np.eye(3))
    images = np.zeros((2, 4, 4, 1), np.uint8)
    write_projector(
        tmp_path, predictions, indices=np.array([0, 2]), images=images, class_names=["cat", "dog"], name="test"
    )
    rows = [line.split("\t") for line in (tmp_path / "metadata.tsv").read_text().splitlines()[1:]]
    assert [row[:2] for row in rows] == [["cat", "dog"], ["cat", "cat"]]
    assert [float(row[2]) for row in rows] == pytest.approx([0.75, 0.875])
