"""A backbone that is frozen at first: what moves, what batch norm does, and the same on replicas and after a stop."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import paired_dataset
from cskd_tf.errors import UserError
from cskd_tf.methods import CSKD
from cskd_tf.networks.depth import layer_rates
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.freezing import FrozenBackbone
from cskd_tf.training.optimizers import make

OPTIONS = {"weight_decay": 0.1, "arguments": {}, "clip_norm": 0.5, "restarts": True}


def network_of(*, synchronized=False):
    """A stem, whose own layer is frozen for good, a block, and a classifier."""
    return keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.Conv2D(2, 1, use_bias=False, name="stem"),
            keras.layers.Conv2D(2, 3, name="block1_conv", trainable=False),
            keras.layers.BatchNormalization(momentum=0.9, synchronized=synchronized, name="block1_bn"),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            keras.layers.Dense(3, name="head"),
        ]
    )


def compiled(network, *, ema_momentum=0.0, **options):
    model = SelfDistiller(network, [CSKD()])
    rates = layer_rates(network, model.trainable_variables, factor=0.5)
    model.compile(make("AdamW", 0.05, rates=rates, **OPTIONS, **options), ema_momentum=ema_momentum)
    return model


def weights_of(model):
    """The weights by the names of their layers."""
    return {"/".join(weight.path.split("/")[-2:]): weight.numpy() for weight in model.network.weights}


def trained(model, data, *, epochs, callbacks):
    """Per epoch, the weights by the names of their layers."""
    seen = []
    look = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(weights_of(model)))
    model.fit(data, epochs=epochs, verbose=0, callbacks=[*callbacks, look])
    return seen


def moved(before, after):
    return {path for path in before if not np.array_equal(before[path], after[path])}


def data_of(model, images_and_labels):
    return paired_dataset(*images_and_labels, batch_size=8, seed=0, **model.data_options)


def test_the_classifier_learns_alone_and_then_all_but_what_was_frozen_before(images_and_labels, tmp_path):
    model = compiled(network_of())
    start = weights_of(model)
    seen = trained(model, data_of(model, images_and_labels), epochs=3, callbacks=[FrozenBackbone(2)])
    head = {"head/kernel", "head/bias"}
    assert moved(start, seen[0]) == moved(seen[0], seen[1]) == head  # and no running statistics
    statistics = {"block1_bn/moving_mean", "block1_bn/moving_variance"}
    all_others = {"stem/kernel", "block1_bn/gamma", "block1_bn/beta"}
    assert moved(seen[1], seen[2]) == head | statistics | all_others
    # The optimizer began anew in the third epoch, of three steps; the schedule has counted nine.
    assert int(model.optimizer.iterations) == 3
    assert int(model.optimizer._iterations.numpy()) == int(model.step.numpy()) == 9
    assert [layer.trainable for layer in model.network.layers if layer.weights] == [True, False, True, True]

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)

    for epochs in (2, 3):  # stopped where the backbone joins in
        again = compiled(network_of())
        keras.utils.set_random_seed(0)
        again.network.set_weights(list(start.values()))
        callbacks = [backup(), FrozenBackbone(2)]
        last = trained(again, data_of(again, images_and_labels), epochs=epochs, callbacks=callbacks)[-1]
    assert all(np.array_equal(last[path], seen[2][path]) for path in last)


@pytest.mark.thorough
def test_two_replicas_freeze_average_and_scale_rates_as_one(images_and_labels, two_replicas):
    results = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        keras.utils.set_random_seed(1)
        with strategy.scope():
            model = compiled(network_of(synchronized=True), ema_momentum=0.4)
        results.append(trained(model, data_of(model, images_and_labels), epochs=2, callbacks=[FrozenBackbone(1)])[-1])
    for one, two in zip(results[0].values(), results[1].values(), strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-3, atol=1e-4)


def test_what_cannot_be_frozen_is_refused(linear_network, images_and_labels):
    with pytest.raises(UserError, match="at least one epoch. Received: epochs=0"):
        FrozenBackbone(0)
    model = SelfDistiller(linear_network())
    for optimizer, name in ((make("Lion", 0.1, weight_decay=0.0, arguments={}), "Lion"), ("adam", "Adam")):
        model.compile(optimizer)
        with pytest.raises(UserError, match=f"made with restarts=True, beside FrozenBackbone. Received: {name}"):
            model.fit(*images_and_labels, verbose=0, callbacks=[FrozenBackbone(1)])


@pytest.mark.thorough
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, FloatingPointError])
def test_an_interrupted_training_leaves_nothing_frozen(interruption, images_and_labels):
    """Keras tells callbacks of no end then."""

    def interrupt(batch, logs):
        raise interruption

    model = compiled(network_of())
    data, before = data_of(model, images_and_labels), [layer.trainable for layer in model.network.layers]
    with pytest.raises(interruption):
        model.fit(
            data,
            verbose=0,
            callbacks=[FrozenBackbone(2), keras.callbacks.LambdaCallback(on_train_batch_end=interrupt)],
        )
    assert [layer.trainable for layer in model.network.layers] == before
    start = weights_of(model)
    model.fit(data, verbose=0)
    assert "stem/kernel" in moved(start, weights_of(model))


@pytest.mark.thorough
@pytest.mark.parametrize("epochs", [1, 2])
def test_variables_that_were_frozen_alone_stay_so(epochs, images_and_labels):
    network = network_of()
    network.get_layer("stem").enable_lora(1)
    kernel = network.get_layer("stem")._kernel
    model = compiled(network)
    before = kernel.numpy()
    model.fit(data_of(model, images_and_labels), epochs=epochs, verbose=0, callbacks=[FrozenBackbone(1)])
    assert not kernel.trainable
    np.testing.assert_array_equal(kernel.numpy(), before)
    factors = [variable for variable in network.get_layer("stem").trainable_variables if "lora" in variable.path]
    assert len(factors) == 2
    assert any(variable.numpy().any() for variable in factors)


@pytest.mark.thorough
def test_a_file_of_the_frozen_epochs_is_of_a_network_that_can_be_trained(images_and_labels, tmp_path):
    model = compiled(network_of())
    data, before = data_of(model, images_and_labels), [layer.trainable for layer in model.network.layers]
    keep = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    whole = trained(model, data, epochs=3, callbacks=[FrozenBackbone(2), keep])
    loaded = keras.models.load_model(tmp_path / "1.keras")
    assert [layer.trainable for layer in loaded.network.layers] == before
    loaded.fit(data_of(loaded, images_and_labels), initial_epoch=1, epochs=3, verbose=0, callbacks=[FrozenBackbone(2)])
    for path, weight in weights_of(loaded).items():
        np.testing.assert_allclose(weight, whole[-1][path], atol=1e-6, err_msg=path)
