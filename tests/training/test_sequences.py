"""Targets of every position: PS-KD's loss against numpy, and positions without a label, which count nothing."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.methods import CSKD, PSKD, AdaCos, CutMix, LabelSmoothing, MaxEntropy
from cskd_tf.networks.logits import check_logits
from cskd_tf.training.callbacks import Evaluation
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.optimizers import SGD
from tests.helpers import softmax

SYMBOLS, CLASSES, LENGTH, EXAMPLES = 7, 4, 5, 6
LENGTHS = np.array([5, 1, 3, 2, 4, 1])  # labels of each sequence


@pytest.fixture
def tagger():
    """Makes a network of symbols int `[B, L]` to logits `[B, L, C]`, each of its own symbol alone."""

    def make(length=LENGTH, **kwargs):
        layers = [keras.layers.Embedding(SYMBOLS, 3), keras.layers.Dense(CLASSES, **kwargs)]
        network = keras.Sequential([keras.Input((length,), dtype="int32"), *layers])
        generator = np.random.default_rng(1)
        network.set_weights([generator.normal(size=weight.shape) for weight in network.weights])
        return network

    return make


@pytest.fixture
def sentences():
    """Symbols and labels; behind a sequence's end symbols stand all the same, and no labels."""
    generator = np.random.default_rng(0)
    symbols = generator.integers(0, SYMBOLS, (EXAMPLES, LENGTH)).astype("int32")
    ends = np.arange(LENGTH) >= LENGTHS[:, None]
    return symbols, np.where(ends, -1, generator.integers(0, CLASSES, (EXAMPLES, LENGTH)))


def compiled(network, methods=(), *, learning_rate=0.1, **options):
    """A model that computes without a graph: these are small, and a graph takes seconds to trace."""
    model = SelfDistiller(network, methods, sequences=True, num_examples=EXAMPLES)
    model.compile(SGD(learning_rate, momentum=0.0, weight_decay=0.0), run_eagerly=True, **options)
    return model


def inputs(symbols):
    return {"image": symbols, "index": np.arange(len(symbols))}


def forward(weights, symbols):
    embeddings, kernel, bias = weights
    return embeddings[symbols] @ kernel + bias


def stepped(weights, symbols, labels, *, targets, learning_rate):
    """Loss per label, and the weights after a step of gradient descent, by hand."""
    weights = [weight.astype("float64") for weight in weights]
    embeddings, kernel, _ = weights
    logits, counts = forward(weights, symbols), labels >= 0
    values = -(targets * np.log(softmax(logits))).sum(axis=-1)
    # The targets of a position add up to 1.
    gradient = np.where(counts[..., None], softmax(logits) - targets, 0) / counts.sum()
    into = np.zeros_like(embeddings)
    np.add.at(into, symbols, gradient @ kernel.T)
    gradients = [into, np.einsum("bld,blc->dc", embeddings[symbols], gradient), gradient.sum(axis=(0, 1))]
    after = [weight - learning_rate * each for weight, each in zip(weights, gradients, strict=True)]
    return values[counts].sum() / counts.sum(), after


@pytest.mark.parametrize("source", ["stored", "network"])
def test_three_epochs_of_pskd_are_those_of_numpy(source, tagger, sentences):
    symbols, labels = sentences
    model = compiled(tagger(), [PSKD(alpha=0.7, source=source)])
    expected, losses, previous = model.network.get_weights(), [], None
    one_hot = np.eye(CLASSES)[np.maximum(labels, 0)]
    for epoch in (1, 2, 3):
        share = 0.0 if epoch == 1 else 0.7 * epoch / 3
        targets = one_hot if previous is None else (1 - share) * one_hot + share * previous
        seen = softmax(forward(expected, symbols))
        loss, expected = stepped(expected, symbols, labels, targets=targets, learning_rate=0.1)
        losses.append(loss)
        # The table has what the step saw, 2 bytes of it; the copy is of the end of the epoch.
        previous = seen.astype("float16") if source == "stored" else softmax(forward(expected, symbols))
        if source == "stored":
            previous = previous.astype("float64") / previous.astype("float64").sum(axis=-1, keepdims=True)
    history = model.fit(inputs(symbols), labels, batch_size=EXAMPLES, epochs=3, verbose=0).history
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-5)
    assert history["cross_entropy"] == history["loss"]
    for weight, value in zip(model.network.get_weights(), expected, strict=True):
        np.testing.assert_allclose(weight, value, atol=2e-6)


