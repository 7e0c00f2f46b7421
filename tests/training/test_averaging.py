"""Averaged weights: what they are, who sees them, and that training goes on without them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.errors import UserError
from cskd_tf.training.averaging import WeightAverage
from cskd_tf.training.callbacks import Evaluation
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.optimizers import SGD, make
from tests.selection import few

EPOCHS, STEPS = 3, 3  # of each epoch
MOMENTUM = 0.4  # reached in the fifth step, (1 + 5) / (10 + 5)


@pytest.fixture
def fit(batch_norm_network, images_and_labels):
    def train(callbacks=(), *, ema_momentum=MOMENTUM, epochs=EPOCHS, optimizer=None, **options):
        keras.utils.set_random_seed(1)
        model = SelfDistiller(batch_norm_network())
        model.compile(optimizer or make("AdamW", 0.05, weight_decay=0.1, arguments={}), ema_momentum=ema_momentum)
        options = {"batch_size": 8, "shuffle": False, "verbose": 0, **options}
        return model, model.fit(*images_and_labels, epochs=epochs, callbacks=list(callbacks), **options).history

    return train


class Raw(keras.callbacks.Callback):
    """Notes the weights after each step, and at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.steps, self.ends = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(self.model.network.get_weights())

    def on_epoch_end(self, epoch, logs=None):
        self.ends.append(self.model.network.get_weights())


