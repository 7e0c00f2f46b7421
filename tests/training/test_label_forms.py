"""Labels as integers, columns, one-hot and soft rows: what is the same, what Keras makes of it, and what is refused."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.methods import CSKD, PSKD, TFKD, AdaCos, Mixup, VirtualSoftmax
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.label_kinds import OneClass
from tests.helpers import softmax
from tests.selection import few

REFUSALS = (ValueError, tf.errors.InvalidArgumentError)
FORMS = {
    "integers": lambda y: y,
    "a column of bytes": lambda y: y.astype("uint8")[:, None],
    "whole floats": lambda y: y.astype("float32"),
    "a column of floats": lambda y: y.astype("float64")[:, None],
    "one-hot floats": lambda y: np.eye(3, dtype="float32")[y],
    "one-hot integers": lambda y: np.eye(3, dtype="int64")[y],
    "one-hot bytes": lambda y: np.eye(3, dtype="uint8")[y],
    "one-hot bools": lambda y: np.eye(3, dtype=bool)[y],
    "one-hot halves": lambda y: np.eye(3, dtype="float16")[y],
}
SOFT = np.random.default_rng(2).dirichlet(np.ones(3), 22).astype("float32")


def model_of(network, methods=(), **options):
    network.set_weights([np.random.default_rng(1).normal(size=weight.shape) for weight in network.weights])
    model = SelfDistiller(network, methods, num_examples=22)
    model.compile(keras.optimizers.SGD(0.1), **{"run_eagerly": True, **options})
    return model


class Batches(keras.utils.PyDataset):
    def __init__(self, images, labels):
        super().__init__()
        self._images, self._labels = images, labels

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self._images[index::2], self._labels[index::2]


@pytest.mark.thorough
def test_one_model_takes_the_forms_in_turn_also_where_keras_has_traced_another(linear_network, images_and_labels):
    """Of one type, so that Keras would relax both shapes to one of unknown rank."""
    images, labels = images_and_labels
    rows, columns = np.eye(3, dtype="int64")[labels], labels[:, None]
    model = model_of(linear_network(), metrics=["accuracy"], run_eagerly=False)
    model.optimizer.learning_rate = 0.0
    right = pytest.approx(np.mean(model.predict(images, verbose=0).argmax(axis=1) == labels))
    in_turn = [
        ((images, labels), (images, rows)),
        ((tf.data.Dataset.from_tensor_slices((images, rows)).batch(8),), (images, labels)),
        ((Batches(images, columns),), (images, rows)),
        ((batch for batch in itertools.repeat((images, rows))), (images, columns)),
    ]
    for given, validation in in_turn:
        data, steps = (given, None) if isinstance(given, tuple) else ((given,), 1)
        options = {"shuffle": False, "steps_per_epoch": steps, "validation_data": validation}
        logs = model.fit(*data, verbose=0, **options).history
        assert (logs["accuracy"], logs["val_accuracy"]) == ([right], [right])
    assert model.evaluate(images, rows, verbose=0, return_dict=True)["accuracy"] == right
    for call in (model.train_on_batch, model.test_on_batch):
        values = [call(images, each, return_dict=True)["loss"] for each in (columns, rows)]
        assert values[0] == pytest.approx(values[1], rel=1e-5)


@pytest.mark.thorough
def test_metrics_that_began_with_rows_get_rows(linear_network, images_and_labels):
    images, labels = images_and_labels
    model = model_of(linear_network(), metrics=[keras.metrics.CategoricalAccuracy(name="share")])
    right = np.mean(model.predict(images, verbose=0).argmax(axis=1) == labels)
    for given in (np.eye(3)[labels], labels):
        assert model.evaluate(images, given, verbose=0, return_dict=True)["share"] == pytest.approx(right)
    model.compile("sgd", metrics=[keras.metrics.SparseCategoricalAccuracy(name="share")])
    assert model.evaluate(images, labels, verbose=0, return_dict=True)["share"] == pytest.approx(right)


@pytest.fixture(scope="module")
def after_integers():
    return {}


@pytest.mark.parametrize("form", few(FORMS, 4))
def test_one_class_is_the_same_in_every_form(form, linear_network, images_and_labels, after_integers):
    images, labels = images_and_labels
    given = FORMS[form](labels)
    model = model_of(linear_network(), [CSKD()], weighted_metrics=["accuracy"])
    data = tf.data.Dataset.from_tensor_slices(({"image": images, "partner": images[::-1]}, given)).batch(8)
    logs = model.fit(data, verbose=0).history
    logs |= model.evaluate(images, given, return_dict=True, verbose=0)
    results = [*model.network.get_weights(), *(np.asarray(logs[name]) for name in sorted(logs))]
    for one, other in zip(results, after_integers.setdefault("results", results), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


def test_soft_rows_are_targets_as_of_keras(linear_network, images_and_labels):
    images, _ = images_and_labels
    network = linear_network()
    network.set_weights([np.random.default_rng(1).normal(size=weight.shape) for weight in network.weights])
    options = {"metrics": ["categorical_accuracy"], "run_eagerly": True}
    network.compile(keras.optimizers.SGD(0.1), keras.losses.CategoricalCrossentropy(from_logits=True), **options)
    model = model_of(linear_network(), **options)
    logs, expected = (
        each.fit(images, SOFT, batch_size=8, epochs=2, shuffle=False, verbose=0).history for each in (model, network)
    )
    for name, values in expected.items():
        np.testing.assert_allclose(logs[name], values, rtol=1e-5)
    for one, other in zip(model.network.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_methods_are_shown_soft_rows_as_targets(linear_network, images_and_labels):
    images, _ = images_and_labels
    model = model_of(linear_network(), [TFKD(alpha=0.4, temperature=1.0, correct=0.9), PSKD()])
    logits = model.predict(images, verbose=0)
    virtual = SOFT * 0.9 + (1 - SOFT) * 0.1 / 2
    taught = (virtual * np.log(virtual / softmax(logits))).sum(axis=1)
    logs = model.fit({"image": images, "index": np.arange(22)}, SOFT, batch_size=22, verbose=0).history
    assert logs["teacher_free"] == [pytest.approx(0.4 * taught.mean(), rel=1e-5)]
    assert logs["cross_entropy"] == [
        pytest.approx(0.6 * -(SOFT * np.log(softmax(logits))).sum(axis=1).mean(), rel=1e-5)
    ]


def test_class_weights_of_soft_rows_are_weights_of_their_shares(linear_network, images_and_labels):
    """As PyTorch's `CrossEntropyLoss(weight=...)`, summed: `sum_c w_c t_c (-log p_c)`."""
    images, _ = images_and_labels
    model = model_of(linear_network())
    weights = np.array([0.5, 1.0, 3.0])
    values = -(SOFT * weights * np.log(softmax(model.predict(images, verbose=0)))).sum(axis=1)
    loss = model.train_on_batch(images, SOFT, class_weight=dict(enumerate(weights)))[0]
    assert loss == pytest.approx(values.mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("rows", "message"),
    few(
        [
            (SOFT * 2, r"not below 0 and sum to 1. Received: \[\["),
            (SOFT - np.array([[0.9, -0.9, 0.0]], "float32"), "not below 0 and sum to 1"),
            (np.full((22, 3), np.nan, "float32"), "sum to 1"),
            (np.zeros((22, 3), int), r"sum to 1. Received: \[\[0, 0, 0\]\]"),
            (np.arange(22) % 3 + 0.5, r"whole numbers.*Received: \[0.5, 1.5, 2.5\]"),
            (np.full(22, np.nan), "Expected labels from 0 to 2"),
            (np.ones((22, 4), "float32") / 4, r"or rows \[B, 3\].*Received: float32 of shape"),
            (np.ones((22, 2), int), r"Expected integer labels \[B\] or \[B, 1\].*Received: int64 of shape"),
            (np.arange(22) % 2 == 0, "Expected integer labels.*Received: bool of shape"),
            (np.array(["cat"] * 22), "Expected integer labels.*Received: (str|string)"),
            (np.ones((22, 3, 1), int), r"Expected integer labels.*of shape \((22|None), 3, 1\)"),
        ],
        6,
    ),
)
@pytest.mark.parametrize("flowing", [False, True])
def test_rows_that_are_none_are_refused(flowing, rows, message, linear_network, images_and_labels):
    images, _ = images_and_labels
    model = model_of(linear_network())
    if flowing:
        message = message.partition(".* ?Received" if ".*Received" in message else " Received")[0].partition(".*")[0]
        with pytest.raises(REFUSALS, match=message.rstrip(".")):
            model.fit(tf.data.Dataset.from_tensor_slices((images, rows)).batch(8), verbose=0)
    else:
        with pytest.raises(ValueError, match=message):
            model.fit(images, rows, verbose=0)
    assert int(model.step.numpy()) == 0


