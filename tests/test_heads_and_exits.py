"""What methods own: AdaCos' scale, BYOT's exits; saved, resumed, exported, or kept out of what inference loads."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf import networks
from cskd_tf.data import paired_dataset
from cskd_tf.distiller import SelfDistiller
from cskd_tf.methods import BYOT, CSKD, AdaCos, VirtualSoftmax
from cskd_tf.optimizers import SGD


def softmax(logits):
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


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


def test_the_worked_number_of_adacos():
    method = AdaCos()
    layer = keras.layers.Dense(3)
    layer.build((None, 3))
    layer.set_weights([np.eye(3), np.ones(3)])
    method.attach(None, parts={"logits": tf.zeros((1, 3)), "classifier": layer})
    assert method.scale.numpy() == pytest.approx(0.980258, abs=1e-6)
    scores = method.scores({"embedding": tf.constant([[2.0, 0.0, 0.0]])}, labels=tf.constant([0]), training=True)
    assert method.scale.numpy() == pytest.approx(0.693147, abs=1e-6)
    np.testing.assert_allclose(scores, [[0.693147, 0, 0]], atol=1e-6)
    assert not layer.bias.trainable


def test_the_worked_number_of_virtual_softmax():
    method = VirtualSoftmax()
    layer = keras.layers.Dense(2)
    layer.build((None, 2))
    layer.set_weights([np.array([[1.0, 0.0], [0.0, 2.0]]), np.ones(2)])
    method.attach(None, parts={"logits": tf.zeros((1, 2)), "classifier": layer})
    outputs = {"embedding": tf.constant([[3.0, 4.0]])}
    scores = method.scores(outputs, labels=tf.constant([1]), training=True)
    np.testing.assert_allclose(scores, [[3.0, 8.0, 10.0]], rtol=1e-6)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits([1], scores)
    np.testing.assert_allclose(loss, [np.log(np.exp(-5) + 1 + np.exp(2))], rtol=1e-6)
    np.testing.assert_allclose(method.scores(outputs), [[3.0, 8.0]])


@pytest.mark.parametrize("at_evaluation", [True, False])
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


@pytest.mark.parametrize("head", [AdaCos, VirtualSoftmax])
def test_heads_compute_in_float32_under_mixed_precision_too(head, images_and_labels):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model, images, history = trained([head()], images_and_labels)
    assert np.isfinite(history["loss"]).all()
    embedding = np.asarray(tf.cast(model.outputs(images)["embedding"], tf.float32))
    vectors = model.network.get_layer("classifier").kernel.numpy()
    if head is AdaCos:
        assert model.methods[0].scale.dtype == "float32"
        embedding, vectors = (
            embedding / np.linalg.norm(embedding, axis=1, keepdims=True),
            float(model.methods[0].scale.numpy()) * vectors / np.linalg.norm(vectors, axis=0),
        )
    expected = embedding @ vectors
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


def numpy_exit(model, features):
    """One exit of BYOT in training: strided convolutions with batch norm, the mean, the classifier."""
    outputs = features
    for layer in model.layers[1:]:
        outputs = (
            layer(outputs, training=True) if isinstance(layer, keras.layers.BatchNormalization) else layer(outputs)
        )
    return np.asarray(outputs, "float64")


@pytest.mark.parametrize("form", ["paper", "public"])
@pytest.mark.parametrize("squared", [False, True])
def test_the_terms_of_byot_against_numpy(form, squared):
    network = networks.build("preact_resnet10", num_classes=3, input_shape=(16, 16, 1), width=4)
    method = BYOT(alpha=0.3, temperature=3, feature_weight=0.5, squared=squared, form=form)
    model = SelfDistiller(network, [method])
    images = np.random.default_rng(0).normal(size=(6, 16, 16, 1)).astype("float32")
    outputs = model.outputs(images)
    targets = np.eye(3)[[0, 1, 2, 0, 1, 2]]
    with tf.GradientTape() as tape:
        tape.watch((outputs["logits"], outputs["embedding"], outputs["stages"]))
        terms = method.terms({}, {"image": outputs}, tf.constant(targets, tf.float32))
        total = tf.add_n([tf.reduce_sum(term) for term in terms.values()])
    deep_logits, deep_embedding, stages = tape.gradient(
        total, (outputs["logits"], outputs["embedding"], outputs["stages"])
    )
    assert deep_logits is None
    assert deep_embedding is None
    assert stages[-1] is None
    assert all(gradient is not None for gradient in stages[:-1])

    deep = softmax(outputs["logits"].numpy().astype("float64") / 3)
    hard, soft, near = 0, 0, 0
    for number, (part, head) in enumerate(zip(method.exits, method.heads, strict=True)):
        assert tuple(part.output_shape[1:]) == (32,)
        features = numpy_exit(part, outputs["stages"][number])
        logits = features @ head.kernel.numpy() + head.bias.numpy()
        hard = hard - np.log((targets * softmax(logits)).sum(axis=1))
        soft = soft - (deep * np.log(softmax(logits / 3))).sum(axis=1)
        squares = ((features - outputs["embedding"].numpy()) ** 2).sum(axis=1)
        if form == "public":
            squares = np.full(6, squares.sum()) * (number < 2)
        near = near + (squares if squared else np.sqrt(squares))
    np.testing.assert_allclose(terms["exits_cross_entropy"], 0.7 * hard, rtol=1e-4)
    np.testing.assert_allclose(terms["exits_distillation"], 0.3 * soft, rtol=1e-4)
    np.testing.assert_allclose(terms["exits_features"], 0.5 * near, rtol=1e-4)


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
    with pytest.raises(ValueError, match="at least two stages for BYOT.*with 0"):
        SelfDistiller(linear_network(), [BYOT()])


def test_an_embedding_of_zeros_gives_virtual_softmax_no_nan(linear_network):
    network = linear_network(kernel_initializer="zeros")
    model = SelfDistiller(network, [VirtualSoftmax()])
    model.compile(SGD(0.1))
    images, labels = np.zeros((4, 4, 4, 1), "float32"), np.array([0, 1, 2, 0])
    model.fit(images, labels, verbose=0)
    assert all(np.isfinite(weight).all() for weight in network.get_weights())
