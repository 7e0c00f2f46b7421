"""What methods own: AdaCos' scale, BYOT's exits; saved, resumed, exported, or kept out of what inference loads."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf import networks
from cskd_tf.data import paired_dataset
from cskd_tf.methods import BYOT, CSKD, DLB, PSKD, AdaCos, LabelSmoothing, VirtualSoftmax, ZipfLabelSmoothing
from cskd_tf.networks.features import Parts
from cskd_tf.runs.callbacks import Checkpoint
from cskd_tf.runs.workdir import Workdir
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.optimizers import SGD
from tests.helpers import staged_network
from tests.selection import quick


def trained(methods, images_and_labels, *, epochs=2, network=None):
    keras.utils.set_random_seed(1)
    network = network or networks.build("preact_resnet10", num_classes=3, input_shape=(8, 8, 1), width=16)
    model = SelfDistiller(network, methods, num_examples=22)
    model.compile(SGD(0.05))
    images, labels = images_and_labels
    images = np.kron(images, np.ones((1, 2, 2, 1), "float32"))
    data = paired_dataset(images, labels, batch_size=8, seed=0, epochs=epochs, **model.data_options)
    history = model.fit(data, epochs=epochs, verbose=0).history
    return model, images, history


def adacos(class_vectors, *, bias=0.0):
    """The method on a classifier of three classes, whose vectors are columns."""
    method = AdaCos(class_vectors="network")
    layer = keras.layers.Dense(3)
    layer.build((None, len(class_vectors)))
    layer.set_weights([class_vectors, np.full(3, bias)])
    method.attach(keras.Sequential(), parts=Parts(image=None, logits=tf.zeros((1, 3)), classifier=layer))
    return method, layer


def test_the_worked_number_of_adacos():
    method, layer = adacos(np.eye(3), bias=1.0)
    assert method.scale.numpy() == pytest.approx(0.980258, abs=1e-6)
    scores = method.labelled_logits({"embedding": tf.constant([[2.0, 0.0, 0.0]])}, tf.constant([0]))
    assert method.scale.numpy() == pytest.approx(0.693147, abs=1e-6)
    np.testing.assert_allclose(scores, [[0.693147, 0, 0]], atol=1e-6)
    assert not layer.bias.trainable


def test_adacos_takes_the_lower_median_of_an_even_number():
    """Angles of .1 and .5 to the own vector: ln(mean over images of exp(s cos) over the others) / cos(.1)."""
    method, _ = adacos(np.eye(3))
    before, angles = float(method.scale.numpy()), np.array([0.1, 0.5])
    embeddings = np.stack([np.cos(angles), np.sin(angles), np.zeros(2)], axis=1).astype("float32")
    method.labelled_logits({"embedding": tf.constant(embeddings)}, tf.constant([0, 0]))
    others = (np.exp(before * np.sin(angles)) + 1).mean()
    assert method.scale.numpy() == pytest.approx(np.log(others) / np.cos(0.1), rel=1e-5)


def test_adacos_keeps_its_scale_where_the_papers_would_be_below_0():
    method, _ = adacos(np.array([[1.0, -1.0, -1.0], [0.0, 0.1, -0.1]]))
    before = method.scale.numpy()
    # exp(.98 * -.995) twice are less than 1.
    method.labelled_logits({"embedding": tf.constant([[1.0, 0.0]])}, tf.constant([0]))
    assert method.scale.numpy() == before


def test_the_worked_number_of_virtual_softmax():
    method = VirtualSoftmax()
    layer = keras.layers.Dense(2)
    layer.build((None, 2))
    layer.set_weights([np.array([[1.0, 0.0], [0.0, 2.0]]), np.ones(2)])
    method.attach(keras.Sequential(), parts=Parts(image=None, logits=tf.zeros((1, 2)), classifier=layer))
    outputs = {"embedding": tf.constant([[3.0, 4.0]])}
    scores = method.labelled_logits(outputs, tf.constant([1]))
    np.testing.assert_allclose(scores, [[3.0, 8.0, 10.0]], rtol=1e-6)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits([1], scores)
    np.testing.assert_allclose(loss, [np.log(np.exp(-5) + 1 + np.exp(2))], rtol=1e-6)
    np.testing.assert_allclose(method.logits(outputs), [[3.0, 8.0]])


@pytest.mark.parametrize("at_evaluation", quick([True, False], False))
def test_adacos_keeps_its_scale_at_inference_and_in_the_file(at_evaluation, images_and_labels, tmp_path):
    model, images, _ = trained([AdaCos(scale_at_evaluation=at_evaluation)], images_and_labels)
    scale = float(model.methods[0].scale.numpy())
    assert scale != pytest.approx(np.sqrt(2) * np.log(2), abs=1e-3)
    logits = model.predict(images, verbose=0)
    assert float(model.methods[0].scale.numpy()) == scale
    embedding = model.outputs(images)["embedding"].numpy()
    vectors = model.network.get_layer("classifier").kernel.numpy()
    cosines = embedding / np.linalg.norm(embedding, axis=1, keepdims=True) @ (vectors / np.linalg.norm(vectors, axis=0))
    np.testing.assert_allclose(logits, (scale if at_evaluation else 1.0) * cosines, atol=1e-5)
    path = tmp_path / "classifier.keras"
    model.classifier().save(path)
    np.testing.assert_allclose(keras.models.load_model(path).predict(images, verbose=0), logits, atol=1e-6)


def scaled_cosines(method, embedding, vectors):
    assert method.scale.dtype == "float32"
    embedding = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    return float(method.scale.numpy()) * embedding @ (vectors / np.linalg.norm(vectors, axis=0))


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("head", "expect"),
    [
        (AdaCos, scaled_cosines),
        (VirtualSoftmax, lambda _, embedding, vectors: embedding @ vectors),
    ],
)
def test_heads_compute_in_float32_under_mixed_precision_too(head, expect, images_and_labels):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model, images, history = trained([head()], images_and_labels)
    assert np.isfinite(history["loss"]).all()
    embedding = np.asarray(tf.cast(model.outputs(images)["embedding"], tf.float32))
    vectors = model.network.get_layer("classifier").kernel.numpy()
    expected = expect(model.methods[0], embedding, vectors)
    logits = model.predict(images, verbose=0)
    # The embedding is rounded in one order or another, the class vectors are not.
    np.testing.assert_allclose(logits, expected, atol=0.02 * np.abs(expected).max())
    assert logits.dtype == np.float32


def test_a_head_reads_its_variables_unrounded_inside_a_mixed_model():
    keras.config.set_dtype_policy("mixed_bfloat16")
    inputs = keras.Input((3,))
    layer = keras.layers.Dense(4, dtype="float32", name="head")
    network = keras.Model(inputs, layer(keras.layers.Identity()(inputs)))
    model = SelfDistiller(network, [VirtualSoftmax()])
    images = tf.ones((1, 3))
    expected = layer.kernel.numpy().sum(axis=0)
    np.testing.assert_allclose(model(images)[0], expected, rtol=1e-6)


def test_adacos_refuses_two_classes_and_a_network_without_classifier():
    two = networks.build("preact_resnet10", num_classes=2, input_shape=(8, 8, 1), width=16)
    with pytest.raises(ValueError, match="at least three classes for AdaCos. Received: 2 classes"):
        SelfDistiller(two, [AdaCos()])
    inputs = keras.Input((4, 4, 1))
    convolution = keras.layers.Conv2D(3, 1)(inputs)
    network = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(convolution))
    with pytest.raises(ValueError, match="its classifier, for VirtualSoftmax"):
        SelfDistiller(network, [VirtualSoftmax()])


@pytest.mark.thorough
@pytest.mark.parametrize(
    "methods",
    [
        lambda: [AdaCos()],
        lambda: [BYOT()],
        lambda: [PSKD()],
        pytest.param(lambda: [PSKD(top_k=2)], marks=pytest.mark.slow),
        pytest.param(lambda: [PSKD(source="network")], marks=pytest.mark.slow),
        pytest.param(lambda: [VirtualSoftmax(), BYOT(), LabelSmoothing(), PSKD(), CSKD()], marks=pytest.mark.slow),
        lambda: [ZipfLabelSmoothing(exits=2), DLB()],
    ],
    ids=["AdaCos", "BYOT", "PSKD", "PSKD top_k", "PSKD network", "several", "ZipfLabelSmoothing, DLB"],
)
def test_what_methods_own_is_resumed_to_the_same_bits(methods, images_and_labels, tmp_path):
    def run(workdir, *, stop=None):
        keras.utils.set_random_seed(1 if stop else 2)  # what resumes must not depend on where it starts
        model = SelfDistiller(staged_network((4, 4, 1), classes=3), methods(), num_examples=22)
        model.compile(SGD(0.1))
        model.optimizer.build(model.trainable_variables)
        checkpoint = Checkpoint(workdir, model, monitor="loss")
        done = checkpoint.restore_last()
        options = {"batch_size": 8, "seed": 0, "epochs": 4, "first_step": 3 * done, **model.data_options}
        callbacks = [checkpoint, keras.callbacks.LambdaCallback(on_epoch_end=stopping_after(model, stop))]
        data = paired_dataset(*images_and_labels, **options)
        model.fit(data, epochs=4, initial_epoch=done, verbose=0, callbacks=callbacks)
        return model

    def stopping_after(model, epochs):
        def on_epoch_end(epoch, logs):
            model.stop_training = epoch + 1 == epochs

        return on_epoch_end

    whole = run(Workdir(tmp_path / "whole"), stop=4)
    parts = Workdir(tmp_path / "parts")
    run(parts, stop=2)
    resumed = run(parts)
    for one, two in zip(whole.variables, resumed.variables, strict=True):
        if "metric" not in one.path:
            np.testing.assert_array_equal(one.numpy(), two.numpy(), err_msg=one.path)


def test_exits_follow_the_precision_and_the_replicas_of_their_network():
    keras.config.set_dtype_policy("mixed_bfloat16")
    network = networks.build("preact_resnet10", num_classes=3, input_shape=(8, 8, 1), width=16, synchronized=True)
    keras.config.set_dtype_policy("float32")
    method = BYOT()
    SelfDistiller(network, [method])
    inner = [layer for part in method.exits for layer in part.layers if layer.weights]
    assert {layer.compute_dtype for layer in inner} == {"bfloat16"}
    assert all(layer.synchronized for layer in inner if "bn" in layer.name)
    assert all(head.compute_dtype == "float32" for head in method.heads)


def test_the_worked_number_of_byot(linear_network):
    method = BYOT(alpha=0.3, temperature=1.0)
    method.exits = [lambda stage, training: stage]
    method.heads = [lambda features: tf.zeros((1, 2))]
    deep = {
        "logits": tf.constant([[np.log(3.0), 0.0]]),
        "embedding": tf.ones((1, 5)),
        "stages": (tf.constant([[4.0, 5.0, 1.0, 1.0, 1.0]]), None),
    }
    terms = method.terms({}, {"image": deep}, tf.constant([[1.0, 0.0]]))
    total = sum(float(terms[name][0]) for name in ("exits_cross_entropy", "exits_distillation", "exits_features"))
    assert total == pytest.approx(1.443147, abs=1e-6)
    assert "1.443147" in BYOT.__doc__
    method.squared = False
    terms = method.terms({}, {"image": deep}, tf.constant([[1.0, 0.0]]))
    assert float(terms["exits_features"][0]) == pytest.approx(0.03 * 5, abs=1e-6)
    assert [BYOT().squared, BYOT(form="public").squared, BYOT(squared=False).squared] == [True, False, False]


@pytest.mark.thorough
def test_byots_exits_are_trained_and_left_out_of_the_classifier(images_and_labels, tmp_path):
    method = BYOT()
    model, images, history = trained([method, CSKD()], images_and_labels, epochs=4)
    assert history["exits_cross_entropy"][-1] < history["exits_cross_entropy"][0]
    exits = {id(weight) for part in (*method.exits, *method.heads) for weight in part.trainable_weights}
    assert exits <= {id(weight) for weight in model.trainable_weights}
    classifier = model.classifier()
    assert not exits & {id(weight) for weight in classifier.weights}
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.models.load_model(tmp_path / "classifier.keras")
    assert loaded.count_params() == model.network.count_params()
    np.testing.assert_allclose(loaded.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-5)


def test_byot_refuses_a_network_without_stages(linear_network):
    with pytest.raises(ValueError, match="at least 2 stages for BYOT.*with 0"):
        SelfDistiller(linear_network(), [BYOT()])


def test_an_embedding_of_zeros_gives_virtual_softmax_no_nan(linear_network):
    network = linear_network(kernel_initializer="zeros")
    model = SelfDistiller(network, [VirtualSoftmax()])
    model.compile(SGD(0.1))
    images, labels = np.zeros((4, 4, 4, 1), "float32"), np.array([0, 1, 2, 0])
    model.fit(images, labels, verbose=0)
    assert all(np.isfinite(weight).all() for weight in network.get_weights())


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.stem = keras.layers.Conv2D(3, 1, name="stage1")
        self.body = keras.layers.Conv2D(3, 1, name="stage2")
        self.pool, self.head = keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)

    def call(self, images):
        return self.head(self.pool(self.body(self.stem(images))))


@pytest.mark.thorough
@pytest.mark.parametrize(
    "make",
    [
        *(pytest.param(make, marks=pytest.mark.slow) for make in (lambda: [], lambda: [AdaCos()])),
        lambda: [CSKD()],
        lambda: [AdaCos(), BYOT(), PSKD()],
        lambda: [VirtualSoftmax()],
    ],
)
@pytest.mark.parametrize("built", [True, False])
def test_a_subclassed_networks_classifier_is_saved_and_exported(make, built, images_and_labels, tmp_path):
    images, labels = images_and_labels
    network = Subclassed()
    if built:
        network(images)
    model = SelfDistiller(network, make(), num_examples=22)
    model.compile(SGD(0.1))
    model.fit(paired_dataset(images, labels, batch_size=8, seed=0, epochs=1, **model.data_options), verbose=0)
    expected = model.predict(images, verbose=0)
    model.classifier().save(tmp_path / "classifier.keras")
    loaded = keras.models.load_model(tmp_path / "classifier.keras")
    np.testing.assert_allclose(loaded.predict(images, verbose=0), expected, atol=1e-6)
    model.export(tmp_path / "exported", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "exported"))
    np.testing.assert_allclose(served.serve(images), expected, atol=1e-6)


def test_byots_public_form_needs_a_distance_to_take():
    network = staged_network((4, 4, 1), classes=3)
    SelfDistiller(network, [BYOT(form="public")])
    model = SelfDistiller(Subclassed(), [BYOT(form="public")])
    with pytest.raises(ValueError, match="at least 3 stages for BYOT.*with 2"):
        model.build((None, 4, 4, 1))


@pytest.mark.thorough
def test_keras_own_export_leaves_behind_what_training_alone_needs(images_and_labels, tmp_path):
    images, labels = images_and_labels
    model = SelfDistiller(staged_network((4, 4, 1), classes=3), [AdaCos(), BYOT(), PSKD()], num_examples=22)
    model.compile(SGD(0.1))
    model.fit(paired_dataset(images, labels, batch_size=8, seed=0, epochs=1, **model.data_options), verbose=0)
    model.export(tmp_path / "exported", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    np.testing.assert_allclose(loaded.serve(images), model.predict(images, verbose=0), atol=1e-6)
    names = [name for name, _ in tf.train.list_variables(str(tmp_path / "exported" / "variables" / "variables"))]
    inference = len(model.network.weights) + 1  # AdaCos' scale
    assert len([name for name in names if name.startswith("variables/")]) == inference
