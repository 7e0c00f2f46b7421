"""Where AdaCos' class vectors start, and that what is loaded replaces them; methods of before it had an argument."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf import networks
from cskd_tf.errors import UserError
from cskd_tf.methods import BYOT, AdaCos, CutMix, VirtualSoftmax
from cskd_tf.runs import import_checkpoint
from cskd_tf.runs.callbacks import Checkpoint
from cskd_tf.runs.workdir import Workdir
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.optimizers import SGD
from tests.helpers import ALONE, preact_resnet10_weights
from tests.selection import few


def make(methods, *, seed=1, strategy=None):
    """A model around a network of fixed weights, 64 features to 10 classes."""
    with (strategy or tf.distribute.get_strategy()).scope():
        network = keras.Sequential(
            [keras.Input((64,)), keras.layers.Dense(64, name="hidden"), keras.layers.Dense(10, name="head")]
        )
        generator = np.random.default_rng(0)
        network.set_weights([generator.normal(size=weight.shape) for weight in network.get_weights()])
        keras.utils.set_random_seed(seed)
        model = SelfDistiller(network, methods)
        model.compile(SGD(0.05))
        model.optimizer.build(model.trainable_variables)
    return model


def head(model):
    return model.network.get_layer("head").kernel.numpy()


def test_class_vectors_start_xavier_uniform_from_the_seed():
    plain, vectors = make([]), head(make([AdaCos()]))
    bound = np.sqrt(6 / (64 + 10))
    assert np.abs(vectors).max() <= bound
    # 640 numbers of one distribution: quantiles of the uniform one, to 1.95 / sqrt(640) with 99.9 % probability.
    places = (np.sort(vectors, axis=None) + bound) / (2 * bound)
    assert np.abs(places - np.arange(0.5, 640) / 640).max() < 0.077
    np.testing.assert_array_equal(vectors, head(make([AdaCos()])))
    assert not np.allclose(vectors, head(make([AdaCos()], seed=2)))
    kept = make([AdaCos(class_vectors="network")])
    np.testing.assert_array_equal(head(kept), head(plain))
    changed = make([AdaCos()])
    for name in ("hidden/kernel", "hidden/bias", "head/bias"):  # and nothing else starts anew
        one, two = (next(w for w in each.network.weights if w.path.endswith(name)) for each in (changed, plain))
        np.testing.assert_array_equal(one.numpy(), two.numpy())
    with pytest.raises(
        ValueError, match="class_vectors to be one of .'xavier', 'network'.. Received: class_vectors='he'"
    ):
        AdaCos(class_vectors="he")


@pytest.mark.thorough
def test_the_vectors_of_a_classifier_with_lora_are_what_it_computes():
    network = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5), keras.layers.Dense(3, name="head")])
    network.get_layer("head").enable_lora(2)
    with pytest.raises(UserError, match="class_vectors='network' begins with what it is. Received: <Dense name=head"):
        SelfDistiller(network, [AdaCos()])
    images, labels = np.random.default_rng(0).normal(size=(12, 6)).astype("float32"), np.arange(12) % 3
    for method in (AdaCos(class_vectors="network"), VirtualSoftmax()):
        model = SelfDistiller(network, [method])
        model.compile(SGD(0.1))
        before = network.get_layer("head").kernel.numpy()
        assert np.isfinite(model.fit(images, labels, verbose=0).history["loss"]).all()
        assert np.abs(network.get_layer("head").kernel.numpy() - before).max() > 1e-4


def test_a_convolution_as_classifier_starts_anew_too():
    inputs = keras.Input((1, 1, 64))
    outputs = keras.layers.Flatten()(keras.layers.Conv2D(10, 1, name="head", kernel_initializer="zeros")(inputs))
    network = keras.Model(inputs, outputs)
    SelfDistiller(network, [AdaCos()])
    kernel = network.get_layer("head").kernel.numpy()
    assert kernel.shape == (1, 1, 64, 10)
    assert 0.9 * np.sqrt(6 / 74) < np.abs(kernel).max() <= np.sqrt(6 / 74)


def test_every_replica_starts_with_the_same_vectors(two_replicas):
    model = make([AdaCos()], strategy=two_replicas)
    one, two = (part.numpy() for part in model.network.get_layer("head").kernel.value.values)
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, head(make([AdaCos()])))
    assert np.abs(one).max() <= np.sqrt(6 / 74)


class Unbuilt(keras.Model):
    def __init__(self):
        super().__init__()
        self.head = keras.layers.Dense(10, kernel_initializer="ones")

    def call(self, inputs):
        return self.head(inputs)


@pytest.mark.thorough
def test_a_network_that_is_built_by_its_first_batch_starts_anew_once():
    network = Unbuilt()
    model = SelfDistiller(network, [AdaCos()])
    model.compile(SGD(0.0001, momentum=0.0, weight_decay=0.0))
    images, labels = np.random.default_rng(0).normal(size=(20, 64)).astype("float32"), np.arange(20) % 10
    model.fit(images, labels, verbose=0)
    before = network.head.kernel.numpy()
    assert 0.9 * np.sqrt(6 / 74) < np.abs(before).max() < 1.1 * np.sqrt(6 / 74)
    model.fit(images, labels, verbose=0)
    model.classifier()
    np.testing.assert_allclose(network.head.kernel.numpy(), before, atol=0.01)


def trained():
    model = make([AdaCos()])
    inputs = np.random.default_rng(1).normal(size=(20, 64)).astype("float32")
    model.fit(inputs, np.arange(20) % 10, epochs=2, verbose=0)
    return model, inputs


@pytest.mark.parametrize("part", few([lambda model: model, SelfDistiller.classifier], 1), ids=["whole", "classifier"])
def test_a_keras_file_brings_the_trained_vectors_back(part, tmp_path):
    model, inputs = trained()
    part(model).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(head(loaded), head(model))
    np.testing.assert_allclose(loaded.predict(inputs, verbose=0), model.predict(inputs, verbose=0), atol=1e-6)
    copy = SelfDistiller.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    np.testing.assert_array_equal(head(copy), head(model))


def test_a_checkpoint_brings_the_trained_vectors_back(tmp_path):
    model, _ = trained()
    Checkpoint(Workdir(tmp_path), model, monitor=None).save(2)
    for restore in ("restore_last", "restore_classifier"):
        other = make([AdaCos()], seed=5)
        assert not np.allclose(head(other), head(model))
        assert getattr(Checkpoint(Workdir(tmp_path), other, monitor=None), restore)() == 2
        np.testing.assert_array_equal(head(other), head(model))


@pytest.mark.thorough
def test_an_import_keeps_the_vectors_of_its_checkpoint(command, monkeypatch, tmp_path):
    weights = preact_resnet10_weights()
    monkeypatch.setattr(import_checkpoint, "read_torch_checkpoint", lambda path: weights)
    imported = ("--mode=import", "--checkpoint=ckpt.t7", "--workdir=run", "--config.methods=({'name': 'AdaCos'},)")
    code, printed = command(*imported, *ALONE)
    assert code == 0, printed
    loaded = keras.models.load_model(tmp_path / "run" / "classifier.keras")
    kernel = loaded.network.get_layer("classifier").kernel.numpy()
    np.testing.assert_array_equal(kernel, weights["linear.weight"].T)
    code, printed = command("--mode=evaluate", "--workdir=run")
    assert code == 0, printed


def test_methods_that_were_saved_without_the_new_arguments_still_load():
    old = AdaCos.from_config({"name": "ada_cos", "scale_at_evaluation": False})
    assert (old.scale_at_evaluation, old.class_vectors) == (False, "xavier")
    old = CutMix.from_config({"name": "cut_mix", "alpha": 1.0, "probability": 0.5})
    assert (old.probability, old.coin) == (0.5, "batch")
    assert BYOT.from_config({"name": "byot", "feature_weight": 0.03, "form": "public"}).squared is False
    for method in (AdaCos(class_vectors="network"), CutMix(coin="image"), BYOT(squared=False), BYOT()):
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(method))
        for name in ("class_vectors", "coin", "squared"):
            assert getattr(again, name, None) == getattr(method, name, None)
    network = networks.build("preact_resnet10", num_classes=3, input_shape=(8, 8, 1), width=2)
    before = network.get_layer("classifier").kernel.numpy()
    SelfDistiller(network, [AdaCos(class_vectors="network")])
    np.testing.assert_array_equal(network.get_layer("classifier").kernel.numpy(), before)
