import numpy as np
import pytest

from cskd_tf.evaluation.scores import softmax
from cskd_tf.runs.experiment import prepare
from cskd_tf.runs.image_log import ImageLog, read_image_log
from cskd_tf.runs.workdir import Workdir
from tests.runs.helpers import config_of


@pytest.mark.thorough
def test_the_log_has_every_training_image_in_its_order(tmp_path):
    built = prepare(config_of({"epochs": 5}))
    workdir = Workdir(tmp_path)
    assert read_image_log(workdir) is None
    log = ImageLog(built, workdir, every=2)
    for epoch in range(5):
        log.on_epoch_end(epoch)
    history = read_image_log(workdir)
    assert history.epochs.tolist() == [2, 4, 5]
    predictions = built.predict("train")
    probabilities, labels = softmax(predictions.logits), built.splits["train"].labels
    np.testing.assert_array_equal(predictions.labels, labels)
    np.testing.assert_allclose(history.target, [probabilities[np.arange(40), labels]] * 3, atol=5e-4)
    np.testing.assert_allclose(history.maximum, [probabilities.max(axis=1)] * 3, atol=5e-4)
    np.testing.assert_array_equal(history.correct, [probabilities.argmax(axis=1) == labels] * 3)
    assert sum(path.stat().st_size for path in workdir.image_log.iterdir()) < 3 * (40 * 5 + 1000)


@pytest.mark.parametrize("other", [b"no file of numpy", None])
def test_a_log_that_is_damaged_is_refused(other, tmp_path):
    workdir = Workdir(tmp_path)
    workdir.image_log.mkdir()
    for epoch, count in ((1, 3), (2, 4)):
        arrays = dict.fromkeys(("target", "maximum", "correct"), np.zeros(count))
        np.savez(workdir.image_log / f"epoch-{epoch}.npz", **arrays)
    if other:
        (workdir.image_log / "epoch-2.npz").write_bytes(other)
    message = "epoch-2.npz" if other else r"one number of images in .*Received: shapes \[\(3,\), \(4,\)\]"
    with pytest.raises(ValueError, match=message):
        read_image_log(workdir)


def test_epochs_are_in_the_order_of_their_numbers(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.image_log.mkdir()
    for epoch in (10, 9, 100):
        arrays = {"target": np.full(2, epoch / 128), "maximum": np.full(2, epoch / 100), "correct": np.ones(2)}
        np.savez(workdir.image_log / f"epoch-{epoch}.npz", **arrays)
    history = read_image_log(workdir)
    assert history.epochs.tolist() == [9, 10, 100]
    np.testing.assert_array_equal(history.target[:, 0] * 128, [9, 10, 100])
