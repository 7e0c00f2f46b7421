import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.optimizers import SGD, LossScaleOptimizer
from cskd_tf.training.schedules import step_schedule


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


def test_the_usual_weight_decay_is_that_of_the_paper():
    variable = keras.Variable([1.0])
    SGD(1.0, momentum=0.0).apply([tf.constant([0.0])], [variable])
    assert float(variable[0]) == pytest.approx(1 - 1e-4, abs=1e-7)


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


@pytest.mark.parametrize("arguments", [{"learning_rate": 0.0}, {"momentum": 1.1}, {"weight_decay": -1e-4}])
def test_sgd_refuses(arguments):
    with pytest.raises(ValueError, match="Received: "):
        SGD(**arguments)


def test_gradients_are_clipped_together_and_over_all_replicas(linear_network, images_and_labels, two_replicas):
    images, labels = images_and_labels
    steps = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        keras.utils.set_random_seed(1)
        with strategy.scope():
            model = SelfDistiller(linear_network())
            model.compile(SGD(1.0, momentum=0.0, weight_decay=0.0, clip_norm=0.05))
        before = model.network.get_weights()
        model.fit(tf.data.Dataset.from_tensors((images, labels)), verbose=0)
        steps.append([old - new for old, new in zip(before, model.network.get_weights(), strict=True)])
        assert np.sqrt(sum((part**2).sum() for part in steps[-1])) == pytest.approx(0.05, rel=1e-4)
    for one, two in zip(*steps, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-6)
    # Short gradients pass unchanged, and the direction is the one of all of them.
    optimizer = SGD(1.0, momentum=0.0, weight_decay=0.0, clip_norm=5.0)
    first, second = keras.Variable([0.0]), keras.Variable([0.0])
    optimizer.apply([tf.constant([3.0]), tf.constant([4.0])], [first, second])
    optimizer.apply([tf.constant([6.0]), tf.constant([8.0])], [first, second])
    np.testing.assert_allclose([first.numpy()[0], second.numpy()[0]], [-6.0, -8.0], rtol=1e-6)
    with pytest.raises(ValueError, match="clip_norm to be at least 0. Received: clip_norm=-1"):
        SGD(clip_norm=-1)


def variables():
    return [keras.Variable([0.0]), keras.Variable([[0.0], [0.0]]), keras.Variable([5.0])]


# The gradients (3) and (4) of two weights are 5 long; the third weight is used nowhere.
GRADIENTS = [tf.constant([3.0]), tf.IndexedSlices(tf.constant([[4.0]]), tf.constant([1]), tf.constant([2, 1])), None]
CLIPPED = [[-0.6], [0.0, -0.8], [5.0]]


def scaled(gradient, scale):
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(gradient.values * scale, gradient.indices, gradient.dense_shape)
    return None if gradient is None else gradient * scale


def apply(optimizer, *, scale=1.0):
    """What the weights are after one step, of gradients that are scaled as the optimizer scaled the loss."""
    weights = variables()
    optimizer.build(weights)
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply([scaled(each, scale) for each in GRADIENTS], weights)
    return [weight.numpy().reshape(-1).tolist() for weight in weights]


PLAIN = {"momentum": 0.0, "weight_decay": 0.0, "clip_norm": 1.0}


@pytest.mark.parametrize(
    ("make", "changes"),
    [
        (lambda: SGD(1.0, **PLAIN), {}),
        (lambda: SGD(1.0, **PLAIN, loss_scale_factor=128.0), {"scale": 128.0}),
        (lambda: keras.optimizers.LossScaleOptimizer(SGD(1.0, **PLAIN), initial_scale=64.0), {"scale": 64.0}),
    ],
)
def test_clipping_takes_the_loss_scale_out_first_and_any_gradient(make, changes):
    for measured, expected in zip(apply(make(), **changes), CLIPPED, strict=True):
        np.testing.assert_allclose(measured, expected, rtol=1e-6)


