"""Logits, embedding and stages of one pass, of the papers' networks and of others."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf import networks
from cskd_tf.networks import NetworkOutputs, features
from tests.networks.deep import deep_ones_later

# One network a family: width, image, channels and sizes of the stages.
STAGES = {
    "preact_resnet10": (4, 16, [(16, 4), (8, 8), (4, 16), (2, 32)]),
    "resnet10": (4, 33, [(9, 4), (5, 8), (3, 16), (2, 32)]),
    "resnet50": (4, 64, [(16, 16), (8, 32), (4, 64), (2, 128)]),
    "resnext29_8x64d": (4, 15, [(15, 16), (8, 32), (4, 64)]),
    "resnext50_32x4d": (16, 32, [(8, 64), (4, 128), (2, 256), (1, 512)]),
    # Blocks of 6, 12, 24 and 16 layers add half the width each; a transition halves channels, and drops an odd pixel.
    "densenet121_cifar": (4, 17, [(17, 16), (8, 32), (4, 64), (2, 64)]),
    "densenet121": (4, 35, [(9, 16), (4, 32), (2, 64), (1, 64)]),
    # After 22, 44 and 66 of 66 blocks 6, 11 and 16 times the width, times 4.
    "pyramidnet200": (2, 9, [(9, 48), (5, 88), (3, 128)]),
}


@pytest.mark.parametrize("name", deep_ones_later(STAGES))
def test_embedding_and_stages_come_from_one_pass(name):
    width, size, expected = STAGES[name]
    network = networks.build(name, num_classes=3, input_shape=(size, size, 1), width=width)
    outputs = NetworkOutputs(network)(np.random.default_rng(0).normal(size=(2, size, size, 1)).astype("float32"))
    assert [tuple(stage.shape) for stage in outputs["stages"]] == [(2, side, side, depth) for side, depth in expected]
    np.testing.assert_allclose(outputs["embedding"], tf.reduce_mean(outputs["stages"][-1], axis=(1, 2)), rtol=1e-5)
    kernel, bias = network.get_layer("classifier").weights
    np.testing.assert_allclose(outputs["logits"], outputs["embedding"] @ kernel.value + bias.value, atol=1e-4)


def test_two_readers_of_one_network_do_not_disturb_each_other():
    inputs = keras.Input((7,))
    network = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Dense(5, name="hidden")(inputs)))
    images = np.ones((2, 7), "float32")
    first = NetworkOutputs(network)
    second = NetworkOutputs(network, embedding_layer="hidden")
    shapes = [reader(images)["embedding"].shape for reader in (first, second, first)]
    assert shapes == [(2, 5), (2, 7), (2, 5)]


def test_the_embedding_layer_can_be_named():
    inputs = keras.Input((4, 4, 1))
    hidden = keras.layers.Conv2D(3, 4, name="as_convolution")(keras.layers.ReLU()(inputs))
    network = keras.Model(inputs, keras.layers.Flatten()(hidden))
    images = np.ones((2, 4, 4, 1), "float32")
    assert "embedding" not in NetworkOutputs(network)(images)
    assert NetworkOutputs(network, embedding_layer="as_convolution")(images)["embedding"].shape == (2, 16)
    with pytest.raises(ValueError, match="Unknown layer; expected one of .*'as_convolution'.*'head'"):
        NetworkOutputs(network, embedding_layer="head")


# The classifier is a dense layer, one after dropout or layer normalisation, or a convolution on one pixel.
@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("MobileNetV2", 1280),
        pytest.param("MobileNetV3Small", 1024, marks=pytest.mark.thorough),
        pytest.param("MobileNet", 1024, marks=pytest.mark.thorough),
        pytest.param("ConvNeXtTiny", 768, marks=pytest.mark.thorough),
    ],
)
def test_keras_applications_show_their_embedding(name, features):
    network = getattr(keras.applications, name)(
        weights=None, input_shape=(32, 32, 3), classes=7, classifier_activation=None
    )
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    outputs = NetworkOutputs(network)(images)
    np.testing.assert_allclose(outputs["logits"], network(images), rtol=1e-5)
    heads = [layer for layer in network.layers if isinstance(layer, (keras.layers.Dense, keras.layers.Conv2D))]
    kernel, bias = heads[-1].weights
    assert outputs["embedding"].shape == (2, features)
    logits = outputs["embedding"] @ tf.reshape(kernel.value, (features, 7)) + bias.value
    np.testing.assert_allclose(outputs["logits"], logits, rtol=1e-3, atol=1e-5)


def test_kerashub_classifiers_show_their_embedding():
    keras_hub = pytest.importorskip("keras_hub", reason="KerasHub is not installed; pip install keras-hub")
    backbone = keras_hub.models.ViTBackbone(
        image_shape=(32, 32, 3), patch_size=(8, 8), num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=32
    )
    network = keras_hub.models.ViTImageClassifier(backbone=backbone, num_classes=7)
    outputs = NetworkOutputs(network)(np.ones((2, 32, 32, 3), "float32"))
    assert (outputs["logits"].shape, outputs["embedding"].shape) == ((2, 7), (2, 16))


class Inner(keras.layers.Layer):
    """A layer that holds others, which no graph shows."""

    def __init__(self):
        super().__init__()
        self.parts = {"hidden": [keras.layers.Dense(5, name="stage1")]}
        self.classifier = keras.layers.Dense(3)

    def call(self, inputs):
        return self.classifier(self.parts["hidden"][0](inputs))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = Inner()

    def call(self, inputs):
        return self.inner(inputs)


def functional():
    inputs = keras.Input((7,))
    hidden = keras.layers.Dense(5, name="stage1")(inputs)
    return keras.Model(inputs, keras.layers.Dense(3)(hidden))


def sequential():
    return keras.Sequential([keras.layers.Dense(5, name="stage1"), keras.layers.Dense(3)])


def nested():
    return keras.Sequential([keras.Input((7,)), functional()])


class OwnCall(keras.Model):
    """Functional, but what it computes is not what its graph says."""

    def call(self, inputs, training=None):
        return 2 * super().call(inputs, training=training)


def own_call():
    network = functional()
    return OwnCall(network.input, network.output)


@pytest.mark.parametrize("make", [functional, sequential, nested, Subclassed, own_call])
def test_layers_are_as_they_were_once_their_parts_are_read(make):
    network = make()
    images = np.random.default_rng(0).normal(size=(2, 7)).astype("float32")
    logits = network(images)
    layers = features.layers_of(network)
    assert [layer.name for layer in layers if layer.name == "stage1"] == ["stage1"]
    before = [vars(layer).get("call") for layer in layers]
    reader = NetworkOutputs(network)
    outputs = reader(images)
    np.testing.assert_array_equal(outputs["logits"], logits)
    (stage,) = outputs["stages"]
    np.testing.assert_array_equal(outputs["embedding"], stage)
    kernel, bias = network.weights[:2]
    np.testing.assert_allclose(stage, images @ kernel.value + bias.value, atol=1e-5)
    parts = reader.parts((None, 7))
    assert (parts.image.shape[-1], parts.embedding.shape[-1], parts.logits.shape[-1]) == (7, 5, 3)
    assert parts.classifier.kernel.shape == (5, 3)
    assert [vars(layer).get("call") for layer in layers] == before
    assert len(network.weights) == 4


def test_a_call_that_stands_on_a_layer_stays_there():
    network, images = Subclassed(), np.ones((2, 7), "float32")
    network(images)
    (layer,) = [layer for layer in features.layers_of(network) if layer.name == "stage1"]
    plain = layer.call
    layer.call = lambda *args, **kwargs: 3.0 * plain(*args, **kwargs)
    expected = network(images)
    reader = NetworkOutputs(network)
    for _ in range(2):
        np.testing.assert_array_equal(reader(images)["logits"], expected)
    np.testing.assert_array_equal(network(images), expected)


def test_a_layer_that_is_used_twice_is_read_where_it_is_used_last():
    inputs = keras.Input((4,))
    shared = keras.layers.Dense(4)
    network = keras.Model(inputs, shared(keras.layers.ReLU()(shared(inputs))))
    images = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    kernel = network.weights[0].value
    np.testing.assert_allclose(NetworkOutputs(network)(images)["embedding"], tf.nn.relu(images @ kernel), atol=1e-6)


def test_replicas_that_wait_for_each_other_within_a_pass_read_their_own_parts(two_replicas):
    class Meeting(Subclassed):
        def call(self, inputs):
            mean = tf.distribute.get_replica_context().all_reduce("MEAN", tf.reduce_mean(inputs))
            return super().call(inputs - mean)

    with two_replicas.scope():
        network = Meeting()
        network.inner(tf.zeros((1, 7)))  # built, without a replica to meet
        network.built = True
        reader = NetworkOutputs(network)

    @tf.function
    def run():
        number = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.float32)
        outputs = reader(tf.fill([1, 7], number))
        return tf.reduce_max(tf.abs(outputs["embedding"] - outputs["stages"][0])), outputs["embedding"]

    differences, embeddings = two_replicas.run(run)
    assert [float(value) for value in two_replicas.experimental_local_results(differences)] == [0.0, 0.0]
    one, other = two_replicas.experimental_local_results(embeddings)
    kernel = network.inner.parts["hidden"][0].kernel.value
    np.testing.assert_allclose(one, -0.5 * tf.reduce_sum(kernel, axis=0, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(other, -np.array(one), atol=1e-5)
    assert "call" not in vars(network.inner.classifier)


class OfItsOwnKind(keras.layers.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 3))

    def call(self, inputs):
        return inputs @ self.kernel


def test_a_dense_layer_before_a_classifier_of_another_kind_reads_no_embedding():
    inputs = keras.Input((7,))
    network = keras.Model(inputs, OfItsOwnKind(name="own")(keras.layers.Dense(5)(inputs)))
    assert set(NetworkOutputs(network)(np.ones((2, 7), "float32"))) == {"logits"}
    named = NetworkOutputs(network, embedding_layer="own")(np.ones((2, 7), "float32"))
    assert named["embedding"].shape == (2, 5)


def test_a_name_that_two_layers_have_is_refused():
    parts = [keras.Sequential([keras.layers.Dense(size, name="dense")], name=f"part{size}") for size in (4, 3)]
    network = keras.Sequential([keras.Input((7,)), *parts])
    with pytest.raises(ValueError, match="embedding_layer to name one layer.*Received: 'dense', the name of 2"):
        NetworkOutputs(network, embedding_layer="dense")


def test_stages_are_in_the_order_of_their_numbers():
    images = keras.Input((8, 8, 1))
    wide = keras.layers.Conv2D(5, 3, name="stage10")(images)  # computed first
    narrow = keras.layers.Conv2D(2, 3, name="stage2")(wide)
    network = keras.Model(images, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(narrow)))
    stages = NetworkOutputs(network)(np.ones((1, 8, 8, 1), "float32"))["stages"]
    assert [stage.shape[-1] for stage in stages] == [2, 5]


class InnerNetwork(keras.Model):
    """A network that computes by a call of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.last = keras.layers.Dense(4, name="stage1"), keras.layers.Dense(3)

    def call(self, inputs):
        return self.last(self.first(inputs))


class Outer(InnerNetwork):
    """One that reads the embedding of another on its way."""

    def __init__(self):
        super().__init__()
        self.read = [NetworkOutputs(InnerNetwork())]

    def build(self, shape):
        self.last.build((None, 4))

    def call(self, inputs):
        return self.last(self.read[0](inputs)["embedding"])


def test_a_reader_within_a_network_that_is_read_leaves_the_rest_to_the_other():
    network = Outer()
    images = np.random.default_rng(0).normal(size=(2, 7)).astype("float32")
    outputs = NetworkOutputs(network)(images)
    inner = network.read[0](images)
    np.testing.assert_allclose(outputs["embedding"], inner["embedding"])
    np.testing.assert_allclose(outputs["logits"], network(images))
