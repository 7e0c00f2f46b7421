"""Where the data go on, whatever loop `fit` is called in."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import Needs, paired_dataset
from cskd_tf.errors import UserError
from cskd_tf.methods import CSKD, PSKD, Method
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.optimizers import SGD
from tests.helpers import compiled

EPOCHS, STEPS = 4, 3


class Seen(Method):
    """Notes which images each step was shown, and beside which partners."""

    extras = ("index",)

    def after_step(self, batch, outputs):
        rows = (batch["index"], batch["partner"][:, 0, 0, 0])
        tf.py_function(lambda *arrays: SEEN.append(tuple(array.numpy().tolist() for array in arrays)), rows, [])


SEEN: list = []


@pytest.fixture
def make_model(batch_norm_network):
    def make(**settings):
        model = SelfDistiller(batch_norm_network(), [CSKD(), Seen()])
        model.compile(SGD(0.01), **settings)
        return model

    return make


@pytest.fixture
def make_data(images_and_labels):
    needs = Needs(views=("partner",), extras=("index",))
    return lambda **options: paired_dataset(
        *images_and_labels, **{"batch_size": 8, "seed": 0, "needs": needs, **options}
    )


@pytest.fixture
def whole(make_data):
    """What an uninterrupted training shows, step by step."""
    data = make_data(epochs=EPOCHS + 2)
    return [(batch["index"].numpy().tolist(), batch["partner"].numpy()[:, 0, 0, 0].tolist()) for batch, _ in data]


@pytest.fixture(autouse=True)
def nothing_seen():
    SEEN.clear()


def test_every_epoch_shows_other_pairs(whole):
    orders = [
        [index for indices, _ in whole[STEPS * epoch : STEPS * (epoch + 1)] for index in indices]
        for epoch in range(EPOCHS)
    ]
    assert all(sorted(order) == list(range(22)) for order in orders)
    assert len({tuple(order) for order in orders}) == EPOCHS


def in_one_go(make_model, make_data, folder):
    make_model().fit(make_data(), epochs=EPOCHS, verbose=0)


def one_epoch_at_a_time(make_model, make_data, folder):
    model = make_model()
    for _ in range(EPOCHS):
        model.fit(make_data(), epochs=1, verbose=0)


def with_initial_epochs_of_one_data_set(make_model, make_data, folder):
    model, data = make_model(), make_data(epochs=EPOCHS)
    for epoch in range(EPOCHS):
        model.fit(data, initial_epoch=epoch, epochs=epoch + 1, verbose=0)


def from_weights_alone(make_model, make_data, folder):
    model, other = make_model(), make_model()
    model.fit(make_data(), epochs=2, verbose=0)
    other.set_weights(model.get_weights())
    other.fit(make_data(), initial_epoch=2, epochs=EPOCHS, verbose=0)


def from_a_file(make_model, make_data, folder):
    model = make_model()
    model.fit(make_data(), epochs=2, verbose=0)
    model.save(folder / "model.keras")
    copy = keras.models.load_model(folder / "model.keras", custom_objects={"Seen": Seen})
    copy.fit(make_data(), epochs=2, verbose=0)


class Stop(keras.callbacks.Callback):
    """Interrupts the training before a step."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_begin(self, batch, logs=None):
        if int(self.model.step.numpy()) == self.step:
            raise KeyboardInterrupt


def interrupted(save_freq, *, at):
    def train(make_model, make_data, folder):
        def backup():
            return keras.callbacks.BackupAndRestore(folder / "backup", save_freq=save_freq)

        with pytest.raises(KeyboardInterrupt):
            make_model().fit(make_data(), epochs=EPOCHS, verbose=0, callbacks=[backup(), Stop(at)])
        make_model().fit(make_data(), epochs=EPOCHS, verbose=0, callbacks=[backup()])

    return train


def through_map_and_prefetch(make_model, make_data, folder):
    model = make_model()
    for _ in range(2):
        data = make_data().map(lambda batch, labels: (batch, labels + 0)).prefetch(1).with_options(tf.data.Options())
        model.fit(data, epochs=2, verbose=0, callbacks=keras.callbacks.LambdaCallback())