@pytest.mark.parametrize("method", [AdaCos, VirtualSoftmax])
def test_methods_that_read_a_class_take_one_hot_rows_alone(method, linear_network, images_and_labels):
    images, labels = images_and_labels
    model = model_of(linear_network(), [method()])
    with pytest.raises(ValueError, match=f"one-hot rows, of images of one class, beside {method.__name__}, which"):
        model.fit(images, SOFT, verbose=0)
    model.fit(images, np.eye(3)[labels], verbose=0)


def test_pairs_of_one_hot_rows(linear_network, images_and_labels):
    images, _ = images_and_labels
    model = model_of(linear_network(), [CSKD(in_batch=True)])
    pairs = np.eye(3)[np.repeat(np.arange(11) % 3, 2)]
    model.fit(images, pairs, shuffle=False, batch_size=22, verbose=0)
    with pytest.raises(ValueError, match="Expected batches of pairs of one class.*Received: labels"):
        model.fit(images, np.roll(pairs, 1, axis=0), shuffle=False, batch_size=22, verbose=0)
    with pytest.raises(ValueError, match="one-hot rows, of images of one class, beside CSKD"):
        model.fit(images, np.repeat(SOFT[:11], 2, axis=0), shuffle=False, batch_size=22, verbose=0)


def test_rows_beside_mixed_targets_are_refused(linear_network, images_and_labels):
    images, labels = images_and_labels
    model = model_of(linear_network(), [Mixup()])
    with pytest.raises(ValueError, match="integer labels beside the targets of a method that works in the pipeline"):
        model.train_on_batch({"image": images, "targets": SOFT}, np.eye(3)[labels])


