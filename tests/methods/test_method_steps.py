"""One training step of every method against its loss in numpy: value and gradient, on one replica, on two, under XLA.

The gradient of the numpy loss is taken by central differences in float64, so nothing of it is shared with the methods.
Mixup, CutMix and Cutout, which work in the pipeline, are in test_mixing.py.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.optimizers import SGD
from tests.helpers import check_static, softmax
from tests.methods.method_cases import CASES, keep, positions
from tests.methods.numpy_losses import CLASSES, IMAGES, forward
from tests.selection import quick


@pytest.fixture
def batch():
    generator = np.random.default_rng(3)
    views = ("image", "partner", "second_view", "clean", "previous")
    drawn = {view: generator.normal(size=(IMAGES, 2, 2, 1)).astype("float32") for view in views}
    mixed = 0.7 * np.eye(CLASSES)[LABELS] + 0.3 * np.eye(CLASSES)[LABELS[::-1]]
    extras = {"index": np.array([4, 0, 6, 2, 1, 5, 3]), **positions(IMAGES)}
    return {**drawn, **extras, "targets": mixed.astype("float32")}


LABELS = np.array([0, 0, 1, 1, 3, 3, 2])


def step_inputs(batch, *, images, mixed):
    kept = [key for key in batch if key != "targets" or mixed]
    return {key: batch[key][:images] for key in kept}, LABELS[:images]


def numpy_gradient(loss, weights, batch, labels):
    weights = [weight.astype("float64") for weight in weights]
    batch = {key: values.astype("float64") for key, values in batch.items()}
    targets = np.eye(CLASSES)[labels]

    def total():
        return loss(weights, start, batch, targets, labels).mean()

    start = [weight.copy() for weight in weights]
    value, gradients = total(), []
    for weight in weights:
        gradient = np.zeros_like(weight)
        for place in np.ndindex(weight.shape):
            kept = weight[place]
            sides = []
            for step in (1e-5, -1e-5):
                weight[place] = kept + step
                sides.append(total())
            weight[place] = kept
            gradient[place] = (sides[0] - sides[1]) / 2e-5
        gradients.append(gradient)
    return value, gradients


def make_model(case, rate=1.0, **options):
    keras.utils.set_random_seed(1)
    model = SelfDistiller(case.network(), case.methods(), num_examples=IMAGES, **options)
    model.compile(SGD(rate, momentum=0.0, weight_decay=0.0))
    model.optimizer.build(model.trainable_variables)
    for method in model.composition.terms:
        method.on_epoch_begin(1, epochs=2)
    keep(model, case)
    return model


def trained_weights(model):
    """Of the network, then of the methods."""
    owned = [weight for method in model.composition.attachable for weight in method.trainable_weights]
    return [*model.network.get_weights(), *(weight.numpy() for weight in owned)]


def check(case, model, logs, before, batch, labels, **more):
    value, gradients = numpy_gradient(case.loss, before, {**batch, **more}, labels)
    assert float(logs["loss"]) == pytest.approx(value, abs=1e-5)
    for old, new, gradient in zip(before, trained_weights(model), gradients, strict=True):
        np.testing.assert_allclose(old - new, gradient, rtol=2e-5, atol=1e-5)
    if "table" in case.kept:
        expected = softmax(forward(before, batch["image"])[1])
        np.testing.assert_allclose(model.methods[0].table.numpy()[batch["index"]], expected, atol=1e-3)


FURTHER_FORMS = {"BYOT paper, not squared", "BYOT public, squared", "BYOT beside Distillation"}


@pytest.mark.parametrize(
    "case",
    quick([pytest.param(case, id=name) for name, case in CASES.items()], *(CASES.keys() - FURTHER_FORMS)),
)
def test_a_step_follows_the_gradient_of_the_loss_in_numpy(case, batch):
    batch, labels = step_inputs(batch, images=case.images, mixed=case.mixed)
    model = make_model(case)
    before = trained_weights(model)
    logs = model.train_step((tf.nest.map_structure(tf.constant, batch), tf.constant(labels)))
    check(case, model, logs, before, batch, labels)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["BYOT paper", "BYOT paper, not squared"])
def test_batch_norm_of_exits_takes_each_part_for_a_batch(name, batch):
    batch, labels = step_inputs(batch, images=IMAGES, mixed=False)
    model = make_model(CASES[name])
    model.gradient_accumulation_steps = 2
    before = trained_weights(model)
    logs = model.train_step((tf.nest.map_structure(tf.constant, batch), tf.constant(labels)))
    check(CASES[name], model, logs, before, batch, labels, parts=np.array([IMAGES // 2]))


NAMED = [pytest.param(case, id=name) for name, case in CASES.items()]
# Of each method the first case; its variants, and several methods together, with the papers'.
_FIRST = {name.split()[0]: name for name in reversed(CASES)}
ALONE_FIRST = [
    pytest.param(case, marks=[pytest.mark.papers] if case.together or name not in _FIRST.values() else [], id=name)
    for name, case in CASES.items()
]


@pytest.mark.parametrize("case", quick(ALONE_FIRST, "CSKD", "PSKD stored"))
def test_two_replicas_of_uneven_parts_take_the_same_step(case, batch, two_replicas):
    batch, labels = step_inputs(batch, images=case.images_on_two_replicas, mixed=case.mixed)
    with two_replicas.scope():
        model = make_model(case)
    before = trained_weights(model)
    data = two_replicas.experimental_distribute_dataset(tf.data.Dataset.from_tensors((batch, labels)))

    @tf.function
    def step(parts):
        two_replicas.run(model.train_step, args=(parts,))

    for parts in data:
        step(parts)
    logs = {"loss": model._trackers["loss"].result()}
    check(case, model, logs, before, batch, labels)


@pytest.mark.parametrize("case", quick(ALONE_FIRST, "CSKD", "PSKD stored"))
def test_a_step_compiles_with_static_shapes(case, batch):
    batch, labels = step_inputs(batch, images=case.images, mixed=case.mixed)
    model = make_model(case)
    before = trained_weights(model)
    step = tf.function(model.train_step, jit_compile=True)
    inputs = tf.nest.map_structure(tf.constant, batch), tf.constant(labels)
    check_static(step, inputs)
    logs = step(inputs)
    check(case, model, logs, before, batch, labels)


@pytest.mark.thorough
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_three_steps_lower_the_loss(case, batch):
    batch, labels = step_inputs(batch, images=case.images, mixed=case.mixed)
    model = make_model(case, rate=0.02)
    inputs = tf.nest.map_structure(tf.constant, batch), tf.constant(labels)
    values = []
    for _ in range(4):
        model.reset_metrics()
        keep(model, case)  # its own new predictions would be other targets
        values.append(float(model.train_step(inputs)["loss"]))
    assert values[3] < values[0] - 1e-3


@pytest.mark.parametrize("case", quick(NAMED, "CSKD", "PSKD stored", "KD + CS-KD"))
def test_losses_are_computed_in_float32_under_mixed_precision(case, batch):
    """Around a network of float32, a model of mixed precision has to take the same step to the last digit but one."""
    batch, labels = step_inputs(batch, images=case.images, mixed=case.mixed)
    model = make_model(case, dtype="mixed_bfloat16")
    assert model.compute_dtype == "bfloat16"
    before = trained_weights(model)
    logs = model.train_step((tf.nest.map_structure(tf.constant, batch), tf.constant(labels)))
    check(case, model, logs, before, batch, labels)
