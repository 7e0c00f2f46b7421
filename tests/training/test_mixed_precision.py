"""Under mixed precision all that is added up or kept is in float32, and float16 scales its loss."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import cskd_tf
from cskd_tf.methods import CSKD, PSKD
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.optimizers import SGD, LossScaleOptimizer
from tests.methods.method_cases import CASES, positions
from tests.methods.numpy_losses import CLASSES, IMAGES
from tests.selection import few, quick

POLICIES = ["mixed_bfloat16", "mixed_float16"]
MARKED = [pytest.param(name, marks=[pytest.mark.papers] if CASES[name].together else []) for name in CASES]


def types_of(nested):
    return {tf.as_dtype(each.dtype).name for each in tf.nest.flatten(nested)}


def variable_types(variables):
    """The types of variables that hold no counts and no states of generators."""
    return {variable.dtype for variable in variables if not keras.backend.is_int_dtype(variable.dtype)}


@pytest.mark.parametrize("policy", few(POLICIES, 1))
@pytest.mark.parametrize("name", quick(MARKED, "CSKD", "PSKD stored", "BYOT paper", "AdaCos", "VirtualSoftmax", "DLB"))
def test_losses_targets_and_state_of_every_method_are_float32(name, policy, monkeypatch):
    case = CASES[name]
    keras.config.set_dtype_policy(policy)
    model = SelfDistiller(case.network(), case.methods(), num_examples=IMAGES)
    model.compile(SGD(0.1))
    model.optimizer.build(model.trainable_variables)
    seen = {"terms": set(), "logits": set(), "targets": set(), "hidden": set()}

    def terms_of(method, batch, outputs, targets):
        terms = method.terms(batch, outputs, targets)
        seen["terms"] |= types_of(terms)
        seen["targets"] |= types_of(targets)
        seen["logits"] |= types_of([output["logits"] for output in outputs.values()])
        seen["hidden"] |= types_of([output["embedding"] for output in outputs.values()])
        return terms

    monkeypatch.setattr(model.composition, "terms_of", terms_of)
    cross_entropies = model._objective._cross_entropies
    monkeypatch.setattr(
        model._objective,
        "_cross_entropies",
        lambda *args: [terms := cross_entropies(*args), seen["terms"].update(types_of(terms))][0],
    )
    images = case.images
    generator = np.random.default_rng(0)
    views = ("image", "partner", "second_view", "clean", "previous")
    batch = {view: tf.constant(generator.normal(size=(images, 2, 2, 1)), tf.float32) for view in views}
    batch |= {"index": tf.range(images), **positions(images)}
    if case.mixed:
        batch["targets"] = tf.constant(generator.dirichlet(np.ones(CLASSES), images), tf.float32)
    logs = model.train_step((batch, tf.constant([0, 0, 1, 1, 3, 3, 2][:images])))
    assert np.isfinite(float(logs["loss"]))
    assert seen["terms"] == {"float32"}
    if model.composition.terms:
        assert seen["targets"] == seen["logits"] == {"float32"}
        assert seen["hidden"] == {policy.removeprefix("mixed_")}  # else nothing was shown
    tables = {id(method.table) for method in model.methods if hasattr(method, "table")}  # of 2 bytes by design
    assert variable_types(each for each in model.variables if id(each) not in tables) == {"float32"}
    assert variable_types(model.optimizer.variables) == {"float32"}
    held = [variable for method in model.composition.attachable for variable in method.untracked_variables]
    assert variable_types(held) <= {"float32"}
    assert variable_types(tracker.total for tracker in model._trackers.values()) == {"float32"}


@pytest.mark.parametrize("policy", few(POLICIES, 1))
def test_running_statistics_of_batch_norm_are_float32(policy):
    keras.config.set_dtype_policy(policy)
    network = cskd_tf.networks.build("preact_resnet10", num_classes=3, input_shape=(8, 8, 1), width=16)
    layers = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert variable_types(variable for layer in layers for variable in layer.variables) == {"float32"}
    model = SelfDistiller(network)
    model.compile(SGD(0.1))
    model.train_step((np.random.default_rng(0).normal(size=(8, 8, 8, 1)).astype("float32"), np.arange(8) % 3))
    assert {str(layer.moving_mean.numpy().dtype) for layer in layers} == {"float32"}
    assert any((np.abs(layer.moving_mean.numpy()) > 0).any() for layer in layers)


def float16_model(network, *, scale, methods=(), **options):
    model = SelfDistiller(network, methods, num_examples=22)
    model.compile(LossScaleOptimizer(SGD(0.1, momentum=0.9), initial_scale=scale), **options)
    model.optimizer.build(model.trainable_variables)
    return model


def test_a_step_whose_gradients_overflow_is_skipped_and_counted(batch_norm_network, images_and_labels):
    images, labels = images_and_labels
    keras.config.set_dtype_policy("mixed_float16")
    network = batch_norm_network()
    model = float16_model(network, scale=2.0**40, methods=[PSKD()])
    model.methods[0].on_epoch_begin(1, epochs=2)
    trained, momentum = (
        [variable.numpy() for variable in variables]
        for variables in (model.trainable_variables, model.optimizer.inner_optimizer.momentums)
    )
    logs = model.train_step(({"image": images, "index": np.arange(22)}, labels))
    # What the update would have moved stays; the scale is halved.
    for before, variables in (
        (trained, model.trainable_variables),
        (momentum, model.optimizer.inner_optimizer.momentums),
    ):
        for value, variable in zip(before, variables, strict=True):
            np.testing.assert_array_equal(variable.numpy(), value)
    assert float(model.optimizer.dynamic_scale) == 2.0**39
    # What the forward pass saw stands: a loss and predictions that are right, and running statistics.
    assert np.isfinite(float(logs["loss"]))
    np.testing.assert_allclose(model.methods[0].table.numpy().astype("float32").sum(axis=1), 1, atol=2e-3)
    (moving,) = [layer.moving_mean.numpy() for layer in network.layers if hasattr(layer, "moving_mean")]
    assert np.abs(moving).max() > 0
    # The step counts: of the data, and of the schedule; not to the optimizer.
    counts = lambda: [int(count) for count in (model.step.numpy(), model.optimizer.iterations, model.optimizer.skipped)]  # noqa: E731
    assert counts() == [1, 0, 1]
    model.optimizer.dynamic_scale.assign(2.0**10)
    model.train_step(({"image": images, "index": np.arange(22)}, labels))
    assert float(model.optimizer.dynamic_scale) == 2.0**10
    assert counts() == [2, 1, 1]
    assert any((now.numpy() != before).any() for now, before in zip(model.trainable_variables, trained, strict=True))


@pytest.mark.parametrize("parts", quick([1, 2], 2))
def test_no_replica_takes_a_step_that_one_cannot_take(parts, linear_network, images_and_labels, two_replicas):
    images, labels = images_and_labels
    images = images.copy()
    images[-3:] *= 1e4  # on the second replica alone: gradients beyond 65,504, logits within
    keras.config.set_dtype_policy("mixed_float16")
    with two_replicas.scope():
        model = float16_model(linear_network(), scale=2.0**12, gradient_accumulation_steps=parts)
    model.network.set_weights([weight * 1e-3 for weight in model.network.get_weights()])
    before = model.network.get_weights()
    data = tf.data.Dataset.from_tensors((images, labels))
    history = model.fit(data, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    for old, new in zip(before, model.network.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)
    scales = two_replicas.experimental_local_results(model.optimizer.dynamic_scale.value)
    assert [float(scale.numpy()) for scale in scales] == [2.0**11] * 2
    counts = (model.step, model.optimizer.skipped, model.optimizer.iterations)
    assert [int(count.numpy()) for count in counts] == [1, 1, 0]


@pytest.mark.parametrize("skipped", [0, 3])
@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.optimizers.Adam(0.1),
        lambda: SGD(0.1, momentum=0.0, weight_decay=0.0, use_ema=True, ema_momentum=0.9),
    ],
)
def test_what_is_skipped_changes_neither_bias_correction_nor_averages(make, skipped):
    weights = []
    for wrapper in (lambda optimizer: optimizer, lambda optimizer: LossScaleOptimizer(optimizer, initial_scale=8.0)):
        weight, optimizer = keras.Variable([1.0]), wrapper(make())
        optimizer.build([weight])
        is_scaled = isinstance(optimizer, LossScaleOptimizer)
        for _ in range(skipped if is_scaled else 0):
            optimizer.apply([tf.constant([np.inf])], [weight])
        scale = float(optimizer.dynamic_scale) if is_scaled else 1.0
        for gradient in (1.0, 2.0, -1.0):
            optimizer.apply([tf.constant([gradient * scale])], [weight])
        weights.append(weight.numpy())
        optimizer.finalize_variable_values([weight])
        weights.append(weight.numpy())
    np.testing.assert_allclose(weights[:2], weights[2:], rtol=1e-6)


def test_a_schedule_counts_what_is_skipped_also_when_it_comes_back_from_a_file():
    optimizer = LossScaleOptimizer(SGD(keras.optimizers.schedules.PiecewiseConstantDecay([1, 2], [0.4, 0.2, 0.1])))
    again, other = (keras.optimizers.deserialize(keras.optimizers.serialize(optimizer)) for _ in range(2))
    for each in (optimizer, again, LossScaleOptimizer(other.inner_optimizer)):
        weight = keras.Variable([1.0])
        each.apply([tf.constant([np.inf])], [weight])
        each.apply([tf.constant([np.inf])], [weight])
        rates = [float(each.learning_rate)]
        each.apply([tf.constant([0.0])], [weight])
        rates.append(float(each.learning_rate))
        np.testing.assert_allclose(rates, [0.2, 0.1], rtol=1e-6)
    another = LossScaleOptimizer(optimizer.inner_optimizer)  # as `compile` makes one of an optimizer that was used
    another.build([keras.Variable([1.0])])
    assert int(another.skipped.numpy()) == 2
    another.learning_rate = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.5, 0.25])
    assert float(another.learning_rate) == 0.25  # of the step after one that was taken and two that were not


def test_keras_own_loss_scaling_is_refused_on_replicas_and_kept_elsewhere(linear_network, two_replicas):
    keras.config.set_dtype_policy("mixed_float16")
    theirs = keras.optimizers.LossScaleOptimizer(SGD(0.1))
    with two_replicas.scope():
        model = SelfDistiller(linear_network())
        with pytest.raises(ValueError, match=r"Expected cskd_tf.optimizers.LossScaleOptimizer on several replicas"):
            model.compile(theirs)
    alone = SelfDistiller(linear_network())
    alone.compile(theirs)
    assert alone.optimizer is theirs
    alone.compile(SGD(0.1))
    assert type(alone.optimizer) is LossScaleOptimizer
    alone.compile(SGD(0.1), auto_scale_loss=False)
    assert type(alone.optimizer) is SGD


def test_a_float16_model_is_saved_with_its_scale(linear_network, images_and_labels, tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    model = SelfDistiller(linear_network(), [CSKD(in_batch=False)])
    model.compile(SGD(0.1))
    batch = ({"image": images_and_labels[0], "partner": images_and_labels[0]}, images_and_labels[1])
    model.train_step(batch)
    model.optimizer.dynamic_scale.assign(512.0)
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    assert type(copy.optimizer) is LossScaleOptimizer
    assert float(copy.optimizer.dynamic_scale) == 512.0
    for each in (model, copy):
        each.train_step(batch)
    for one, other in zip(model.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_array_equal(other, one)