def test_weights_and_running_statistics_are_averaged_and_evaluated_and_training_goes_on_without(fit, images_and_labels):
    noted, alone = Raw(), Raw()
    evaluation = Evaluation(images_and_labels)
    model, history = fit([noted, evaluation], validation_data=images_and_labels)
    initial = [keras.ops.convert_to_numpy(each) for each in fit(epochs=0)[0].network.weights]
    fit([alone], ema_momentum=0.0)
    for one, two in zip(noted.steps, alone.steps, strict=True):  # to the bit
        assert all(map(np.array_equal, one, two))
    averages = [array.astype("float64") for array in initial]
    for step, arrays in enumerate(noted.steps):
        momentum = min(MOMENTUM, (1 + step) / (10 + step))
        averages = [momentum * old + (1 - momentum) * new for old, new in zip(averages, arrays, strict=True)]
        if step % STEPS == STEPS - 1:
            for one, two in zip(noted.ends[step // STEPS], averages, strict=True):
                np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
    assert len(model.average.variables) == len(initial) + 1 == 9
    np.testing.assert_allclose(history["val_nll"], history["val_loss"], rtol=1e-5)
    assert all(map(np.array_equal, model.network.get_weights(), noted.ends[-1]))
    own = model.evaluate(*images_and_labels, verbose=0, return_dict=True)["loss"]
    assert own == pytest.approx(history["val_nll"][-1], rel=1e-5)


@pytest.mark.slow
def test_a_training_goes_on_from_a_backup_to_the_same_bits(fit, images_and_labels, tmp_path):
    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)

    model, history = fit([Evaluation(images_and_labels)])
    fit([backup()], epochs=2)
    again, rest = fit([backup(), Evaluation(images_and_labels)])
    assert rest["val_nll"] == history["val_nll"][2:]
    assert all(map(np.array_equal, again.get_weights(), model.get_weights()))


@pytest.mark.thorough
def test_a_file_has_the_averages_and_what_they_stand_for(fit, images_and_labels, tmp_path):
    model, _ = fit(epochs=1)
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    for each in (model, copy):
        each.fit(*images_and_labels, batch_size=8, shuffle=False, verbose=0)
    assert copy.average.momentum == MOMENTUM
    for one, two in zip(model.average.variables, copy.average.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
    assert all(map(np.array_equal, copy.get_weights(), model.get_weights()))


@pytest.mark.slow
def test_single_steps_train_the_weights_that_are_no_averages(fit, images_and_labels):
    model, other = fit(epochs=1)[0], fit(epochs=1, ema_momentum=0.0)[0]
    for each in (model, other):
        each.train_on_batch(*images_and_labels)
    assert all(map(np.array_equal, model.get_weights(), other.get_weights()))
    model.put_average(True)
    assert not np.array_equal(model.get_weights()[0], other.get_weights()[0])


def test_what_cannot_be_averaged_is_refused(fit, linear_network):
    model = SelfDistiller(linear_network())
    with pytest.raises(UserError, match="ema_momentum from 0 to below 1. Received: ema_momentum=1.0"):
        model.compile(SGD(0.1), ema_momentum=1.0)
    with pytest.raises(UserError, match="one average of the weights. Received: ema_momentum=0.5 and use_ema=True"):
        model.compile(SGD(0.1, use_ema=True), ema_momentum=0.5)


@pytest.mark.thorough
def test_weights_that_were_saved_without_an_average_are_loaded_and_averaged_anew(fit, tmp_path):
    plain, _ = fit(ema_momentum=0.0, epochs=1)
    plain.save_weights(tmp_path / "plain.weights.h5")
    model, _ = fit(epochs=1)
    model.load_weights(tmp_path / "plain.weights.h5")
    for one, two in zip(model.network.get_weights(), plain.network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["set_weights", "load_weights"])
def test_training_goes_on_from_weights_that_were_set_between(kind, fit, images_and_labels, tmp_path):
    """The averages are in their place then."""
    model, _ = fit(optimizer=SGD(1e-9))
    given = [np.full_like(array, 0.5) for array in model.network.get_weights()]
    other, _ = fit(epochs=0)
    other.network.set_weights(given)
    other.network.save_weights(tmp_path / "given.weights.h5")
    if kind == "set_weights":
        model.network.set_weights(given)
    else:
        model.network.load_weights(tmp_path / "given.weights.h5")
    model.fit(*images_and_labels, epochs=1, verbose=0)
    for in_place in (True, False):
        model.put_average(in_place)
        for weight in model.network.trainable_weights:
            np.testing.assert_allclose(weight, 0.5, atol=1e-5)


@pytest.mark.parametrize("dtype", few(["bfloat16", "float16"], 1))
def test_an_average_of_sixteen_bits_does_not_stand_still(dtype):
    weight, step = keras.Variable([1.0], dtype=dtype), keras.Variable(10_000, dtype="int64")
    average = WeightAverage([weight], momentum=0.999)
    weight.assign([2.0])
    for _ in range(100):
        for _ in range(10):
            average.update(step)
        average.put(True)  # as at each epoch's end
        average.put(False)
        assert float(weight.numpy()[0]) == 2.0
    average.put(True)
    assert float(weight.numpy()[0]) == pytest.approx(2 - 0.999**1000, abs=0.01)
    average.put(False)
    assert float(weight.numpy()[0]) == 2.0


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize(
    ("assigned", "way"),
    [
        ("set_weights", "keras"),
        ("set_weights", "tensorflow"),
        ("EarlyStopping", "keras"),
        ("EarlyStopping", "tensorflow"),
        ("assign", "keras"),  # of which nothing tells the model before TensorFlow saves it
    ],
)
def test_a_file_goes_on_from_what_was_assigned_as_the_model_does(
    assigned, way, dtype, linear_network, images_and_labels, tmp_path
):
    def make():
        model = SelfDistiller(linear_network(dtype=dtype))
        model.compile(SGD(1.0), ema_momentum=0.9)
        model.optimizer.build(model.trainable_variables)
        return model

    model = make()
    stop = keras.callbacks.EarlyStopping(monitor="loss", mode="max", patience=1, restore_best_weights=True)
    callbacks = [stop] if assigned == "EarlyStopping" else []
    model.fit(*images_and_labels, epochs=4, verbose=0, callbacks=callbacks)
    if assigned == "set_weights":
        model.set_weights([np.full_like(weight, 0.5) for weight in model.get_weights()])
    if assigned == "assign":
        model.network.weights[0].assign(np.full_like(model.network.weights[0], 0.5))
    if way == "keras":
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
    else:
        loaded = make()
        path = tf.train.Checkpoint(model=model).save(tmp_path / "checkpoint")
        tf.train.Checkpoint(model=loaded).restore(path).assert_consumed()
    for each in (model, loaded):
        each.put_average(False)  # as fit does first
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_checkpoint_of_tensorflow_takes_a_fitted_model_back(linear_network, images_and_labels, tmp_path):
    """The weights that come back with their averages were not assigned in their place."""

    def make():
        model = SelfDistiller(linear_network())
        model.compile(SGD(1.0), ema_momentum=0.9)
        model.optimizer.build(model.trainable_variables)
        return model

    model = make()
    model.fit(*images_and_labels, epochs=2, verbose=0)
    path = tf.train.Checkpoint(model=model).save(tmp_path / "checkpoint")
    averages = model.get_weights()
    model.put_average(False)
    trained = model.get_weights()
    assert any((one != other).any() for one, other in zip(averages, trained, strict=True))
    model.fit(*images_and_labels, epochs=2, verbose=0)
    tf.train.Checkpoint(model=model).restore(path).assert_consumed()
    model.save(tmp_path / "model.keras")  # which settles what was assigned
    for each in (model, keras.models.load_model(tmp_path / "model.keras")):
        each.put_average(False)
        for one, other in zip(trained, each.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_an_average_is_restored_where_compile_comes_later(linear_network, images_and_labels, tmp_path):
    model = SelfDistiller(linear_network())
    model.compile(SGD(1.0), ema_momentum=0.9)
    model.fit(*images_and_labels, epochs=2, verbose=0)
    path = tf.train.Checkpoint(model=model).save(tmp_path / "checkpoint")
    other = SelfDistiller(linear_network())
    status = tf.train.Checkpoint(model=other).restore(path)
    other.compile(SGD(1.0), ema_momentum=0.9)
    other.optimizer.build(other.trainable_variables)
    status.assert_consumed()
    for each in (model, other):
        each.put_average(False)
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_of_sixteen_bits_replicas_share_the_average_and_what_it_stands_for():
    variables = [keras.Variable([1.0, 2.0], dtype=dtype) for dtype in ("bfloat16", "float32")]
    average = WeightAverage(variables, momentum=0.9)
    half, single = ([each.dtype for each in average.of([variable])] for variable in variables)
    assert half == ["float32", "bfloat16"]
    assert single == ["float32"]


def test_what_is_assigned_beside_an_average_in_sixteen_bits_is_trained_on_after_a_file():
    weight = keras.Variable([1.0], dtype="bfloat16")
    average = WeightAverage([weight], momentum=0.9)
    weight.assign([2.0])
    average.put(True)
    weight.assign([5.0])
    average.settle()  # as before a file
    average.put(False)
    assert float(weight.numpy()[0]) == 5.0
