"""Keras' optimizers as this package has them: what they compute, beside Keras' own, on one replica and on two."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.optimizers import SGD, LossScaleOptimizer, check, make
from cskd_tf.training.tuned import OPTIMIZERS, UNSOUND
from tests.selection import few

NAMES = ["SGD", *OPTIMIZERS]
OWN = {"weight_decay": 0.1, "arguments": {}, "momentum": 0.0}


def test_all_of_keras_optimizers_are_there():
    wrappers = {"Optimizer", "LossScaleOptimizer", "MultiOptimizer"}
    public = {name for name, kind in vars(keras.optimizers).items() if isinstance(kind, type)}
    there = {name for name in public if hasattr(getattr(keras.optimizers, name), "apply")} - wrappers
    assert set(NAMES) == there - set(UNSOUND)
    assert {"AdamW", "Lion", "Muon"} < set(NAMES)


@pytest.mark.parametrize("name", few(NAMES, 5))
def test_an_optimizer_moves_weights_as_keras_own_does_and_comes_back_from_its_config(name):
    generator = np.random.default_rng(0)
    start, gradients = generator.normal(size=(3, 2)).astype("float32"), generator.normal(size=(3, 3, 2))
    own = make(name, 0.1, **OWN)
    kind = SGD if name == "SGD" else getattr(keras.optimizers, name)
    decays = {"weight_decay": 0.1} | ({"adam_weight_decay": 0.1} if name == "Muon" else {})
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(own))
    results = []
    for optimizer in (own, kind(0.1, **decays, **({"momentum": 0.0} if name == "SGD" else {})), copy):
        weights = keras.Variable(start), keras.Variable(start[0])
        for gradient in gradients:
            optimizer.apply([tf.constant(gradient, tf.float32), tf.constant(gradient[0], tf.float32)], weights)
        results.append([weight.numpy() for weight in weights])
    assert type(copy) is type(own)
    for one, two, three in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)
    assert np.abs(results[0][0] - start).min() > 0


@pytest.mark.parametrize("name", few(NAMES, 5))
def test_a_rate_of_half_is_half_the_learning_rate_and_decay_spares_vectors(name):
    gradient = tf.constant([[0.3, -0.2], [0.1, 0.4]])
    moved = []
    for learning_rate, rates in ((0.1, (1.0, 0.5, 1.0)), (0.05, None)):
        weights = [keras.Variable([[1.0, 2.0], [3.0, 4.0]]) for _ in range(2)] + [keras.Variable([2.0, 2.0])]
        optimizer = make(name, learning_rate, **OWN, rates=rates, decay_vectors=False)
        for _ in range(2):
            optimizer.apply([gradient, gradient, gradient[0]], weights)
        moved.append([weight.numpy() for weight in weights])
    np.testing.assert_allclose(moved[0][1], moved[1][1], rtol=1e-6)
    assert np.abs(moved[0][0] - moved[1][0]).max() > 1e-6
    bare = keras.Variable([2.0, 2.0])
    optimizer = make(name, 0.1, **{**OWN, "weight_decay": 0.0})
    for _ in range(2):
        optimizer.apply([gradient[0]], [bare])
    np.testing.assert_array_equal(moved[0][2], bare.numpy())


def test_decoupled_decay_by_hand():
    """AdamW's first step is the learning rate in the gradient's direction, after the decay: 2 - .1 * .5 * 2 - .1."""
    weight, spared = keras.Variable([[2.0]]), keras.Variable([2.0])
    optimizer = make("AdamW", 0.1, weight_decay=0.5, arguments={"epsilon": 1e-12}, decay_vectors=False)
    optimizer.apply([tf.constant([[3.0]]), tf.constant([3.0])], [weight, spared])
    np.testing.assert_allclose([weight.numpy()[0, 0], spared.numpy()[0]], [1.8, 1.9], rtol=1e-6)


def test_schedule_free_adamw_is_another_than_published_and_refused(linear_network):
    """Two steps of it from 1, by hand, with gradients of 1, which Adam makes .1 each.

    z is the sequence that moves, x its average and y = .1 z + .9 x what is trained: z = x = y = .9, and then z = .8,
    x = (.9 + .8) / 2 and y = .845.
    """
    weight = keras.Variable([1.0])
    optimizer = keras.optimizers.ScheduleFreeAdamW(0.1, epsilon=1e-12)
    for expected in (0.9, 0.85):  # where Keras is mended, the second is .845, and then it need not be refused
        optimizer.apply([tf.constant([1.0])], [weight])
        assert float(weight.numpy()[0]) == pytest.approx(expected, abs=1e-4)
    for given in (optimizer, "schedulefreeadamw", LossScaleOptimizer(optimizer)):
        with pytest.raises(ValueError, match="no way to the average .* evaluated.*Received: ScheduleFreeAdamW"):
            SelfDistiller(linear_network()).compile(given)
    with pytest.raises(ValueError, match="no way to the average .*Received: name='ScheduleFreeAdamW'"):
        check("ScheduleFreeAdamW", arguments={})


@pytest.mark.slow  # test_freezing.py does so with AdamW
@pytest.mark.parametrize("name", ["SGD", "AdamW", "Lion", "Muon"])
def test_two_replicas_move_as_one(name, linear_network, images_and_labels, two_replicas):
    results = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        keras.utils.set_random_seed(1)
        with strategy.scope():
            model = SelfDistiller(linear_network())
            rates = [0.5, 1.0]
            options = {"clip_norm": 0.5, "rates": rates, "decay_vectors": False, "restarts": True}
            model.compile(make(name, 0.01, **OWN, **options))
        model.fit(tf.data.Dataset.from_tensors(images_and_labels).repeat(3), epochs=1, verbose=0)
        model.optimizer.restart()
        assert int(model.optimizer.iterations) == 0
        model.fit(tf.data.Dataset.from_tensors(images_and_labels).repeat(2), epochs=1, verbose=0)
        results.append(model.network.get_weights())
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)


def test_a_restart_is_a_new_optimizer_whose_schedule_goes_on():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.1, 0.01])
    weight, other = keras.Variable([1.0, -2.0]), keras.Variable([1.0, -2.0])
    gradients = [tf.constant([0.5, 0.1]), tf.constant([-0.3, 0.2]), tf.constant([0.2, 0.2]), tf.constant([0.1, -0.4])]
    optimizer = make("AdamW", schedule, **OWN, restarts=True)
    for gradient in gradients[:2]:
        optimizer.apply([gradient], [weight])
    optimizer.restart()
    other.assign(weight)
    for rate, gradient in zip((0.1, 0.01), gradients[2:], strict=True):
        optimizer.apply([gradient], [weight])
        if rate == 0.1:
            fresh = make("AdamW", rate, **OWN)
        else:
            fresh.learning_rate = rate
        fresh.apply([gradient], [other])
    np.testing.assert_allclose(weight.numpy(), other.numpy(), rtol=1e-6)
    with pytest.raises(ValueError, match="made with restarts=True. Received: Lion without"):
        make("Lion", 0.1, **OWN).restart()
    with pytest.raises(ValueError, match=r"ema_momentum=\.\.\.\) beside restarts=True. Received: use_ema=True"):
        make("Lion", 0.1, **OWN, restarts=True, use_ema=True)


def test_a_restart_counts_whole_batches_where_gradients_are_accumulated():
    weight, other = keras.Variable([1.0]), keras.Variable([1.0])
    options = {"restarts": True, "gradient_accumulation_steps": 2}
    optimizer = OPTIMIZERS["AdamW"](0.1, **options)
    gradients = [tf.constant([gradient]) for gradient in (0.5, 0.1, -0.3, 0.2, 0.4, 0.3)]
    for gradient in gradients[:4]:
        optimizer.apply([gradient], [weight])
    assert optimizer.awaits_restart
    optimizer.restart()
    assert (int(optimizer.iterations), optimizer.awaits_restart) == (0, False)
    other.assign(weight)
    fresh = OPTIMIZERS["AdamW"](0.1, **options)
    for gradient in gradients[4:]:
        optimizer.apply([gradient], [weight])
        fresh.apply([gradient], [other])
    assert int(optimizer.iterations) == 1
    np.testing.assert_allclose(weight.numpy(), other.numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("Adamw", {}, r"Unknown optimizer; expected one of \['SGD', 'Adadelta', .*'AdamW'.*Received: name='Adamw'"),
        ("AdamW", {"beta": 1}, r"Unknown arguments of AdamW; expected some of {'beta_1': 0.9, .*Received: \['beta'\]"),
        ("AdamW", {"beta_1": "a"}, "beta_1 of AdamW to be a number, as 0.9. Received: beta_1='a'"),
        ("AdamW", {"amsgrad": 1}, "amsgrad of AdamW to be True or False. Received: amsgrad=1"),
        ("SGD", {"momentum": 0.5}, r"no arguments of SGD.*Received: arguments={'momentum': 0.5}"),
    ],
)
def test_optimizers_that_there_are_not_are_refused(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        check(name, arguments=arguments)


def test_arguments_that_keras_refuses_are_refused_in_one_line():
    with pytest.raises(ValueError, match=r"Expected arguments that Lion takes. Received: {'beta_1': 2.0} \(Argument"):
        make("Lion", 0.1, weight_decay=0.0, arguments={"beta_1": 2.0})
    with pytest.raises(ValueError, match="a rate for each of 1 variables. Received: 2 rates"):
        make("Lion", 0.1, **OWN, rates=[1.0, 1.0]).build([keras.Variable([1.0])])


@pytest.mark.thorough
def test_a_step_that_overflows_moves_nothing_and_parts_of_a_batch_are_one_batch(linear_network, images_and_labels):
    weight = keras.Variable([1.0])
    optimizer = LossScaleOptimizer(make("AdamW", 0.1, **{**OWN, "weight_decay": 0.0}, restarts=True), initial_scale=8.0)
    optimizer.apply([tf.constant([np.inf])], [weight])
    assert (float(weight.numpy()[0]), float(optimizer.dynamic_scale), int(optimizer.iterations)) == (1.0, 4.0, 0)
    optimizer.inner_optimizer.restart()
    optimizer.apply([tf.constant([4.0 * 0.5])], [weight])
    np.testing.assert_allclose(weight.numpy(), [0.9], rtol=1e-5)  # the first step of Adam is the rate
    results = []
    for parts in (1, 3):
        keras.utils.set_random_seed(1)
        model = SelfDistiller(linear_network())
        model.compile(make("AdamW", 0.01, **OWN, clip_norm=0.5), gradient_accumulation_steps=parts, ema_momentum=0.5)
        model.fit(*images_and_labels, batch_size=22, epochs=2, shuffle=False, verbose=0)
        results.append(model.network.get_weights())
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_clipping_comes_back_from_the_config(name):
    own = make(name, 0.1, **OWN, clip_norm=0.5)
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(own))
    assert copy.get_config()["clip_norm"] == own.get_config()["clip_norm"] == 0.5
