import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.optimizers import SGD, step_schedule


@pytest.mark.parametrize("nesterov", [False, True])
def test_ten_steps_with_a_rate_drop_against_numpy(nesterov):
    generator = np.random.default_rng(0)
    weights, gradients = generator.normal(size=(2, 3)), generator.normal(size=(10, 2, 3))
    variable = keras.Variable(weights, dtype="float64")
    schedule = step_schedule(0.1, milestones=(0.5,), factor=0.1, epochs=2, steps_per_epoch=5)
    optimizer = SGD(schedule, momentum=0.9, weight_decay=1e-2, nesterov=nesterov)
    buffer = np.zeros_like(weights)
    for step, gradient in enumerate(gradients):
        rate = 0.1 if step < 5 else 0.01
        decayed = gradient + 1e-2 * weights
        buffer = 0.9 * buffer + decayed
        weights = weights - rate * (decayed + 0.9 * buffer if nesterov else buffer)
        optimizer.apply([tf.constant(gradient)], [variable])
        np.testing.assert_allclose(variable.numpy(), weights, rtol=0, atol=1e-7)
    assert np.abs(weights).max() > 0.1


def test_worked_example():
    variable = keras.Variable([1.0])
    SGD(0.1, momentum=0.9, weight_decay=0.1).apply([tf.constant([0.5])], [variable])
    np.testing.assert_allclose(variable.numpy(), [0.94], atol=1e-7)


def test_decay_reaches_biases_and_batch_norm():
    layer = keras.layers.BatchNormalization()
    layer.build((None, 2))
    optimizer = SGD(0.1, momentum=0.0, weight_decay=0.1)
    optimizer.apply([tf.zeros(2), tf.zeros(2)], layer.trainable_variables)
    np.testing.assert_allclose(layer.gamma.numpy(), [0.99, 0.99], atol=1e-7)


def test_config_brings_the_optimizer_back():
    optimizer = SGD(0.2, momentum=0.8, weight_decay=3e-4, nesterov=True)
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert isinstance(copy, SGD)
    assert (copy.momentum, copy.coupled_weight_decay, copy.nesterov) == (0.8, 3e-4, True)
    np.testing.assert_allclose(float(copy.learning_rate), 0.2, rtol=1e-6)


def test_schedule_drops_before_the_first_step_after_a_milestone():
    schedule = step_schedule(0.1, milestones=(0.5, 0.75), factor=0.1, epochs=200, steps_per_epoch=7)
    rates = [float(schedule(step)) for step in (0, 699, 700, 1049, 1050, 1399)]
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-6)


def test_a_single_epoch_has_the_full_rate():
    schedule = step_schedule(0.1, milestones=(0.25, 0.5), factor=0.1, epochs=1, steps_per_epoch=5)
    np.testing.assert_allclose([float(schedule(step)) for step in range(5)], 0.1, rtol=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [{"milestones": (0.75, 0.5)}, {"milestones": (0.5, 1.0)}, {"milestones": (100,)}, {"factor": 0.0}],
)
def test_schedule_refuses(arguments):
    with pytest.raises(ValueError, match="Received: "):
        step_schedule(0.1, **{"milestones": (0.5,), "factor": 0.1, "epochs": 10, "steps_per_epoch": 5, **arguments})


@pytest.mark.parametrize("arguments", [{"learning_rate": 0.0}, {"momentum": 1.1}, {"weight_decay": -1e-4}])
def test_sgd_refuses(arguments):
    with pytest.raises(ValueError, match="Received: "):
        SGD(**arguments)
