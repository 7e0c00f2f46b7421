"""What `fit` refuses before it starts, what it tells the methods, and the statistics that it evaluates with."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import paired_dataset
from cskd_tf.methods import CSKD, DDGSD, PSKD, Distillation, Method
from cskd_tf.networks.layers import BatchNormalization
from cskd_tf.training.callbacks import Evaluation, StopOnNaN
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.optimizers import SGD
from tests.helpers import compiled
from tests.selection import few


def test_a_loss_that_is_not_finite_is_told_with_the_step_of_its_epoch(linear_network, images_and_labels):
    model = compiled(linear_network())
    data = paired_dataset(*images_and_labels, batch_size=8, seed=0)
    model.fit(data, verbose=0)
    model.step.assign(5)
    model.go_on_within_epoch(model.metric_values())
    model.network.set_weights([np.full_like(weight, np.nan) for weight in model.network.get_weights()])
    with pytest.raises(FloatingPointError, match="in epoch 2, step 3"):
        model.fit(data, initial_epoch=1, epochs=2, verbose=0, callbacks=StopOnNaN())


@pytest.mark.thorough
def test_replicas_are_evaluated_with_the_statistics_that_are_saved(batch_norm_network, images_and_labels, two_replicas):
    """Batch norm that is not synchronised keeps others on each replica."""
    validation = tf.data.Dataset.from_tensor_slices(images_and_labels).batch(6)
    with two_replicas.scope():
        model = compiled(batch_norm_network())
    data = paired_dataset(*images_and_labels, batch_size=9, seed=5, **model.data_options)
    logs = model.fit(data, validation_data=validation, callbacks=[Evaluation(validation)], verbose=0).history
    saved = compiled(batch_norm_network())
    saved.network.set_weights(model.network.get_weights())
    expected = saved.evaluate(validation, verbose=0, return_dict=True)["loss"]
    assert logs["val_loss"] == pytest.approx([expected], rel=1e-6)  # Keras' own
    assert logs["val_nll"] == pytest.approx([expected], rel=1e-6)


def test_mixed_targets_have_the_classes_of_the_network(linear_network, images_and_labels):
    from cskd_tf.methods import Cutout, LabelSmoothing

    class Targets(Method):
        term_names = ("smallest",)

        def terms(self, batch, outputs, targets):
            assert targets.shape[-1] == batch["targets"].shape[-1] == 5
            return {"smallest": tf.reduce_min(targets, axis=-1)}

    # 0.3 over 5 classes, although the data have 3.
    model = compiled(linear_network(classes=5), [Cutout(probability=0.0), LabelSmoothing(epsilon=0.3), Targets()])
    data = paired_dataset(*images_and_labels, batch_size=8, seed=0, **model.data_options)
    assert model.fit(data, verbose=0).history["smallest"] == [pytest.approx(0.06)]


@pytest.mark.thorough
def test_methods_that_count_epochs_are_told_or_the_loop_is_refused(linear_network, images_and_labels, caplog):
    model = SelfDistiller(linear_network(), [PSKD()], num_examples=22)
    model.compile(SGD(0.01))
    data = paired_dataset(*images_and_labels, batch_size=8, seed=0, **model.data_options)
    model.fit(data, epochs=1, verbose=0)
    with pytest.raises(ValueError, match=r"fit\(initial_epoch=1, epochs=\.\.\.\) of a model.*\['PSKD'\] must know"):
        model.fit(data, epochs=1, verbose=0)
    model.fit(data, initial_epoch=1, epochs=2, verbose=0)
    assert model.methods[0].share.numpy() == pytest.approx(0.8)
    with caplog.at_level("INFO", logger="absl"):
        model.fit(data, epochs=2, verbose=0)
    assert "epoch 1 of 2, though the model has seen 2" in caplog.text


def test_a_frozen_model_is_refused(linear_network, images_and_labels):
    model = compiled(linear_network())
    model.network.trainable = False
    with pytest.raises(ValueError, match="Expected at least one trainable weight.*all of it frozen"):
        model.fit(*images_and_labels, verbose=0)


def test_a_checkpoint_that_cannot_be_written_is_refused_before_training(linear_network, images_and_labels, tmp_path):
    model = compiled(linear_network(), [Distillation(teacher=linear_network())])
    whole, weights = (
        keras.callbacks.ModelCheckpoint(tmp_path / f"best{suffix}", save_weights_only=weights_only)
        for suffix, weights_only in ((".keras", False), (".weights.h5", True))
    )
    with pytest.raises(ValueError, match="Expected a teacher that is named by its .keras file"):
        model.fit(*images_and_labels, verbose=0, callbacks=[whole])
    assert int(model.step.numpy()) == 0
    model.fit(*images_and_labels, verbose=0, callbacks=[weights])
    assert (tmp_path / "best.weights.h5").exists()


def layers_that_keep_something():
    """Batch norm, dropout, and layers that add to the loss."""
    inputs = keras.Input((4, 4, 1))
    hidden = keras.layers.Conv2D(3, 2, kernel_regularizer=keras.regularizers.L2(0.1))(inputs)
    hidden = keras.layers.Dropout(0.3, seed=7)(BatchNormalization()(hidden))
    hidden = keras.layers.Flatten()(keras.layers.ActivityRegularization(l2=0.1)(hidden))
    return keras.Model(inputs, keras.layers.Dense(3, dtype="float32")(hidden))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["train", "train_no_update"])
def test_xla_compiles_a_replica_as_keras_compiles_the_step_of_one(mode, images_and_labels, monkeypatch):
    """Of one replica, because XLA draws other numbers for dropout than TensorFlow."""
    trained = []
    for in_replica in (False, True):
        keras.utils.set_random_seed(1)
        methods = [CSKD(partner_batch_norm=mode)]
        model = SelfDistiller(layers_that_keep_something(), methods)
        model.compile(SGD(0.1, momentum=0.9), jit_compile=not in_replica)
        model._state.compiled_in_replicas = in_replica
        data = paired_dataset(*images_and_labels, batch_size=8, seed=0, **model.data_options)
        logs = model.fit(data, epochs=2, verbose=0).history
        trained.append((model.get_weights(), logs))
    (expected, expected_logs), (weights, logs) = trained
    for one, other in zip(expected, weights, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-6)
    assert logs.keys() == expected_logs.keys()
    for name, values in logs.items():
        assert values == pytest.approx(expected_logs[name], rel=1e-6)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("policy", "parts"),
    [("float32", 2), *(pytest.param(name, 1, marks=pytest.mark.slow) for name in ("mixed_bfloat16", "mixed_float16"))],
)
def test_xla_compiles_each_of_two_replicas(policy, parts, batch_norm_network, images_and_labels, two_replicas):
    keras.config.set_dtype_policy(policy)
    trained = []
    for jit_compile in (False, True):
        keras.utils.set_random_seed(1)
        with two_replicas.scope():
            model = SelfDistiller(batch_norm_network(), [CSKD()])
            model.compile(SGD(0.1), gradient_accumulation_steps=parts, jit_compile=jit_compile)
        assert model.get_compile_config()["jit_compile"] is jit_compile
        before = model.get_weights()
        data = paired_dataset(*images_and_labels, batch_size=8, seed=0, **model.data_options)
        trained.append((model.fit(data, epochs=2, verbose=0).history, model.get_weights()))
    (expected_logs, expected), (logs, weights) = trained
    rounding = {"float32": 1e-6, "mixed_bfloat16": 2**-8, "mixed_float16": 2**-10}[policy]
    assert logs == {name: pytest.approx(values, rel=rounding, abs=rounding) for name, values in expected_logs.items()}
    for one, other in zip(expected, weights, strict=True):
        np.testing.assert_allclose(other, one, atol=rounding)
    moved = [np.abs(new - old).max() for new, old in zip(weights, before, strict=True)]
    assert max(moved) > 4 * rounding


def test_xla_on_replicas_is_refused_where_these_need_the_whole_batch_for_the_loss(linear_network, two_replicas):
    synchronized = [keras.Input((4, 4, 1)), BatchNormalization(synchronized=True, name="over_all")]
    layers = [*synchronized, keras.layers.Flatten(), keras.layers.Dense(3)]
    with two_replicas.scope():
        for model, name in (
            (SelfDistiller(linear_network(), [DDGSD(feature_weight=0.5)]), "DDGSD"),
            (SelfDistiller(keras.Sequential(layers)), "over_all"),
        ):
            with pytest.raises(ValueError, match=rf"beside {name}: .*Received: jit_compile=True on 2 replicas"):
                model.compile(SGD(0.1), jit_compile=True)
            model.compile(SGD(0.1), jit_compile="auto")


@pytest.mark.parametrize("steps", few([0, -1, 1.5], 1))
def test_an_epoch_of_no_steps_is_refused(steps, linear_network, images_and_labels):
    paired = paired_dataset(*images_and_labels, batch_size=8, seed=0)
    for data in (paired, tf.data.Dataset.from_tensor_slices(images_and_labels).batch(8).repeat()):
        with pytest.raises(ValueError, match=f"steps_per_epoch to be an integer of at least 1. Received: .*={steps}"):
            compiled(linear_network()).fit(data, steps_per_epoch=steps, verbose=0)
