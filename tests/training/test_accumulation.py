"""A batch in parts makes the step of the whole batch: for every method, on one replica and on two."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import paired_dataset
from cskd_tf.errors import UserError
from cskd_tf.methods import CSKD, PSKD, AdaCos, Method
from cskd_tf.training.accumulation import accumulated
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.optimizers import SGD
from tests.methods.method_cases import CASES, keep, positions
from tests.methods.numpy_losses import CLASSES
from tests.selection import quick

PARTS = 3
EXITS = {"BYOT paper", "BYOT paper, not squared", "BYOT beside Distillation"}  # with batch norm: test_method_steps.py
WHOLE_BATCH = {"AdaCos", "DDGSD", "USKD", "BYOT public", "BYOT public, squared", "PSKD beside DDGSD"}
MARKED = [pytest.param(name, marks=[pytest.mark.papers] if CASES[name].together else []) for name in CASES]
PARTED = [case for case in MARKED if case.values[0] not in WHOLE_BATCH | EXITS]
LABELS = np.repeat(np.arange(CLASSES), [4, 2, 2, 4])  # in pairs


def batch_of(case):
    """11 images, of which neither 3 parts nor 2 replicas are even; whole pairs where there are pairs."""
    generator = np.random.default_rng(5)
    images = 12 if case.images % 2 == 0 else 11
    views = ("image", "partner", "second_view", "clean", "previous")
    batch = {view: generator.normal(size=(images, 2, 2, 1)).astype("float32") for view in views}
    batch |= {"index": generator.permutation(12)[:images], **positions(images)}
    if case.mixed:
        batch["targets"] = generator.dirichlet(np.ones(CLASSES), images).astype("float32")
    return batch, LABELS[:images]


def model_of(case, *, parts):
    keras.utils.set_random_seed(1)
    model = SelfDistiller(case.network(), case.methods(), num_examples=12)
    model.compile(SGD(0.5), gradient_accumulation_steps=parts)
    model.optimizer.build(model.trainable_variables)
    for method in model.composition.terms:
        method.on_epoch_begin(1, epochs=2)
        if hasattr(method, "table"):
            method.table.assign(np.random.default_rng(8).dirichlet(np.ones(CLASSES), 12))
        elif case.kept:
            keep(model, case)
    return model


def after_a_step(strategy, case, *, parts):
    """All that a step leaves: weights, momentum, what methods keep, and the logs."""
    with strategy.scope():
        model = model_of(case, parts=parts)
    data = strategy.experimental_distribute_dataset(tf.data.Dataset.from_tensors(batch_of(case)))
    step = tf.function(lambda batch: strategy.run(model.train_step, args=(batch,)), autograph=False)
    for batch in data:
        step(batch)
    variables = [*model.variables, *model.optimizer.variables, model.step]
    return [variable.numpy() for variable in variables], {
        name: float(tracker.result()) for name, tracker in model._trackers.items()
    }


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", quick(PARTED, "CSKD"))
def test_parts_make_the_step_of_the_whole_batch(name, count, replicas):
    state, logs = after_a_step(replicas(1), CASES[name], parts=1)
    parted, parted_logs = after_a_step(replicas(count), CASES[name], parts=PARTS)
    for one, other in zip(state, parted, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-6, rtol=1e-3 if one.dtype == np.float16 else 0)
    assert parted_logs == pytest.approx(logs, rel=2e-6, abs=1e-6)


@pytest.mark.parametrize("name", sorted(WHOLE_BATCH))
def test_methods_that_need_a_batch_in_one_are_refused(name):
    names = "AdaCos|DDGSD|USKD|BYOT"
    with pytest.raises(ValueError, match=rf"Expected gradient_accumulation_steps=1 beside ({names}): a statistic.*=3"):
        model_of(CASES[name], parts=PARTS)


@pytest.mark.parametrize("steps", [0, -1, 2.0, True])
def test_numbers_of_parts_that_are_none_are_refused(steps, linear_network):
    with pytest.raises(ValueError, match="gradient_accumulation_steps to be an integer of at least 1. Received: "):
        SelfDistiller(linear_network()).compile(SGD(0.1), gradient_accumulation_steps=steps)


class Rows(Method):
    """Notes how many rows each hook is shown."""

    extras = ("index",)
    term_names = ("nothing",)

    def terms(self, batch, outputs, targets):
        SEEN.append(("terms", batch["index"].shape[0], outputs["image"]["logits"].shape[0], targets.shape[0]))
        return {"nothing": tf.zeros(tf.shape(batch["label"]))}

    def after_step(self, batch, outputs):
        SEEN.append(("after_step", batch["index"].shape[0], outputs["image"]["logits"].shape[0]))


SEEN: list = []


def test_terms_are_of_a_part_and_what_follows_the_step_of_the_batch(linear_network, images_and_labels):
    images, labels = images_and_labels
    model = SelfDistiller(linear_network(), [Rows()])
    model.compile(SGD(0.1), gradient_accumulation_steps=4)
    SEEN.clear()
    logs = model.train_step(({"image": images, "index": np.arange(22)}, labels))
    assert [("terms", n, n, n) for n in (5, 6, 5, 6)] + [("after_step", 22, 22)] == SEEN
    assert logs["loss"] > 0


def fitted(strategy, network, images, labels, *, parts, methods=(), epochs=2, **options):
    keras.utils.set_random_seed(3)
    with strategy.scope():
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.1, 0.01])
        model = SelfDistiller(network(), [method() for method in methods], num_examples=len(labels))
        model.compile(SGD(schedule, **options), gradient_accumulation_steps=parts, metrics=["accuracy"])
    data = paired_dataset(images, labels, batch_size=8, seed=5, **model.data_options)
    history = model.fit(data, epochs=epochs, verbose=0).history
    assert int(model.step.numpy()) == int(model.optimizer.iterations.numpy()) == 3 * epochs  # batches, and not parts
    return model, history


@pytest.mark.thorough
@pytest.mark.parametrize(
    "methods", [(CSKD, PSKD), pytest.param((lambda: CSKD(in_batch=True),), marks=pytest.mark.slow)]
)
def test_parts_of_uneven_batches_on_replicas_train_as_one(methods, linear_network, images_and_labels, two_replicas):
    def network():
        return linear_network(kernel_regularizer="l2", activity_regularizer="l1")

    options = {"clip_norm": 0.5, "methods": methods}
    single = tf.distribute.get_strategy()
    model, history = fitted(single, network, *images_and_labels, parts=1, **options)
    for strategy in (single, two_replicas):
        parted, logs = fitted(strategy, network, *images_and_labels, parts=2, **options)
        for one, other in zip(model.network.get_weights(), parted.network.get_weights(), strict=True):
            np.testing.assert_allclose(other, one, atol=1e-6)
        for name, values in history.items():
            np.testing.assert_allclose(logs[name], values, rtol=1e-5, err_msg=name)


def test_batch_norm_takes_each_part_for_a_batch(images_and_labels):
    images, labels = images_and_labels
    inputs = keras.Input((4, 4, 1))
    normalization = keras.layers.BatchNormalization(momentum=0.9)
    network = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(normalization(inputs))))
    model = SelfDistiller(network)
    model.compile(SGD(0.1), gradient_accumulation_steps=2)
    model.train_step((images, labels))
    expected = 0.9 * 0.1 * images[:11].mean() + 0.1 * images[11:].mean()
    np.testing.assert_allclose(normalization.moving_mean.numpy(), [expected], atol=1e-6)


@pytest.mark.thorough
def test_batches_of_fewer_images_than_parts_are_refused(linear_network, images_and_labels, two_replicas):
    images, labels = images_and_labels
    with two_replicas.scope():
        model = SelfDistiller(linear_network(), [CSKD()])
        model.compile(SGD(0.1), gradient_accumulation_steps=4)
    message = (
        r"at most 3: so many images are on a replica in the last batch of an epoch, of 6 images.*steps=4, batch_size=8"
    )
    with pytest.raises(ValueError, match=message):
        paired_dataset(images, labels, batch_size=8, seed=0, **model.data_options)
    other = SelfDistiller(linear_network(), [CSKD(in_batch=True)])
    other.compile(SGD(0.1), gradient_accumulation_steps=5)
    with pytest.raises(ValueError, match="at most 4: so many pairs"):
        paired_dataset(images, labels, batch_size=8, seed=0, **other.data_options)
    # Arrays are looked at before the first step, other data of the user's own as they come.
    alone = SelfDistiller(linear_network())
    alone.compile(SGD(0.1), gradient_accumulation_steps=7)
    words = "batches of at least 7 images on each replica: 7 parts"
    with pytest.raises(UserError, match=words + r".*a batch of 6 of 22 images, batch_size=8"):
        alone.fit(images, labels, batch_size=8, verbose=0)
    alone.fit(images, labels, batch_size=8, steps_per_epoch=2, verbose=0)  # and without the last batch
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        alone.fit(tf.data.Dataset.from_tensor_slices((images, labels)).batch(8), verbose=0)


@pytest.mark.thorough
def test_parts_compile_with_static_shapes(linear_network, images_and_labels):
    images, labels = images_and_labels
    batch = ({"image": tf.constant(images), "partner": tf.constant(images[::-1])}, tf.constant(labels))
    weights = []
    for parts, jit in ((1, False), (4, True)):
        keras.utils.set_random_seed(1)
        model = SelfDistiller(linear_network(), [CSKD()])
        model.compile(SGD(0.1), gradient_accumulation_steps=parts)
        model.optimizer.build(model.trainable_variables)
        tf.function(model.train_step, jit_compile=jit, autograph=False)(batch)
        weights.append(model.network.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-6)


def test_files_keep_the_number_of_parts(linear_network, images_and_labels, tmp_path):
    model = SelfDistiller(linear_network())
    model.compile(SGD(0.1), gradient_accumulation_steps=2)
    model.fit(*images_and_labels, verbose=0)
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").gradient_accumulation_steps == 2


def test_heads_say_whether_they_need_the_whole_batch():
    assert AdaCos().whole_batch
    assert not CSKD(in_batch=True).whole_batch


def test_a_part_waits_for_the_gradients_of_the_one_before():
    """Else TensorFlow may compute parts at once, and hold the activations of all."""
    waited_for, made = [], []

    def differentiate(batch):
        waited_for.append({operation.name for operation in batch["x"].op.control_inputs})
        gradient = 2 * tf.reduce_sum(batch["x"])
        made.append(gradient.op.name)
        return [gradient, None], batch["x"] + 1

    @tf.function(autograph=False)
    def step(values):
        gradients, rows = accumulated(differentiate, {"x": values}, parts=3)
        assert gradients[1] is None
        return gradients[0], rows, made.append(gradients[0].op.name)

    gradient, rows, _ = step(tf.range(5.0))
    assert (float(gradient), rows.numpy().tolist()) == (20.0, [1.0, 2.0, 3.0, 4.0, 5.0])
    assert waited_for[:2] == [set(), {made[0]}]
    assert len(waited_for[2]) == 1  # the sum of the first two
    assert waited_for[2] != {made[1]}
