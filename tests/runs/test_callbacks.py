"""What a run keeps of its training: checkpoints and resuming from them, and the log."""

import json
import re

import keras
import numpy as np
import pytest

from cskd_tf import metrics
from cskd_tf.data import paired_dataset
from cskd_tf.runs.callbacks import Checkpoint, RunLog
from cskd_tf.runs.workdir import Workdir
from cskd_tf.training.callbacks import Evaluation, StopOnNaN
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.optimizers import SGD
from tests.helpers import EVALUATION_LOGS, trainable_model
from tests.selection import quick


@pytest.fixture
def data(images_and_labels):
    return lambda epochs, **start: paired_dataset(*images_and_labels, batch_size=8, seed=0, epochs=epochs, **start)


def train(workdir, network, images_and_labels, data, *, epochs, done=0, extra=()):
    model = trainable_model(network, momentum=0.9)
    checkpoint = Checkpoint(workdir, model, monitor="val_top1_error")
    restored = checkpoint.restore_last()
    assert restored == done
    evaluation = Evaluation(images_and_labels)
    model.fit(
        data(epochs, first_step=3 * done),
        epochs=epochs,
        initial_epoch=done,
        verbose=0,
        callbacks=[StopOnNaN(), evaluation, RunLog(workdir), *extra, checkpoint],
    )
    return model, checkpoint


def test_resuming_is_bit_exact_with_dropout_and_momentum(batch_norm_network, images_and_labels, data, tmp_path):
    weights = []
    for name, parts in (("whole", [(4, 0)]), ("parts", [(1, 0), (3, 1), (4, 3)])):
        workdir = Workdir(tmp_path / name)
        workdir.path.mkdir()
        for epochs, done in parts:
            keras.utils.set_random_seed(0)
            model, _ = train(
                workdir, batch_norm_network(dropout=0.3), images_and_labels, data, epochs=epochs, done=done
            )
        weights.append(model.get_weights())
        assert [entry["epoch"] for entry in workdir.log()] == [1, 2, 3, 4]
    for one, two in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, two)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("part", quick(["index", "data-00000-of-00001"], "index"))
def test_a_truncated_checkpoint_falls_back_to_the_one_before(
    linear_network, images_and_labels, data, tmp_path, caplog, part
):
    workdir = Workdir(tmp_path)
    train(workdir, linear_network(), images_and_labels, data, epochs=3)
    truncate(workdir.checkpoints / "last" / f"ckpt-3.{part}")
    model = trainable_model(linear_network(), momentum=0.9)
    checkpoint = Checkpoint(workdir, model, monitor="val_top1_error")
    with caplog.at_level("WARNING"):
        assert checkpoint.restore_last() == 2
    assert "last/ckpt-3 cannot be gone on from" in caplog.text
    assert "falling back" in caplog.text
    assert checkpoint.restore_best() in (0, 1, 2, 3)
    truncate(workdir.checkpoints / "last" / f"ckpt-2.{part}")
    with pytest.raises(ValueError, match="all damaged"):
        checkpoint.restore_last()


