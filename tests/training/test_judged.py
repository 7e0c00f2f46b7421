"""`Evaluation` judges whatever can be trained on, by the weights that Keras' own validation sees."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import ArraySource, evaluation_dataset
from cskd_tf.errors import UserError
from cskd_tf.training.callbacks import Evaluation
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.judged import with_classes
from cskd_tf.training.optimizers import SGD
from tests.selection import few, quick

WEIGHTS = np.linspace(0, 2, 22, dtype="float32")


class Batches(keras.utils.PyDataset):
    """Batches of 8, cut from arrays; they are told when an epoch begins and ends."""

    def __init__(self, *arrays):
        super().__init__()
        self.arrays, self.told = arrays, []

    @property
    def num_batches(self):
        return -(-len(self.arrays[0]) // 8)

    def __getitem__(self, index):
        return tuple(array[8 * index : 8 * (index + 1)] for array in self.arrays)

    def on_epoch_begin(self):
        self.told.append("begin")

    def on_epoch_end(self):
        self.told.append("end")


class Endless(Batches):
    num_batches = None


def batches(*arrays):
    return tf.data.Dataset.from_tensor_slices(arrays).batch(8)


def trained(model, images, labels, *data):
    evaluations = [Evaluation(each, split=f"form{number}") for number, each in enumerate(data)]
    model.fit(images, labels, verbose=0, callbacks=evaluations)
    return [evaluation.predictions for evaluation in evaluations]


def test_every_form_that_is_trained_on_is_judged(linear_network, images_and_labels):
    images, labels = images_and_labels
    model = SelfDistiller(linear_network())
    model.compile(SGD(0.1))
    column, rows = labels[:, None].astype("float32"), np.eye(3, dtype="uint8")[labels]
    soft = 0.75 * rows.astype("float32") + 0.25 / 3
    data = [
        (images, labels),
        *((images, form) for form in (column, labels.astype("uint8")[:, None], rows, soft, rows.astype(bool))),
        *(batches(images, form) for form in (column, rows, soft)),
        (images, rows, WEIGHTS), batches(images, labels, WEIGHTS),
        Batches(images, column), Batches(images, rows, WEIGHTS),
    ]  # fmt: skip
    first, *others = trained(model, images, labels, *data)
    np.testing.assert_array_equal(first.labels, labels)
    for other in others:
        np.testing.assert_array_equal(other.labels, labels)
        # Batches of 8 or of 32, whose products some CPUs round otherwise.
        np.testing.assert_allclose(other.logits, first.logits, rtol=1e-6, atol=1e-6)
    assert data[-1].told[-2:] == ["begin", "end"]


def test_data_of_a_run_keep_their_form_for_which_the_collector_has_traced_the_network(images_and_labels):
    source = ArraySource(*images_and_labels)
    data = evaluation_dataset(source, batch_size=8, transform=None)
    assert with_classes(data, num_classes=3).element_spec == data.element_spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x, y[1:]), "as many labels as images.*22 images, 21 labels"),
        (lambda x, y: (x[:1], y[:1]), "at least two images.*1 images, 1 labels"),
        (lambda x, y: (x, y, WEIGHTS[1:]), "22 images, 22 labels, 21 weights"),
        (lambda x, y: (x, y, y, y), r"\(images, labels, weights\). Received: 4 parts"),
        (lambda x, y: x, "Received: ndarray"),
        (lambda x, y: tf.data.Dataset.from_tensors(x), "Received: one part, and no labels"),
        (lambda x, y: tf.data.Dataset.from_tensors((x, {"class": y})), r"labels by name, \['class'\]"),
        (lambda x, y: batches(x, y).repeat(), "Received: data without an end"),
        (lambda x, y: Endless(x, y), "Received: data without an end"),
    ],
)
def test_data_of_another_form_are_refused(change, message, images_and_labels):
    with pytest.raises(UserError, match=message):
        Evaluation(change(*images_and_labels))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    few(
        [
            (lambda x, y: (x, y + 1), UserError, r"Expected labels from 0 to 2.*Received: \[3\]"),
            (lambda x, y: (x, y / 2), UserError, r"as whole numbers. Received: \[0.5\]"),
            (lambda x, y: (x, np.eye(4)[y]), UserError, r"or rows \[B, 3\].*Received: float64 of shape"),
            (lambda x, y: (x, np.ones((22, 3))), UserError, "rows .* of shares that are not below 0 and sum to 1"),
            (lambda x, y: batches(x, y.astype(str)), UserError, "Received: string of shape"),
            (lambda x, y: (x, y, -WEIGHTS), UserError, "sample weights that are finite and not below 0"),
            (lambda x, y: batches(x, y + 1), tf.errors.InvalidArgumentError, "Expected labels from 0 to 2"),
            (lambda x, y: Batches(x, y + 0.5), tf.errors.InvalidArgumentError, "as whole numbers"),
        ],
        3,
    ),
)
def test_labels_that_are_none_of_the_models_are_refused(change, error, message, linear_network, images_and_labels):
    images, labels = images_and_labels
    model = SelfDistiller(linear_network())
    model.compile(SGD(0.1))
    with pytest.raises(error, match=message):
        trained(model, images, labels, change(images, labels))
    assert int(model.step.numpy()) == (0 if error is UserError else 1)


def distiller(network):
    model = SelfDistiller(network)
    model.compile(SGD(0.5, use_ema=True, ema_momentum=0.5))
    return model


def plain(network):
    loss, metric = (
        getattr(keras, kind).SparseCategoricalCrossentropy(from_logits=True, name="cross_entropy")
        for kind in ("losses", "metrics")
    )
    network.compile(keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.5), loss, metrics=[metric])
    return network


@pytest.mark.parametrize("swap_on_epoch", quick([False, True], True))
@pytest.mark.parametrize("order", few([1, -1], 1), ids=["swap first", "evaluation first"])
@pytest.mark.parametrize("kind", quick([distiller, plain], distiller))
def test_averaged_weights_are_evaluated_as_keras_does(kind, swap_on_epoch, order, linear_network, images_and_labels):
    images, labels = images_and_labels
    network = linear_network()
    model = kind(network)
    swap, evaluation = keras.callbacks.SwapEMAWeights(swap_on_epoch=swap_on_epoch), Evaluation((images, labels))
    raw, seen = [], []
    peek = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: raw.append(network.get_weights()[0].copy()),
        on_epoch_end=lambda epoch, logs: seen.append(network.get_weights()[0].copy()),
    )
    history = model.fit(
        images, labels, batch_size=8, epochs=3, verbose=0,
        validation_data=(images, labels), callbacks=[*[swap, evaluation][::order], peek],
    ).history  # fmt: skip
    np.testing.assert_allclose(history["val_nll"], history["val_loss"], atol=1e-5)
    # Who comes later sees the weights that Keras promises them: averaged at the epoch's end, or not.
    for epoch in range(2):
        assert np.allclose(seen[epoch], raw[3 * epoch + 2], atol=1e-6) != swap_on_epoch
