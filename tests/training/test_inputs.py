"""What is wrong with a batch is said on every path into the step, under XLA too, which drops assertions inside it."""

import dataclasses
import inspect
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import Needs, paired_dataset
from cskd_tf.data.batches.stream import paired_stream
from cskd_tf.errors import UserError
from cskd_tf.methods import CSKD, PSKD
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.expectations import Expectations
from cskd_tf.training.optimizers import SGD
from tests.selection import few, quick

REFUSALS = (ValueError, tf.errors.InvalidArgumentError)


class Batches(keras.utils.PyDataset):
    steps_per_epoch = "not ours"

    def __init__(self, inputs, labels):
        super().__init__()
        self.inputs, self.labels = inputs, labels
        self.ended = 0

    def __len__(self):
        return 3

    def __getitem__(self, index):
        part = slice(8 * index, 8 * index + 8)
        return {name: rows[part] for name, rows in self.inputs.items()}, self.labels[part]

    def on_epoch_end(self):
        self.ended += 1


def generator(inputs, labels):
    for index in range(3):
        yield Batches(inputs, labels)[index]


class Loader:
    """Of PyTorch's form: it can be gone through again, and has nothing of Keras'."""

    def __init__(self, *data):
        self.data = data

    def __iter__(self):
        return generator(*self.data)


def slices(inputs, labels):
    return tf.data.Dataset.from_tensor_slices((inputs, labels)).batch(8)


@dataclasses.dataclass(frozen=True)
class Kind:
    """What `fit` takes as data.

    Attributes:
        make: from inputs and labels, the first arguments of `fit` and `evaluate`.
        steps: what `fit` has to be told beside them to train three steps.
        looked_at: before the first step, which makes the refusal name the labels.
        compiled: with XLA, where every kind trains; once is enough.
    """

    make: Callable
    steps: dict = dataclasses.field(default_factory=dict)
    looked_at: bool = False
    compiled: bool = False


def pairs_of_ones_own(inputs, labels):
    pairs = paired_dataset(inputs["image"], np.arange(24) % 3, batch_size=8, seed=0)
    return pairs.map(lambda batch, _: (batch, tf.constant(labels[:8])))


def column(labels):
    return labels.astype("uint8" if labels.min() >= 0 else "int8")[:, None]


def tensors(inputs):
    return {key: tf.constant(rows) for key, rows in inputs.items()}


BY_EIGHT = {"batch_size": 8}
KINDS = {
    "arrays": Kind(lambda inputs, labels: (inputs, labels), BY_EIGHT, looked_at=True),
    "column": Kind(lambda inputs, labels: (inputs, column(labels)), BY_EIGHT, looked_at=True),
    "tensors": Kind(lambda inputs, labels: (tensors(inputs), tf.constant(labels)), BY_EIGHT, looked_at=True),
    "tf.data": Kind(lambda inputs, labels: (slices(inputs, labels),), compiled=True),
    "mapped pairs": Kind(lambda inputs, labels: (pairs_of_ones_own(inputs, labels),)),
    "PyDataset": Kind(lambda inputs, labels: (Batches(inputs, labels),), looked_at=True),
    "generator": Kind(lambda inputs, labels: (generator(inputs, labels),), {"steps_per_epoch": 3}),
}


@pytest.fixture
def inputs():
    images = np.random.default_rng(0).normal(size=(24, 4, 4, 1)).astype("float32")
    return {"image": images, "partner": images}


def make_model(network, methods=(), *, jit=True, **options):
    model = SelfDistiller(network, methods, **options)
    model.compile(SGD(0.1), jit_compile=jit)
    return model


@pytest.mark.parametrize("kind", quick(KINDS, *(KINDS.keys() - {"mapped pairs"})))
@pytest.mark.parametrize(("shift", "received"), few([(1, r"\[3\]"), (-1, r"\[-1\]")], 1))
def test_labels_outside_of_the_classes(kind, shift, received, linear_network, inputs):
    labels = np.arange(24) % 3 + shift
    model = make_model(linear_network(), [CSKD()])
    before = model.get_weights()
    with pytest.raises(REFUSALS, match="Expected labels from 0 to 2, one of the classes of the network") as refusal:
        model.fit(*KINDS[kind].make(inputs, labels), shuffle=False, verbose=0)
    if KINDS[kind].looked_at:
        assert refusal.match(f"Received: {received}")
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    with pytest.raises(REFUSALS, match="Expected labels from 0 to 2"):
        model.evaluate(*KINDS[kind].make(inputs, labels), verbose=0)


@pytest.mark.parametrize("kind", quick(KINDS, "tf.data", "PyDataset", "generator"))
def test_every_kind_of_data_trains(kind, linear_network, inputs):
    kind = KINDS[kind]
    model = make_model(linear_network(), [CSKD()], jit=kind.compiled)
    data = kind.make(inputs, np.arange(24) % 3)
    history = model.fit(*data, shuffle=False, verbose=0, **kind.steps)
    assert np.isfinite(history.history["loss"]).all()
    assert int(model.step.numpy()) == 3