@pytest.mark.thorough
def test_a_lost_best_checkpoint_is_not_the_end_of_the_run(linear_network, images_and_labels, data, tmp_path, caplog):
    workdir = Workdir(tmp_path)
    model, checkpoint = train(workdir, linear_network(), images_and_labels, data, epochs=2)
    before = model.get_weights()
    (index,) = (workdir.checkpoints / "best").glob("*.index")
    truncate(index)
    with caplog.at_level("WARNING"):
        assert checkpoint.restore_best() == 0
    (message,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert re.search(r"no best_epoch, because the checkpoint of the best .* is damaged \(ckpt-\d", message)
    for one, two in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.thorough
def test_divergence_keeps_the_checkpoint_of_the_last_good_epoch(linear_network, images_and_labels, data, tmp_path):
    workdir = Workdir(tmp_path)
    good, _ = train(workdir, linear_network(), images_and_labels, data, epochs=2)
    kept = {path: path.read_bytes() for path in workdir.checkpoints.rglob("*") if path.is_file()}
    with pytest.raises(FloatingPointError, match=r"in epoch 3, step \d"):
        train(workdir, linear_network(), images_and_labels, data, epochs=4, done=2, extra=[Poison()])
    assert {path: path.read_bytes() for path in workdir.checkpoints.rglob("*") if path.is_file()} == kept
    model = trainable_model(linear_network(), momentum=0.9)
    assert Checkpoint(workdir, model, monitor="val_top1_error").restore_last() == 2
    np.testing.assert_array_equal(model.network.get_weights()[0], good.network.get_weights()[0])


class Poison(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        weights = self.model.network.get_weights()
        self.model.network.set_weights([np.full_like(weight, np.nan) for weight in weights])


def test_weights_that_the_last_step_ruined_are_not_saved(linear_network, images_and_labels, data, tmp_path):
    class PoisonAtTheEnd(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                Poison.on_epoch_begin(self, 0)

    # Before Evaluation in the list, so that it sees what the last step left.
    model = trainable_model(linear_network())
    checkpoint = Checkpoint(Workdir(tmp_path), model, monitor="val_top1_error")
    stops = [StopOnNaN(), PoisonAtTheEnd(), Evaluation(images_and_labels), checkpoint]
    with pytest.raises(FloatingPointError, match="validation logits are not finite after epoch 1"):
        model.fit(data(2), epochs=2, verbose=0, callbacks=stops)
    assert not list(tmp_path.rglob("ckpt-*"))


def test_the_best_epoch_is_the_first_of_the_lowest_error(linear_network, images_and_labels, data, tmp_path):
    workdir = Workdir(tmp_path)
    weights = []

    class Grab(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_top1_error"] = [0.5, 0.2, 0.2, 0.4][epoch]
            weights.append(self.model.network.get_weights())

    model = trainable_model(linear_network(), momentum=0.9)
    checkpoint = Checkpoint(workdir, model, monitor="val_top1_error")
    model.fit(data(4), epochs=4, verbose=0, callbacks=[Grab(), RunLog(workdir), checkpoint])
    assert checkpoint.restore_best() == 2
    for one, two in zip(model.network.get_weights(), weights[1], strict=True):
        np.testing.assert_array_equal(one, two)
    assert checkpoint.restore_last() == 4


def test_the_run_log_has_a_line_an_epoch(linear_network, images_and_labels, data, tmp_path):
    workdir = Workdir(tmp_path)
    train(workdir, linear_network(), images_and_labels, data, epochs=2)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    expected = {
        "epoch",
        "loss",
        "cross_entropy",
        "class_wise",
        "learning_rate",
        "replicas",
        "seconds",
        *EVALUATION_LOGS,
    }
    assert [set(line) for line in lines] == [expected] * 2
    assert lines[0]["learning_rate"] == pytest.approx(0.05)
    assert lines[0]["loss"] == pytest.approx(lines[0]["cross_entropy"] + lines[0]["class_wise"], rel=1e-5)
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"epoch": 3, "lo')
    assert [entry["epoch"] for entry in workdir.log()] == [1, 2]
    workdir.trim_log(epochs=1)
    assert (tmp_path / "log.jsonl").read_text().count("\n") == 1


def test_an_epoch_log_with_an_undefined_figure_is_json(linear_network, images_and_labels, tmp_path):
    images, labels = images_and_labels
    network = linear_network()
    network.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    workdir = Workdir(tmp_path)
    evaluation = Evaluation((images[5:7], labels[5:7]))
    network.fit(images, labels, epochs=2, verbose=0, callbacks=[evaluation, RunLog(workdir)])
    json.loads((tmp_path / "log.jsonl").read_text().splitlines()[1], parse_constant=pytest.fail)
    assert [entry["val_recall_at_1"] for entry in workdir.log()] == [None, None]
    assert workdir.log()[1]["val_nll"] == pytest.approx(
        metrics.negative_log_likelihood(network(images[5:7]), labels[5:7])
    )


def test_the_logged_learning_rate_is_that_of_the_epoch_and_not_of_the_next(linear_network, images_and_labels, tmp_path):
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.1, 0.01])  # the second epoch begins at step 3
    model = SelfDistiller(linear_network())
    model.compile(SGD(schedule))
    data = paired_dataset(*images_and_labels, batch_size=8, seed=0, epochs=2)
    model.fit(data, epochs=2, verbose=0, callbacks=[RunLog(Workdir(tmp_path))])
    assert [entry["learning_rate"] for entry in Workdir(tmp_path).log()] == pytest.approx([0.1, 0.01])


def test_the_log_of_an_epoch_that_is_gone_on_with_has_its_whole_time_and_its_rate(linear_network, tmp_path):
    workdir = Workdir(tmp_path)
    log = RunLog(workdir, begun={"learning_rate": 0.25, "seconds": 100.0})
    log.set_model(trainable_model(linear_network()))
    for epoch in (2, 3):
        log.on_epoch_begin(epoch)
        log.on_epoch_end(epoch, {})
    gone_on_with, following = workdir.log()
    assert gone_on_with["learning_rate"] == 0.25 != following["learning_rate"]
    assert gone_on_with["seconds"] == pytest.approx(100, abs=5)
    assert following["seconds"] < 5


def test_of_two_best_checkpoints_that_a_killed_process_left_the_later_is_the_best(
    linear_network, tmp_path, monkeypatch
):
    model = trainable_model(linear_network())
    checkpoint = Checkpoint(Workdir(tmp_path), model, monitor="val_top1_error")
    monkeypatch.setattr(checkpoint, "_remove_older", lambda *_: None)  # as a process that is killed before
    for epoch in (2, 10):
        checkpoint._write(checkpoint._classifier, "best", (epoch,))
    assert checkpoint.restore_best() == 10