def fitted(network, images, labels, *, batch_size, **options):
    start = network.get_weights()
    model = SelfDistiller(network)
    model.compile(SGD(0.1, momentum=0.0, weight_decay=0.0, clip_norm=0.5, **options))
    model.fit(images, labels, batch_size=batch_size, shuffle=False, verbose=0)
    return [new - old for new, old in zip(network.get_weights(), start, strict=True)]


@pytest.mark.thorough
def test_parts_of_a_batch_are_added_up_before_they_are_clipped(linear_network, images_and_labels):
    images, labels = (part[:20] for part in images_and_labels)
    keras.utils.set_random_seed(1)
    whole = fitted(linear_network(), images, labels, batch_size=20)
    assert np.sqrt(sum((part**2).sum() for part in whole)) == pytest.approx(0.05, rel=1e-4)
    keras.utils.set_random_seed(1)
    options = {"gradient_accumulation_steps": 5, "loss_scale_factor": 128.0}
    parts = fitted(linear_network(), images, labels, batch_size=4, **options)
    for one, two in zip(parts, whole, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-7)


def test_parts_of_a_batch_are_refused_on_several_replicas(linear_network, two_replicas):
    with two_replicas.scope():
        model = SelfDistiller(linear_network())
        with pytest.raises(ValueError, match="with gradient_accumulation_steps=5 on 2 replicas"):
            model.compile(SGD(0.1, gradient_accumulation_steps=5))


@pytest.mark.parametrize("make", [SGD, lambda *args, **kwargs: LossScaleOptimizer(SGD(*args, **kwargs))])
def test_weights_that_are_overwritten_by_averages_are_refused_on_several_replicas(linear_network, two_replicas, make):
    with two_replicas.scope():
        model = SelfDistiller(linear_network())
        with pytest.raises(ValueError, match="ema_overwrite_frequency=3 on 2 replicas"):
            model.compile(make(0.1, use_ema=True, ema_overwrite_frequency=3))
        described = {"class_name": "Adam", "config": {"use_ema": True, "ema_overwrite_frequency": 3}}
        with pytest.raises(ValueError, match="ema_overwrite_frequency=3 on 2 replicas"):
            model.compile(described)
        model.compile(make(0.1, use_ema=True))
    SelfDistiller(linear_network()).compile(make(0.1, use_ema=True, ema_overwrite_frequency=3))


@pytest.mark.thorough
def test_clipping_beside_dynamic_loss_scaling_on_two_replicas(linear_network, images_and_labels, two_replicas):
    keras.config.set_dtype_policy("mixed_float16")
    steps = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        keras.utils.set_random_seed(1)
        with strategy.scope():
            steps.append(fitted(linear_network(), *images_and_labels, batch_size=22))
    assert np.sqrt(sum((part**2).sum() for part in steps[0])) == pytest.approx(0.05, rel=1e-3)
    for one, two in zip(*steps, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)


def test_a_sparse_gradient_is_a_dense_one_with_zeros():
    dense = [tf.convert_to_tensor(each) if isinstance(each, tf.IndexedSlices) else each for each in GRADIENTS]
    results = []
    for gradients in (GRADIENTS, dense):
        weights, optimizer = variables(), SGD(0.1, momentum=0.9, weight_decay=0.1)
        optimizer.build(weights)
        for _ in range(2):
            optimizer.apply(gradients[:2], weights[:2])
        results.append([weight.numpy() for weight in weights])
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


def test_clipping_is_saved_and_not_mixed_with_keras_own():
    optimizer = SGD(1.0, **PLAIN)
    apply(optimizer)
    assert SGD.from_config(optimizer.get_config()).clip_norm == 1.0
    with pytest.raises(ValueError, match="one kind of clipping. Received: clip_norm=1.0, {'clipvalue': 2.0}"):
        SGD(1.0, clip_norm=1.0, clipvalue=2.0)
    assert SGD.from_config(SGD(1.0, global_clipnorm=0.5).get_config()).global_clipnorm == 0.5
