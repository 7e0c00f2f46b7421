"""Every callback of Keras beside `Evaluation`, in either order, through `fit`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.errors import UserError
from cskd_tf.training.callbacks import Evaluation
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.optimizers import SGD
from cskd_tf.training.order import KEEPERS, READERS, SETTERS
from cskd_tf.training.schedules import constant_schedule
from tests.selection import quick

EPOCHS = 3


@pytest.fixture
def fit(linear_network, images_and_labels):
    """Trains a linear network with callbacks; returns the model, and what Keras' history has."""

    def train(callbacks, *, optimizer=None, epochs=EPOCHS):
        keras.utils.set_random_seed(1)
        model = SelfDistiller(linear_network())
        model.compile(optimizer or SGD(0.05))
        images, labels = images_and_labels
        options = {"batch_size": 22, "shuffle": False, "epochs": epochs, "verbose": 0, "callbacks": callbacks}
        return model, model.fit(images, labels, **options).history

    return train


@pytest.fixture
def evaluation(images_and_labels):
    return Evaluation(images_and_labels)


def nll(model, images_and_labels):
    """Of a model as it is, without an `Evaluation`."""
    return model.evaluate(*images_and_labels, verbose=0, return_dict=True)["loss"]


def test_every_callback_of_keras_is_tested_here():
    kinds = {kind for kind in vars(keras.callbacks).values() if isinstance(kind, type)}
    tested = {
        *READERS, *SETTERS, keras.callbacks.BackupAndRestore, keras.callbacks.SwapEMAWeights,
        keras.callbacks.LambdaCallback, keras.callbacks.TerminateOnNaN,
    }  # fmt: skip
    assert kinds - tested == {keras.callbacks.Callback, keras.callbacks.CallbackList}
    assert set(KEEPERS) < tested


def scalars(folder, tag):
    """What TensorBoard's files have under a tag."""
    for file in folder.glob("*tfevents*"):
        for record in tf.data.TFRecordDataset(str(file)):
            for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value:
                if value.tag == tag:
                    yield float(tf.make_ndarray(value.tensor))


@pytest.mark.parametrize("order", quick([1, -1], -1), ids=["evaluation last", "evaluation first"])
def test_whatever_reads_the_logs_has_the_metrics_in_either_order(
    order, fit, evaluation, images_and_labels, monkeypatch, tmp_path
):
    requests = pytest.importorskip("requests")
    sent = []
    monkeypatch.setattr(requests, "post", lambda address, json=None, **options: sent.append(json))
    best = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.weights.h5", monitor="val_nll", mode="max", save_best_only=True, save_weights_only=True
    )
    # In each of these epochs the NLL falls, so that of a metric to be raised the first epoch is the best.
    stop = keras.callbacks.EarlyStopping("val_nll", mode="max", patience=2, restore_best_weights=True)
    plateau = keras.callbacks.ReduceLROnPlateau("val_nll", mode="max", factor=0.5, patience=1)
    own_history = keras.callbacks.History()
    readers = [
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        [best, stop],  # Keras takes lists in lists
        plateau,
        keras.callbacks.TensorBoard(tmp_path / "board", write_graph=False),
        keras.callbacks.RemoteMonitor(send_as_json=True),
        own_history,
        keras.callbacks.ProgbarLogger(),
    ]
    model, history = fit([readers, evaluation][::order], epochs=9)
    values = history["val_nll"]
    assert len(values) == 3
    assert values == sorted(values, reverse=True)
    assert nll(model, images_and_labels) == pytest.approx(values[0], abs=1e-5)
    model.load_weights(tmp_path / "best.weights.h5")
    assert nll(model, images_and_labels) == pytest.approx(values[0], abs=1e-5)
    assert best.best == stop.best == values[0]
    np.testing.assert_allclose(history["learning_rate"], [0.05, 0.05, 0.025])
    head, *rows = (line.split(",") for line in (tmp_path / "log.csv").read_text().splitlines())
    assert [float(row[head.index("val_nll")]) for row in rows] == values
    assert list(scalars(tmp_path / "board" / "validation", "epoch_nll")) == pytest.approx(values)
    assert [message["val_nll"] for message in sent] == own_history.history["val_nll"] == values


@pytest.mark.parametrize("order", quick([1, -1], -1), ids=["evaluation last", "evaluation first"])
def test_a_training_goes_on_from_its_backup_to_the_same_metrics(order, fit, evaluation, tmp_path):
    others = [keras.callbacks.TerminateOnNaN(), keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate)]
    _, whole = fit([evaluation, *others])
    for epochs in (2, EPOCHS):
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)
        _, history = fit([*others, backup, evaluation][::order], epochs=epochs)
    assert history["val_nll"] == whole["val_nll"][2:]


@pytest.mark.thorough
def test_averaged_weights_of_keras_stay_in_the_model(fit, evaluation, images_and_labels):
    """As test_callbacks.py shows of both orders, they are what is evaluated."""
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    model, history = fit([evaluation, swap], optimizer=SGD(0.5, use_ema=True, ema_momentum=0.5))
    assert nll(model, images_and_labels) == pytest.approx(history["val_nll"][-1], abs=1e-5)


class Own(keras.callbacks.Callback):
    """Notes what it is told."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(logs.get("val_ece"))


def warnings_in(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "absl"]


def test_functions_of_your_own_stay_where_they_are_and_it_is_said(fit, evaluation, caplog):
    before, behind = Own(), Own()
    look = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None)
    unlike = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: None)
    with caplog.at_level("WARNING", logger="absl"):
        _, history = fit([before, look, unlike, evaluation, behind], epochs=1)
    assert (before.seen, behind.seen) == ([None], history["val_ece"])
    (said,) = warnings_in(caplog)
    assert said.startswith("Own, LambdaCallback before Evaluation in the list of callbacks: no val_... metrics in")


def test_a_saver_before_averaged_weights_is_said(fit, caplog, tmp_path):
    saver = keras.callbacks.ModelCheckpoint(tmp_path / "last.weights.h5", save_weights_only=True)
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    with caplog.at_level("WARNING", logger="absl"):
        fit([saver, swap], optimizer=SGD(0.5, use_ema=True), epochs=1)
    (said,) = warnings_in(caplog)
    assert said.startswith("ModelCheckpoint before SwapEMAWeights in the list of callbacks: keeps weights that are not")


@pytest.mark.parametrize("kind", SETTERS)
def test_what_sets_the_learning_rate_is_refused_beside_a_schedule(kind, fit):
    callback = kind("val_nll", mode="min") if kind is keras.callbacks.ReduceLROnPlateau else kind(lambda *epoch: 0.1)
    schedule = constant_schedule(0.1, epochs=3, steps_per_epoch=3)
    with pytest.raises(UserError, match=f"whose learning_rate is a number beside {kind.__name__}, which sets it"):
        fit([callback], optimizer=SGD(schedule))


def test_a_plain_model_is_told_of_what_reads_too_early(images_and_labels, evaluation, tmp_path, caplog):
    model = keras.Sequential([keras.Input(images_and_labels[0].shape[1:]), keras.layers.Flatten()])
    model.add(keras.layers.Dense(int(images_and_labels[1].max()) + 1))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    log = keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))
    with caplog.at_level("WARNING"):
        model.fit(*images_and_labels, verbose=0, callbacks=[evaluation, log])
        assert "before Evaluation" not in caplog.text
        model.fit(*images_and_labels, verbose=0, callbacks=[log, evaluation])
    assert "CSVLogger before Evaluation in the list of callbacks: no val_... metrics" in caplog.text