def test_labels_by_name_are_refused(linear_network, images_and_labels):
    images, labels = images_and_labels
    with pytest.raises(ValueError, match=r"batches \(images, labels\).*labels by name, \['class'\]"):
        model_of(linear_network()).fit(images, {"class": labels}, verbose=0)


def test_checks_of_arrays_and_of_graphs_agree():
    kind, namespaces = OneClass(), (np, tf.experimental.numpy)
    for labels in (
        np.array([0, 3, -1]),
        np.array([[255], [1]], "uint8"),
        np.array([0.5, 1, np.inf, np.nan]),
        SOFT * 1.01,
    ):
        results = [np.asarray(kind.wrong(labels, num_classes=3, namespace=each)) for each in namespaces]
        np.testing.assert_array_equal(*results)
        assert results[0].any()


@pytest.mark.parametrize(
    "metric",
    [
        "crossentropy",
        "sparse_categorical_crossentropy",
        keras.metrics.SparseCategoricalCrossentropy(),
        keras.metrics.CategoricalCrossentropy(),
        keras.metrics.AUC(),
        "CE",
        keras.metrics.sparse_categorical_crossentropy,
        keras.losses.SparseCategoricalCrossentropy(),
    ],
)
def test_metrics_of_probabilities_are_refused(metric, linear_network):
    """Keras would cut logits at 0 and 1, and log some number."""
    with pytest.raises(ValueError, match=r"Expected metrics of logits, .*from_logits=True.*of probabilities"):
        model_of(linear_network(), metrics=[metric])


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("kind", ["Accuracy", "TopKCategoricalAccuracy", "Crossentropy"])
def test_metrics_of_labels_of_the_other_form_are_refused(kind, rows, linear_network, images_and_labels):
    images, labels = images_and_labels
    of_rows = {
        "Accuracy": "categorical_accuracy",
        "TopKCategoricalAccuracy": keras.metrics.TopKCategoricalAccuracy(k=2),
        "Crossentropy": keras.metrics.CategoricalCrossentropy(from_logits=True),
    }
    of_classes = {
        "Accuracy": keras.metrics.SparseCategoricalAccuracy(),
        "TopKCategoricalAccuracy": keras.metrics.SparseTopKCategoricalAccuracy(k=2),
        "Crossentropy": keras.metrics.SparseCategoricalCrossentropy(from_logits=True),
    }
    fitting, other = (of_rows, of_classes) if rows else (of_classes, of_rows)
    labels = np.eye(3)[labels] if rows else labels
    model = model_of(linear_network(), metrics=[other[kind]])
    for call in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match=f"Expected metrics of labels that are {'rows' if rows else 'classes'}"):
            call(images, labels, verbose=0)
    model = model_of(linear_network(), metrics=[fitting[kind]])
    model.evaluate(images, labels, verbose=0)


class OfSoftmax(keras.metrics.AUC):
    """As users have it who take the softmax themselves."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        return super().update_state(tf.one_hot(y_true, 3), tf.nn.softmax(y_pred), sample_weight)


class Configured(keras.metrics.SparseCategoricalCrossentropy):
    def __init__(self, name="own"):
        super().__init__(name=name, from_logits=True)

    def get_config(self):
        return {"name": self.name}


def test_metrics_of_ones_own_and_functions_of_keras_are_looked_at_for_what_they_are(linear_network, images_and_labels):
    images, labels = images_and_labels
    model = model_of(linear_network(), metrics=[OfSoftmax(multi_label=True, num_labels=3), Configured()])
    logs = model.evaluate(images, labels, verbose=0, return_dict=True)
    assert logs["own"] == pytest.approx(logs["loss"], rel=1e-5)
    model = model_of(linear_network(), metrics=[keras.metrics.categorical_accuracy])
    with pytest.raises(ValueError, match="Expected metrics of labels that are classes"):
        model.fit(images, labels, verbose=0)