def test_keras_own_data_sets_are_told_of_an_epochs_end(linear_network, inputs):
    data = Batches(inputs, np.arange(24) % 3)
    make_model(linear_network(), [CSKD()], jit=False).fit(data, verbose=0)
    assert data.ended > 0


def test_of_a_loader_the_first_batch_is_looked_at(linear_network, inputs):
    from cskd_tf.training.inputs import checked

    labels = np.arange(24) % 3
    loader = Loader(inputs, labels)
    assert checked(loader, None, expected=Expectations(num_classes=3)) is loader
    with pytest.raises(ValueError, match=r"Expected labels from 0 to 1.*Received: \[2\]"):
        checked(loader, None, expected=Expectations(num_classes=2))


def test_single_batches(linear_network, inputs):
    labels = np.arange(24) % 3
    model = make_model(linear_network(), [CSKD()])
    for call in (model.train_on_batch, model.test_on_batch):
        call(inputs, labels)
        with pytest.raises(ValueError, match=r"Expected labels from 0 to 2.*Received: \[3\]"):
            call(inputs, labels + 1)


def test_validation_data(linear_network, inputs):
    labels = np.arange(24) % 3
    for validation in ((inputs, labels + 1), slices(inputs, labels + 1), Batches(inputs, labels + 1)):
        with pytest.raises(REFUSALS, match="Expected labels from 0 to 2"):
            make_model(linear_network(), [CSKD()]).fit(inputs, labels, validation_data=validation, verbose=0)


def test_a_loop_of_ones_own_is_told_too(linear_network, inputs):
    model = SelfDistiller(linear_network(), [CSKD()])
    model.compile(SGD(0.1, weight_decay=0.0))
    model.optimizer.build(model.trainable_variables)
    step = tf.function(model.train_step, autograph=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expected labels from 0 to 2"):
        step((inputs, tf.range(24)))
    before = model.get_weights()
    compiled_step = tf.function(model.train_step, autograph=False, jit_compile=True)
    assert np.isnan(float(compiled_step((inputs, tf.range(24)))["loss"]))
    for one, two in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["tf.data", "PyDataset", "generator"])
def test_neighbours_of_different_classes(kind, linear_network, inputs):
    model = make_model(linear_network(), [CSKD(in_batch=True)])
    pairs = np.repeat(np.arange(12) % 3, 2)
    wrong = np.roll(pairs, 1)
    with pytest.raises(REFUSALS, match="Expected batches of pairs of one class, image, partner"):
        model.fit(*KINDS[kind].make(inputs, wrong), shuffle=False, verbose=0)
    assert np.isfinite(
        model.fit(*KINDS[kind].make(inputs, pairs), shuffle=False, verbose=0, **KINDS[kind].steps).history["loss"]
    ).all()


@pytest.mark.thorough
def test_pairs_of_arrays_and_data_sets_without_them(linear_network, inputs):
    model, pairs = make_model(linear_network(), [CSKD(in_batch=True)]), np.repeat(np.arange(12) % 3, 2)
    with pytest.raises(ValueError, match="Expected batches of pairs.*arrays, which fit.. shuffles"):
        model.fit(inputs, pairs, verbose=0)
    with pytest.raises(ValueError, match="Expected batches of pairs.*a data set with pairs_adjacent=False"):
        model.fit(paired_dataset(inputs["image"], pairs, batch_size=8, seed=0), verbose=0)
    with pytest.raises(ValueError, match=r"Expected batches of pairs.*labels \[0, 1, 2"):
        model.fit(inputs, np.arange(24) % 3, shuffle=False, verbose=0)
    model.fit(inputs, pairs, shuffle=False, batch_size=8, verbose=0)


@pytest.mark.parametrize(
    ("replicas", "size", "batch_size", "refused"),
    [
        (1, 12, 4, None), (1, 12, 3, 3), (1, 9, 4, 1), (2, 12, 4, None), (2, 10, 6, 6), (2, 14, 12, 2),
        (4, 10, 10, 10), (4, 8, 8, None), (1, 9, 10, 9),
    ],
)  # fmt: skip
def test_batches_that_cut_pairs_are_refused_before_the_first_step(replicas, size, batch_size, refused):
    expected = Expectations(num_classes=3, pairs_adjacent=True, replicas=replicas)
    if refused is None:
        expected.check_batches(size, batch_size=batch_size)
        return
    with pytest.raises(UserError, match=rf"of pairs .*Received: a batch of {refused} of {size} images, {batch_size=}"):
        expected.check_batches(size, batch_size=batch_size)