def three_steps_an_execution(make_model, make_data, folder):
    model = make_model(steps_per_execution=STEPS)
    for _ in range(2):
        model.fit(make_data(), epochs=2, verbose=0)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "train",
    [
        in_one_go,
        pytest.param(one_epoch_at_a_time, marks=pytest.mark.slow),
        pytest.param(with_initial_epochs_of_one_data_set, marks=pytest.mark.slow),
        pytest.param(from_weights_alone, marks=pytest.mark.slow),
        from_a_file,
        interrupted("epoch", at=6),
        pytest.param(through_map_and_prefetch, marks=pytest.mark.slow),
        pytest.param(three_steps_an_execution, marks=pytest.mark.slow),
    ],
)
def test_no_epoch_is_shown_again_and_none_left_out(train, make_model, make_data, whole, tmp_path):
    train(make_model, make_data, tmp_path)
    assert whole[: STEPS * EPOCHS] == SEEN


def test_a_run_restored_within_an_epoch_goes_on_at_its_step(make_model, make_data, whole, tmp_path):
    interrupted(2, at=5)(make_model, make_data, tmp_path)  # saved after 4 steps, in epoch 1
    assert SEEN[:5] == whole[:5]
    assert SEEN[5:14] == whole[4:13]


class Interrupt(keras.callbacks.Callback):
    """Interrupts the training behind a step, and notes what the metrics have added up."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.step.numpy()) == self.step:
            self.metrics = self.model.metric_values()
            raise KeyboardInterrupt


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("per_execution", "count"),
    [pytest.param(1, 1, marks=pytest.mark.slow), (2, 1), (1, 2)],
)
def test_an_epoch_that_is_gone_on_with_has_the_logs_of_a_whole_one(
    per_execution, count, linear_network, images_and_labels, replicas
):
    strategy = replicas(count)
    batches = []

    def train(model, first, callbacks=()):
        data = paired_dataset(*images_and_labels, batch_size=4, seed=0, **model.data_options)
        note = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: batches.append(batch))
        return model.fit(data, initial_epoch=first, epochs=3, verbose=0, callbacks=[note, *callbacks]).history

    def make():
        keras.utils.set_random_seed(3)
        with strategy.scope():
            model = SelfDistiller(linear_network(), [PSKD(), CSKD()], num_examples=22)
            model.compile(SGD(0.05, momentum=0.9), steps_per_execution=per_execution)
        return model

    whole, parts = make(), make()
    expected = train(whole, 0)
    interrupt = Interrupt(8)  # of 6 steps an epoch: 2 into the second
    with pytest.raises(KeyboardInterrupt):
        train(parts, 0, [interrupt])
    parts.reset_metrics()
    parts.go_on_within_epoch(interrupt.metrics)
    batches.clear()
    assert train(parts, 1) == {name: values[1:] for name, values in expected.items()}
    assert len(batches) == (4 + 6) / per_execution
    for one, two in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_reading_by_hand_starts_at_the_first_step_whenever_it_is_opened(make_data, whole):
    data = make_data(epochs=2, first_step=1)
    for _ in range(2):
        assert [batch["index"].numpy().tolist() for batch, _ in data] == [indices for indices, _ in whole[1:6]]
    assert int(data.cardinality()) == 5
    assert int(data.take(2).cardinality()) == 2


@pytest.mark.thorough
def test_fit_never_begins_before_the_first_step(make_model, make_data, whole):
    make_model().fit(make_data(epochs=2, first_step=3), epochs=1, verbose=0)
    assert whole[3:6] == SEEN


def test_a_data_set_opens_at_any_step(make_data, whole):
    opened = iter(make_data().opened_at(lambda: 7))
    assert [next(opened)[0]["index"].numpy().tolist() for _ in range(3)] == [indices for indices, _ in whole[7:10]]


def test_executions_that_do_not_make_an_epoch_are_refused(make_model, make_data):
    with pytest.raises(ValueError, match=r"divide the 3 steps of an epoch\. Received: steps_per_execution=2"):
        make_model(steps_per_execution=2).fit(make_data(), verbose=0)
    assert SEEN == []


def test_files_of_models_that_had_no_step_are_read(linear_network, images_and_labels, tmp_path):
    import h5py

    model = compiled(linear_network())
    model.fit(*images_and_labels, verbose=0)
    model.save_weights(tmp_path / "new.weights.h5")
    with h5py.File(tmp_path / "new.weights.h5", "r+") as file:
        del file["vars/step"]
    other = compiled(linear_network())
    other.load_weights(tmp_path / "new.weights.h5")
    assert int(other.step.numpy()) == 0
    np.testing.assert_array_equal(other.network.get_weights()[0], model.network.get_weights()[0])


@pytest.mark.thorough
@pytest.mark.parametrize("stop", [2, 3], ids=["within", "at the end of"])
def test_a_callback_may_end_the_training_in_an_epoch_that_is_gone_on_with(stop, make_model, make_data):
    model, data = make_model(), make_data()
    model.fit(data, epochs=1, steps_per_epoch=1, verbose=0)
    model.go_on_within_epoch(model.metric_values())

    def end(batch, logs):
        if int(model.step.numpy()) == stop:
            model.stop_training = True

    model.fit(data, epochs=EPOCHS, verbose=0, callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=end)])
    assert int(model.step.numpy()) == stop


@pytest.mark.thorough
@pytest.mark.parametrize("before", ["fit", "train_on_batch"])
def test_pairs_begin_with_a_whole_epoch_after_batches_that_are_not_counted(before, make_model, make_data):
    model, data = make_model(), make_data()
    batches = [batch for batch, _ in data]
    labels = [labels for _, labels in data]
    if before == "fit":  # five steps, where an epoch has three
        model.fit(tf.data.Dataset.from_tensors((batches[0], labels[0])).repeat(5), epochs=1, verbose=0)
    else:
        model.fit(make_data(), epochs=1, verbose=0)
        model.train_on_batch(batches[0], labels[0])
    SEEN.clear()
    model.fit(make_data(), epochs=1, verbose=0)
    assert sorted(index for indices, _ in SEEN for index in indices) == list(range(22))


@pytest.mark.thorough
@pytest.mark.parametrize("batch_size", [8, 6])
def test_other_data_begin_with_a_whole_epoch(batch_size, make_model, images_and_labels):
    images, labels = images_and_labels
    model = make_model()
    needs = Needs(views=("partner",), extras=("index",))
    first = paired_dataset(images, labels, batch_size=8, seed=0, needs=needs)
    model.fit(first, epochs=1, verbose=0)
    SEEN.clear()
    repeated = np.concatenate([images, images[:18]]), np.concatenate([labels, labels[:18]])  # 40 of them
    others = paired_dataset(*repeated, batch_size=batch_size, seed=0, needs=needs)
    with pytest.raises(UserError, match="val_ece"):  # which leaves the training where it was
        model.fit(others, epochs=2, verbose=0, callbacks=[keras.callbacks.EarlyStopping("val_ece")])
    with pytest.raises(UserError, match="class_weight"):
        model.fit(others, epochs=2, verbose=0, class_weight={0: -1.0})
    model.fit(others, epochs=2, verbose=0)
    shown = [index for indices, _ in SEEN for index in indices]
    assert sorted(shown[:40]) == sorted(shown[40:]) == list(range(40))


def test_other_data_never_turn_the_count_of_steps_back(linear_network, images_and_labels):
    model = compiled(linear_network(), [CSKD()])
    model.fit(paired_dataset(*images_and_labels, batch_size=8, seed=0), verbose=0)
    assert int(model.step.numpy()) == 3
    twice = [np.concatenate([array, array]) for array in images_and_labels]
    model.fit(paired_dataset(*twice, batch_size=8, seed=0), verbose=0)
    assert int(model.step.numpy()) == 6 + 6  # from the next epoch of 6 steps on
