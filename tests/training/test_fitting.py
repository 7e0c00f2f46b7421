"""What `fit` refuses before it starts, what it tells the methods, and the statistics that it evaluates with."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import paired_dataset
from cskd_tf.methods import PSKD, Distillation, Method
from cskd_tf.training.callbacks import Evaluation, StopOnNaN
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.optimizers import SGD
from tests.helpers import compiled


def test_a_loss_that_is_not_finite_is_told_with_the_step_of_its_epoch(linear_network, images_and_labels):
    model = compiled(linear_network())
    data = paired_dataset(*images_and_labels, batch_size=8, seed=0)
    model.fit(data, verbose=0)
    model.step.assign(5)
    model.go_on_within_epoch(model.metric_values())
    model.network.set_weights([np.full_like(weight, np.nan) for weight in model.network.get_weights()])
    with pytest.raises(FloatingPointError, match="in epoch 2, step 3"):
        model.fit(data, initial_epoch=1, epochs=2, verbose=0, callbacks=StopOnNaN())


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


def test_xla_on_several_replicas_is_refused(linear_network, two_replicas):
    with two_replicas.scope():
        model = SelfDistiller(linear_network())
        with pytest.raises(ValueError, match=r'jit_compile="auto" or False.*jit_compile=True on 2 replicas'):
            model.compile(SGD(0.1), jit_compile=True)
        model.compile(SGD(0.1), jit_compile="auto")


@pytest.mark.parametrize("steps", [0, -1, 1.5])
def test_an_epoch_of_no_steps_is_refused(steps, linear_network, images_and_labels):
    paired = paired_dataset(*images_and_labels, batch_size=8, seed=0)
    for data in (paired, tf.data.Dataset.from_tensor_slices(images_and_labels).batch(8).repeat()):
        with pytest.raises(ValueError, match=f"steps_per_epoch to be an integer of at least 1. Received: .*={steps}"):
            compiled(linear_network()).fit(data, steps_per_epoch=steps, verbose=0)