@pytest.mark.parametrize("first", few([0, -1], 1))
@pytest.mark.parametrize("kind", ["tf.data", "PyDataset", "generator", "arrays"])
def test_images_that_a_table_has_no_row_for(kind, first, linear_network, inputs):
    labels = np.arange(24) % 3
    indexed = {**inputs, "index": np.where(np.arange(24) == 3, first, 0) if first else np.arange(24)}
    with pytest.raises(REFUSALS, match="Expected indices from 0 and below num_examples=12"):
        make_model(linear_network(), [PSKD()], num_examples=12).fit(
            *KINDS[kind].make(indexed, labels), shuffle=False, verbose=0
        )


@pytest.mark.thorough
def test_data_of_more_classes_or_images_than_the_model(linear_network, inputs):
    labels = np.arange(24) % 3
    data = paired_dataset(inputs["image"], labels, batch_size=8, seed=0, needs=Needs(extras=("index",)))
    with pytest.raises(ValueError, match="Expected labels from 0 to 1.*Received: data of 3 classes"):
        make_model(linear_network(classes=2)).fit(data, verbose=0)
    with pytest.raises(ValueError, match="num_examples=12.*Received: 24 training images"):
        make_model(linear_network(), [PSKD()], num_examples=12).fit(data, verbose=0)
    # Fewer classes after a map of the user's are his own affair, and looked at batch by batch.
    merged = data.map(lambda batch, label: (batch, label // 2))
    make_model(linear_network(classes=2)).fit(merged, verbose=0)


def test_a_stream_is_read_again_each_epoch(linear_network, inputs):
    examples = tf.data.Dataset.from_tensor_slices((inputs["image"], np.arange(24) % 3))
    stream = paired_stream(examples, num_classes=3, batch_size=8, seed=0)
    model = make_model(linear_network(), [CSKD()], jit=False)
    assert len(model.fit(stream, epochs=2, verbose=0).history["loss"]) == 2
    assert int(model.step.numpy()) == 6


def test_ones_own_pairs_are_read_again_each_epoch(linear_network, inputs):
    model = make_model(linear_network(), [CSKD()], jit=False)
    model.fit(slices(inputs, np.arange(24) % 3), epochs=2, verbose=0)
    assert int(model.step.numpy()) == 6


@pytest.mark.parametrize("kind", quick(["PyDataset", "generator", "tf.data"], "PyDataset"))
def test_a_model_without_a_shape_is_built_from_the_first_batch(kind, inputs):
    network = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])
    model = make_model(network, [CSKD()], jit=False)
    model.fit(*KINDS[kind].make(inputs, np.arange(24) % 3), shuffle=False, verbose=0, **KINDS[kind].steps)
    assert network.layers[1].kernel.shape == (16, 3)
    assert int(model.step.numpy()) == 3


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        (lambda x, y: (x,), r"validation_data=\(images, labels\), or with weights as third. Received: a tuple of 1"),
        (lambda x, y: (x, y.tolist()), r"Expected y as an array: numpy.asarray\(y\). Received: a list"),
        (lambda x, y: (x[:, :3], y), r"Expected images \(None, 4, 4, 1\).*Received: \(None, 3, 4, 1\)"),
    ],
    ids=["no labels", "a list", "another shape"],
)
def test_validation_data_that_cannot_be_are_refused_before_training(
    validation, message, linear_network, images_and_labels
):
    model = make_model(linear_network())
    with pytest.raises(ValueError, match=message):
        model.fit(*images_and_labels, validation_data=validation(*images_and_labels), verbose=0)
    assert int(model.step.numpy()) == 0


@pytest.mark.thorough
def test_pairs_for_validation_are_read_for_one_epoch(linear_network, inputs):
    model = make_model(linear_network())
    labels = np.arange(24) % 3
    data = paired_dataset(inputs["image"], labels, batch_size=8, seed=0, epochs=5)
    read = []
    count = keras.callbacks.LambdaCallback(on_test_batch_end=lambda batch, logs: read.append(batch))
    history = model.fit(data, validation_data=data, callbacks=[count], verbose=0).history
    assert read == [0, 1, 2]
    assert history["val_loss"] == pytest.approx([model.evaluate(inputs["image"], labels, verbose=0)], rel=1e-5)


@pytest.mark.thorough
def test_arguments_by_their_places_are_those_of_keras(linear_network, inputs):
    model = make_model(linear_network())
    history = model.fit(inputs["image"], np.arange(24) % 3, 8, 2, 0, None, 0.25).history
    assert len(history["val_loss"]) == 2
    assert int(model.step.numpy()) == 2 * 3
    ours, theirs = (list(inspect.signature(each.fit).parameters) for each in (SelfDistiller, keras.Model))
    assert ours[:-1] == theirs[: len(ours) - 1]
