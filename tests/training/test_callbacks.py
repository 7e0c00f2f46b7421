"""`Evaluation`: one pass per epoch over validation data, for any model, beside any callback; `StopOnNaN`."""

import types

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
from tests.selection import few


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


@pytest.mark.thorough
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


@pytest.mark.parametrize(("steps", "where"), few([(1, "step 3"), (3, "steps 1 to 3")], 1))
def test_a_loss_that_becomes_nan_stops_at_its_step(steps, where, linear_network, images_and_labels):
    images, labels = (np.concatenate([part] * 2) for part in images_and_labels)
    images[20] = np.inf  # the third batch of 8, of six
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)
    model = SelfDistiller(linear_network())
    model.compile(SGD(0.1), steps_per_execution=steps)
    message = rf"loss became nan in epoch 1, {where}. Set optimizer.clip_norm=1, or lower"
    with pytest.raises(FloatingPointError, match=message):
        model.fit(batches, epochs=2, verbose=0, callbacks=[StopOnNaN()])


@pytest.mark.thorough
def test_what_evaluation_could_not_judge_is_refused_before_training(linear_network, images_and_labels):
    images, labels = images_and_labels
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
    for data, options, message in (
        (batches.take(0), {}, "Received: data without a batch"),
        (batches.unbatch(), {}, r"Expected batches .*data.batch\(32\)"),
        ((np.full_like(images, np.nan), labels), {}, "Expected images of finite numbers"),
        ((images, labels), {"batch_size": 0}, "batch_size=0"),
        ((images, labels), {"batch_size": 2.5}, "batch_size=2.5"),
    ):
        with pytest.raises(UserError, match=message):
            Evaluation(data, **options)
    model, height = trainable_model(linear_network()), images.shape[1]
    training = paired_dataset(images, labels, batch_size=8, seed=0)
    for callbacks, message in (
        ([Evaluation((images[:, :-1], labels))], f"Expected images .*Received: .None, {height - 1}, "),
        ([Evaluation((images, labels)), Evaluation(batches)], "one Evaluation of each split.*2 with split='val'"),
    ):
        with pytest.raises(UserError, match=message):
            model.fit(training, verbose=0, callbacks=callbacks)
    assert int(model.step) == 0
    model.fit(training, verbose=0, callbacks=[Evaluation((images, labels)), Evaluation(batches, split="test")])


@pytest.mark.thorough
def test_data_that_turn_out_to_be_empty_are_told(linear_network, images_and_labels):
    data = tf.data.Dataset.from_tensor_slices(images_and_labels).filter(lambda image, label: label < 0).batch(4)
    model = trainable_model(linear_network())
    with pytest.raises(UserError, match="Expected at least one batch of images. Received: a data set of none"):
        model.fit(paired_dataset(*images_and_labels, batch_size=8, seed=0), verbose=0, callbacks=[Evaluation(data)])


def test_a_network_without_embeddings_is_refused_before_training(images_and_labels):
    layers = [keras.layers.Conv2D(3, 3), keras.layers.GlobalAveragePooling2D()]
    model = SelfDistiller(keras.Sequential([keras.Input((4, 4, 1)), *layers]))
    model.compile(SGD(0.01))
    with pytest.raises(ValueError, match="Expected a network whose last dense layer reads the embedding"):
        model.fit(*images_and_labels, verbose=0, callbacks=[Evaluation(images_and_labels)])
    assert int(model.step.numpy()) == 0


def test_arrays_are_judged_in_batches_of_the_given_size(images_and_labels):
    data = Evaluation(images_and_labels, batch_size=5).data
    assert [len(labels) for _, labels in data] == [5, 5, 5, 5, 2]


def test_logits_that_are_infinite_stop_a_training_too(linear_network, images_and_labels):
    images, labels = images_and_labels
    model = SelfDistiller(linear_network())
    model.compile(SGD(0.0 + 1e-9))
    far = images.copy()
    far[0] = np.finfo("float32").max  # times a weight above 1 it is infinite, and no NaN
    model.network.layers[-1].kernel.assign(np.full((16, 3), 2.0))
    with pytest.raises(FloatingPointError, match="The validation logits are not finite after epoch 1"):
        model.fit(images, labels, verbose=0, callbacks=[Evaluation((far, labels))])


def test_the_step_of_an_epoch_that_is_gone_on_with_is_counted_from_its_beginning():
    stop = StopOnNaN()
    stop.set_model(types.SimpleNamespace(steps_per_execution=1, batches_before=5))
    stop.on_epoch_begin(2)
    with pytest.raises(FloatingPointError, match="The loss became nan in epoch 3, step 8. "):
        stop.on_train_batch_end(2, {"loss": float("nan")})