def test_the_table_keeps_some_classes_of_every_position(tagger, sentences):
    symbols, labels = sentences
    method = PSKD(alpha=0.7, top_k=2)
    model = compiled(tagger(), [method], learning_rate=1e-9)
    model.fit(inputs(symbols), labels, batch_size=4, epochs=1, verbose=0, shuffle=False)
    method.share.assign(0.5)
    probabilities = softmax(forward(model.network.get_weights(), symbols))
    top = np.sort(probabilities, axis=-1)[..., -2:]
    rest = (1 - top.sum(axis=-1, keepdims=True)) / (CLASSES - 2)
    expected = np.where(probabilities >= top[..., :1], probabilities, rest)
    batch = {"image": tf.constant(symbols), "index": tf.range(EXAMPLES)}
    targets = method.targets(batch, tf.zeros((EXAMPLES, LENGTH, CLASSES)))
    np.testing.assert_allclose(targets, 0.5 * expected, atol=1e-3)
    with pytest.raises(ValueError, match=r"Expected sequences of one length.*\(None, None, 4\)"):
        SelfDistiller(tagger(length=None), [PSKD()], sequences=True, num_examples=EXAMPLES)


METHODS = {
    "stored": lambda: [PSKD(alpha=0.7), MaxEntropy(weight=0.5)],
    "network": lambda: [LabelSmoothing(epsilon=0.1), PSKD(alpha=0.7, source="network")],
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", METHODS)
def test_what_has_no_label_changes_nothing(name, tagger, sentences):
    """Other symbols behind the ends: the same weights to the bit, the same logs."""
    symbols, labels = sentences
    others = np.where(labels >= 0, symbols, SYMBOLS - 1 - symbols)
    assert (others != symbols).any()
    made = []
    for given in (symbols, others):
        model = compiled(tagger(), METHODS[name](), weighted_metrics=["accuracy"])
        rows = {"x": inputs(given), "y": labels, "validation_data": (inputs(given), labels)}
        history = model.fit(**rows, batch_size=4, epochs=2, shuffle=False, verbose=0).history
        made.append((model.network.get_weights(), history))
    (weights, history), (other_weights, other_history) = made
    assert history == other_history
    for one, two in zip(weights, other_weights, strict=True):
        np.testing.assert_array_equal(one, two)
    logits = forward(weights, symbols)
    right = (logits.argmax(axis=-1) == labels)[labels >= 0]
    assert history["val_accuracy"][-1] == pytest.approx(right.mean())


def test_longer_padding_changes_nothing(tagger, sentences):
    symbols, labels = sentences
    made = []
    for more in (0, 4):
        model = compiled(tagger(LENGTH + more), [LabelSmoothing(epsilon=0.2)])
        paddings = [(0, 0), (0, more)]
        rows = np.pad(symbols, paddings), np.pad(labels, paddings, constant_values=-1)
        loss = model.fit(*rows, batch_size=4, epochs=2, shuffle=False, verbose=0).history["loss"]
        made.append((loss, model.network.get_weights()))
    np.testing.assert_allclose(made[0][0], made[1][0], rtol=1e-6)
    for one, two in zip(made[0][1], made[1][1], strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


@pytest.mark.thorough
def test_replicas_and_parts_of_a_batch_take_the_same_step(tagger, sentences, replicas):
    """Halves of a batch have different numbers of labels; what counts is their number in all."""
    symbols, labels = sentences
    assert 2 * LENGTHS[: EXAMPLES // 2].sum() != LENGTHS.sum()
    made = []
    for count, in_parts in ((1, 1), (2, 2)):
        with replicas(count).scope():
            methods = [PSKD(alpha=0.7), MaxEntropy(weight=0.5)]
            model = SelfDistiller(tagger(), methods, sequences=True, num_examples=EXAMPLES)
            model.compile(SGD(0.5), gradient_accumulation_steps=in_parts)
        data = tf.data.Dataset.from_tensor_slices((inputs(symbols), labels)).batch(EXAMPLES).repeat()
        history = model.fit(data, epochs=2, steps_per_epoch=1, verbose=0).history
        made.append(([*history["loss"], *history["negative_entropy"]], model.network.get_weights()))
    np.testing.assert_allclose(made[0][0], made[1][0], rtol=1e-5)
    for one, two in zip(made[0][1], made[1][1], strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_what_layers_add_counts_once_however_many_labels_a_row_has(tagger, sentences):
    symbols, labels = sentences
    network = tagger(kernel_regularizer=keras.regularizers.L2(0.1))
    weights = network.get_weights()
    model = compiled(network, learning_rate=1e-9)
    loss = model.fit(symbols, labels, batch_size=EXAMPLES, verbose=0).history["loss"][0]
    logits = forward(weights, symbols)[labels >= 0]
    chances = softmax(logits)[np.arange(len(logits)), labels[labels >= 0]]
    assert loss == pytest.approx(0.1 * (weights[1] ** 2).sum() - np.log(chances).mean(), rel=1e-5)


def test_a_batch_without_labels_moves_nothing(tagger, sentences):
    symbols, labels = sentences
    model = compiled(tagger())
    before = model.network.get_weights()
    history = model.fit(symbols, np.full_like(labels, -1), verbose=0).history
    assert history["loss"] == [0.0]
    for one, two in zip(before, model.network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_evaluation_is_the_mean_over_labels(tagger, sentences):
    symbols, labels = sentences
    model = compiled(tagger(), [PSKD()])
    probabilities = softmax(forward(model.network.get_weights(), symbols))
    counts = labels >= 0
    expected = -np.log(np.take_along_axis(probabilities, np.maximum(labels, 0)[..., None], axis=-1)[..., 0])[counts]
    loss = model.evaluate(symbols, labels, batch_size=4, verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(expected.mean(), rel=1e-5)


@pytest.mark.thorough
def test_a_model_comes_back_from_its_file(tagger, sentences, tmp_path):
    symbols, labels = sentences
    model = compiled(tagger(), [PSKD()])
    model.fit(inputs(symbols), labels, verbose=0)
    model.save(tmp_path / "model.keras")
    model.classifier().save(tmp_path / "classifier.keras")
    model.export(str(tmp_path / "served"), verbose=False)
    expected = model.predict(symbols, verbose=0)
    for name in ("model", "classifier"):
        loaded = keras.models.load_model(tmp_path / f"{name}.keras")
        assert loaded.sequences
        np.testing.assert_array_equal(loaded.predict(symbols, verbose=0), expected)
    served = tf.saved_model.load(str(tmp_path / "served"))
    np.testing.assert_allclose(served.serve(tf.constant(symbols)), expected, atol=1e-6)


@pytest.mark.parametrize("methods", [[CSKD()], [CutMix(probability=0.5), PSKD()], [AdaCos()]])
def test_methods_of_images_alone_are_named(methods, tagger):
    refused = type(methods[0]).__name__
    with pytest.raises(ValueError, match=rf"every position of a sequence.*Received: \['{refused}'\]"):
        SelfDistiller(tagger(), methods, sequences=True, num_examples=EXAMPLES)


@pytest.mark.parametrize("wrong", [CLASSES, -2])
def test_labels_of_no_class_are_named(wrong, tagger, sentences):
    symbols, labels = sentences
    labels[2, 1] = wrong
    model = compiled(tagger())
    message = rf"from 0 to 3, one of the classes of the network, or -1 for none.* Received: \[{wrong}\]"
    with pytest.raises(ValueError, match=message):
        model.fit(symbols, labels, verbose=0)
    data = tf.data.Dataset.from_tensor_slices((symbols, labels)).batch(4)
    with pytest.raises(tf.errors.InvalidArgumentError, match="or -1 for none"):
        model.fit(data, verbose=0)


def test_what_is_no_sequence_is_named(tagger, sentences, linear_network):
    symbols, labels = sentences
    with pytest.raises(ValueError, match=r"logits \[B, L, C\].*one row per position.*\(None, 3\)"):
        SelfDistiller(linear_network(), sequences=True)
    network = tagger()
    model = compiled(network)
    with pytest.raises(ValueError, match=r"Expected integer labels \[B, L\]. Received: int64 of shape \(6,\)"):
        model.train_on_batch(symbols, labels[:, 0])
    with pytest.raises(ValueError, match=r"logits \[B, C\].*one row per image"):
        check_logits(network, input_shape=(None, LENGTH))  # though it has passed as what it is
    with pytest.raises(ValueError, match="one class each.*whose labels are every position of a sequence"):
        model.fit(symbols, labels, verbose=0, callbacks=[Evaluation((symbols, labels[:, 0]))])
    with pytest.raises(ValueError, match=r"weighted_metrics=\[...\] of sequences.*Received: metrics=\['accuracy'\]"):
        model.compile(SGD(0.1), metrics=["accuracy"])
    with pytest.raises(ValueError, match="as after a softmax"):
        SelfDistiller(tagger(activation="softmax"), sequences=True)


def test_a_regularizer_counts_once_however_many_positions_have_labels(tagger):
    """Of four positions two have labels. From zeros the loss has no gradient into the kernel, and L2 has the kernel."""
    network = tagger(length=2, kernel_regularizer=keras.regularizers.L2(0.5))
    embeddings, kernel, bias = network.get_weights()
    network.set_weights([0 * embeddings, kernel, bias])
    model = compiled(network)
    model.fit(np.zeros((2, 2), "int32"), np.array([[1, -1], [0, -1]]), verbose=0)
    np.testing.assert_allclose(network.get_weights()[1], 0.9 * kernel, rtol=1e-6)


def test_a_mask_of_keras_leaves_metrics_at_the_positions_of_the_loss():
    symbols = np.random.default_rng(0).integers(1, 20, (64, 6))
    symbols[:, 4:] = 0
    labels = np.where(symbols > 0, symbols % 3, 0)
    layers = [keras.layers.Embedding(20, 8, mask_zero=True), keras.layers.Dense(3)]
    model = SelfDistiller(keras.Sequential([keras.Input((6,), dtype="int32"), *layers]), sequences=True)
    model.compile(SGD(1e-9), weighted_metrics=["accuracy"])
    expected = np.mean(model.predict(symbols, verbose=0).argmax(-1) == labels)
    assert model.evaluate(symbols, labels, verbose=0)[1] == pytest.approx(expected, rel=1e-6)
    logs = model.fit(symbols, labels, verbose=0).history
    assert logs["accuracy"] == [pytest.approx(expected, rel=1e-6)]
