"""`Evaluation`: one pass per epoch over validation data, for any model, beside any callback; `StopOnNaN`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf import metrics
from cskd_tf.data import paired_dataset
from cskd_tf.errors import UserError
from cskd_tf.training.callbacks import Evaluation, StopOnNaN
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.optimizers import SGD
from tests.helpers import EVALUATION_LOGS, trainable_model


def test_evaluation_logs_all_metrics_for_later_callbacks(linear_network, images_and_labels, tmp_path):
    images, labels = images_and_labels
    model = trainable_model(linear_network())
    data = paired_dataset(images, labels, batch_size=8, seed=0)
    evaluation = Evaluation((images, labels), ece_bins=7, batch_size=5)
    path = str(tmp_path / "best.keras")
    best = keras.callbacks.ModelCheckpoint(path, monitor="val_ece", mode="min", save_best_only=True)
    recall = keras.callbacks.EarlyStopping(monitor="val_recall_at_1", mode="max", patience=9)
    log = keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))
    history = model.fit(data, epochs=3, verbose=0, callbacks=[evaluation, best, log, recall]).history
    logits, embeddings = model.predict(images, verbose=0), images.reshape(22, -1)
    expected = metrics.summarize(logits, labels, embeddings, ece_bins=7)
    for name in EVALUATION_LOGS:
        assert history[name][-1] == pytest.approx(expected[name.removeprefix("val_")], abs=1e-6)
    assert set(EVALUATION_LOGS) <= set((tmp_path / "log.csv").read_text().splitlines()[0].split(","))
    saved = keras.models.load_model(tmp_path / "best.keras")
    ece = metrics.expected_calibration_error(saved.predict(images, verbose=0), labels, bins=7)
    assert ece == pytest.approx(min(history["val_ece"]), abs=1e-6)


@pytest.mark.parametrize(("metric", "direction"), [("val_ece", "min"), ("test_recall_at_1", "max")])
def test_a_callback_that_cannot_know_what_is_better_is_refused(metric, direction, linear_network, images_and_labels):
    model = trainable_model(linear_network())
    stop = keras.callbacks.EarlyStopping(monitor=metric)
    before = model.get_weights()
    message = rf"EarlyStopping\(monitor='{metric}', mode='{direction}'\).*Received: mode='auto'"
    with pytest.raises(UserError, match=message):
        model.fit(paired_dataset(*images_and_labels, batch_size=8, seed=0), verbose=0, callbacks=[stop])
    assert stop.mode == "auto"
    np.testing.assert_array_equal(model.get_weights()[0], before[0])


def test_evaluation_of_a_plain_keras_model(linear_network, images_and_labels):
    images, labels = images_and_labels
    network = linear_network()
    network.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    validation = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)
    history = network.fit(images, labels, verbose=0, callbacks=[Evaluation(validation)]).history
    logits = network.predict(images, verbose=0)
    assert history["val_nll"][0] == pytest.approx(metrics.negative_log_likelihood(logits, labels), abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x, y[1:]), "as many labels as images.*22 images and 21 labels"),
        (lambda x, y: (x[:1], y[:1]), "at least two images.*1 images and 1 labels"),
        (lambda x, y: (x, y, np.ones(22)), r"as \(images, labels\).*Received: 3 parts"),
        (lambda x, y: x, "Received: ndarray"),
        (lambda x, y: (x, np.eye(3, dtype="float32")[y]), r"integer labels \[B\]. Received: float32 of shape"),
        (lambda x, y: (x, np.eye(3, dtype=int)[y]), r"Received: int64 of shape \(None, 3\)"),
        (lambda x, y: (x, y.astype(float)), "Received: float64"),
        (lambda x, y: tf.data.Dataset.from_tensors((x, y, y)), "Received: 3 parts, of which sample weights"),
        (lambda x, y: tf.data.Dataset.from_tensors(x), "Received: 1 parts"),
        (lambda x, y: tf.data.Dataset.from_tensors((x, y / 2)), "Received: float64"),
    ],
)
def test_evaluation_refuses_data_of_another_form(change, message, images_and_labels):
    with pytest.raises(ValueError, match=message):
        Evaluation(change(*images_and_labels))


def test_evaluation_refuses_labels_of_other_classes_before_training(linear_network, images_and_labels):
    images, labels = images_and_labels
    model = trainable_model(linear_network())
    with pytest.raises(ValueError, match=r"Expected labels from 0 to 2.*Received: \[3\]"):
        model.fit(images, labels, verbose=0, callbacks=[Evaluation((images, labels + 1))])
    assert int(model.step.numpy()) == 0


def test_evaluation_takes_labels_as_keras_has_them(linear_network, images_and_labels):
    images, labels = images_and_labels
    model = SelfDistiller(linear_network())
    model.compile(SGD(0.1))
    column = labels.astype("uint8")[:, None]
    evaluations = [Evaluation((images, labels)), Evaluation((images, column))]
    model.fit(images, column, verbose=0, callbacks=evaluations)
    one, two = (evaluation.predictions.metrics(ece_bins=20) for evaluation in evaluations)
    assert one == two


def test_one_evaluation_serves_model_after_model(linear_network, images_and_labels):
    images, labels = images_and_labels
    evaluation = Evaluation((images, labels))
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        model = SelfDistiller(linear_network())
        model.compile(SGD(0.1))
        for _ in range(2):  # and for a second training of one
            log = model.fit(images, labels, verbose=0, callbacks=[evaluation]).history
            own = metrics.negative_log_likelihood(model.predict(images, verbose=0), labels)
            assert log["val_nll"][-1] == pytest.approx(own, abs=1e-6)


@pytest.mark.parametrize("swap_on_epoch", [False, True])
@pytest.mark.parametrize("order", [1, -1], ids=["swap first", "evaluation first"])
def test_averaged_weights_are_evaluated_as_keras_does(swap_on_epoch, order, linear_network, images_and_labels):
    images, labels = images_and_labels
    model = SelfDistiller(linear_network())
    model.compile(SGD(0.5, use_ema=True, ema_momentum=0.5))
    swap, evaluation = keras.callbacks.SwapEMAWeights(swap_on_epoch=swap_on_epoch), Evaluation((images, labels))
    raw, seen = [], []
    peek = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: raw.append(model.network.get_weights()[0].copy()),
        on_epoch_end=lambda epoch, logs: seen.append(model.network.get_weights()[0].copy()),
    )
    history = model.fit(
        images, labels, batch_size=8, epochs=3, verbose=0,
        validation_data=(images, labels), callbacks=[*[swap, evaluation][::order], peek],
    ).history  # fmt: skip
    np.testing.assert_allclose(history["val_nll"], history["val_cross_entropy"], atol=1e-5)
    # Who comes later sees the weights that Keras promises them: averaged at the epoch's end, or not.
    for epoch in range(2):
        assert np.allclose(seen[epoch], raw[3 * epoch + 2], atol=1e-6) != swap_on_epoch


def test_a_loss_that_becomes_nan_stops_at_its_step(linear_network, images_and_labels):
    images, labels = (np.concatenate([part] * 2) for part in images_and_labels)
    images[20] = np.inf  # the third batch of 8
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)
    model = SelfDistiller(linear_network())
    model.compile(SGD(0.1))
    with pytest.raises(
        FloatingPointError, match=r"loss became nan in epoch 1, step 3. Set optimizer.clip_norm=1, or lower"
    ):
        model.fit(batches, epochs=2, verbose=0, callbacks=[StopOnNaN()])
