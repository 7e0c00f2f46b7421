"""The pieces that networks are made of, against numpy and by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf import SelfDistiller, methods, networks
from cskd_tf.networks import layers as shared_layers
from cskd_tf.networks.densenet import densenet
from cskd_tf.networks.layers import BatchNormalization, Pieces
from cskd_tf.networks.preact_resnet import preact_resnet
from cskd_tf.networks.pyramidnet import ShakeDrop, pyramidnet
from cskd_tf.networks.resnet import bottleneck, resnet
from cskd_tf.networks.resnext import resnext
from cskd_tf.training.optimizers import SGD
from tests.selection import few


def test_strided_convolution_pads_symmetrically():
    images = keras.Input((6, 6, 1))
    network = keras.Model(images, Pieces().convolution(images, 1, kernel_size=3, stride=2, name="conv"))
    network.get_layer("conv").set_weights([np.ones((3, 3, 1, 1))])
    corner = network(np.ones((1, 6, 6, 1)))[0, 0, 0, 0]
    assert float(corner) == 4.0  # padding on the top left; with padding="same" it would be 9


@pytest.mark.parametrize("policy", ["bfloat16", "float16"])
@pytest.mark.parametrize("synchronized", [False, True])
def test_batch_norm_keeps_its_statistics_in_half_precision_alone(policy, synchronized):
    layer = BatchNormalization(synchronized=synchronized, dtype=policy)
    images = np.random.default_rng(0).normal(1, 2, size=(5, 128, 128, 16))
    outputs = layer(images, training=True)
    assert outputs.dtype == layer.moving_variance.dtype == policy
    np.testing.assert_allclose(tf.cast(outputs, tf.float32)[0], (images[0] - 1) / 2, atol=0.05)
    np.testing.assert_allclose(tf.cast(layer.moving_mean.value, tf.float32), 0.1, atol=0.01)
    np.testing.assert_allclose(tf.cast(layer.moving_variance.value, tf.float32), 0.9 + 0.4, atol=0.02)


@pytest.mark.parametrize("options", [{"synchronized": True}, {"dtype": "float64"}])
def test_unfused_batch_norm_keeps_the_unbiased_variance_too(options):
    images = np.random.default_rng(0).normal(size=(2, 3, 3, 2)).astype("float32")
    layer = BatchNormalization(**options)
    layer(images, training=True)
    expected = 0.9 + 0.1 * images.var(axis=(0, 1, 2), ddof=1)
    np.testing.assert_allclose(layer.moving_variance.numpy(), expected, rtol=1e-5)
    layer(images, training=False)
    np.testing.assert_allclose(layer.moving_variance.numpy(), expected, rtol=1e-5)


@pytest.fixture
def _channels_first():
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format(before)


@pytest.mark.usefixtures("_channels_first")
@pytest.mark.parametrize(
    ("family", "size", "options"),
    few(
        [
            (preact_resnet, (1, 1), {}),
            (resnet, (1, 1), {}),
            (resnet, (1, 1), {"hidden": bottleneck, "small_images": True}),
            (resnext, (1, 1), {"cardinality": 2, "group_width": 64}),
            (densenet, (1, 1), {}),
            (densenet, (1, 1), {"small_images": True}),
            (pyramidnet, 11, {"shake_drop": 0.5}),
        ],
        2,
    ),
)
def test_channels_are_last_whatever_keras_says(family, size, options):
    def build():
        keras.utils.set_random_seed(0)
        return family(size, num_classes=3, input_shape=(32, 31, 3), width=4, name="network", **options)

    network = build()
    assert {layer.data_format for layer in network.layers if hasattr(layer, "data_format")} == {"channels_last"}
    keras.config.set_image_data_format("channels_last")
    expected = build()
    images = np.random.default_rng(0).normal(size=(2, 32, 31, 3)).astype("float32")
    for ours, theirs in zip(network.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(network(images), expected(images), rtol=1e-6)


@pytest.mark.thorough
@pytest.mark.usefixtures("_channels_first")
def test_training_under_channels_first_keeps_channels_last():
    model = SelfDistiller(
        networks.build("preact_resnet10", num_classes=3, input_shape=(8, 8, 3), width=16), [methods.BYOT()]
    )
    model.compile(SGD(0.01))
    images = np.random.default_rng(0).normal(size=(12, 8, 8, 3)).astype("float32")
    history = model.fit(images, np.arange(12) % 3, batch_size=4, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert model.outputs(images[:2])["embedding"].shape == (2, 128)
    for exit_network in model.methods[0].exits:
        said = {layer.data_format for layer in exit_network.layers if hasattr(layer, "data_format")}
        assert said == {"channels_last"}


@pytest.mark.thorough
def test_shake_drop_lets_through_or_shakes_each_image():
    layer = ShakeDrop(0.5)
    branch = tf.ones((4, 2, 2, 3))
    np.testing.assert_allclose(layer(branch, training=False), 0.5)
    shut, forward, backward = 0, [], []
    for _ in range(200):
        with tf.GradientTape() as tape:
            tape.watch(branch)
            outputs = layer(branch, training=True)
        gradient = tape.gradient(outputs, branch).numpy().reshape(4, -1)
        outputs = outputs.numpy().reshape(4, -1)
        assert (outputs == outputs[:, :1]).all()  # one number per image
        assert (gradient == gradient[:, :1]).all()
        if (outputs == 1).all():
            assert (gradient == 1).all()
        else:
            shut += 1
            forward.extend(outputs[:, 0])
            backward.extend(gradient[:, 0])
    assert 70 < shut < 130  # 100 expected, deviation 7
    for values, low, high in ((forward, -1, 1), (backward, 0, 1)):
        assert low <= min(values) < low + 0.1
        assert high - 0.1 < max(values) < high
        assert np.mean(values) == pytest.approx((low + high) / 2, abs=0.1)
    assert abs(np.corrcoef(forward, backward)[0, 1]) < 0.2


@pytest.mark.slow
def test_shake_drop_rates_rise_linearly_to_a_half():
    network = networks.build("pyramidnet200_shakedrop", num_classes=2, input_shape=(8, 8, 1), width=1)
    rates = [layer.rate for layer in network.layers if isinstance(layer, ShakeDrop)]
    np.testing.assert_allclose(rates, 0.5 * np.arange(1, 67) / 66)
    plain = networks.build("pyramidnet200", num_classes=2, input_shape=(8, 8, 1), width=1)
    assert not any(isinstance(layer, ShakeDrop) for layer in plain.layers)
    with pytest.raises(ValueError, match="0 <= rate < 1. Received: rate=1"):
        ShakeDrop(1)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_batch_norm_against_numpy(training, policy, fused, monkeypatch):
    assert shared_layers._fused_is_fast(32)
    assert not shared_layers._fused_is_fast(33)
    monkeypatch.setattr(shared_layers, "_fused_is_fast", lambda channels: fused)
    generator = np.random.default_rng(0)
    images = generator.normal(3.0, 2.0, (4, 5, 5, 3)).astype("float32")
    layer = BatchNormalization(dtype=policy)
    layer.build(images.shape)
    gamma, beta, mean, variance = generator.uniform(0.5, 2.0, (4, 3))
    layer.set_weights([gamma, beta, mean, variance])
    outputs = layer(images, training=training)
    seen = tf.cast(tf.cast(images, layer.compute_dtype), tf.float32).numpy()
    center, spread = (seen.mean((0, 1, 2)), seen.var((0, 1, 2))) if training else (mean, variance)
    expected = gamma * (seen - center) / np.sqrt(spread + 1e-5) + beta
    assert outputs.dtype == layer.compute_dtype
    rounding = 0 if policy == "float32" else 2**-8
    np.testing.assert_allclose(tf.cast(outputs, tf.float32), expected, rtol=rounding, atol=1e-5)
    if training:  # PyTorch's running variance is of the unbiased batch variance
        mean, variance = 0.9 * mean + 0.1 * center, 0.9 * variance + 0.1 * spread * 100 / 99
    np.testing.assert_allclose(layer.moving_mean.numpy(), mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance.numpy(), variance, rtol=1e-5)


def test_a_frozen_batch_norm_uses_and_keeps_its_statistics():
    layer = BatchNormalization()
    layer.build((None, 2, 2, 1))
    layer.trainable = False
    outputs = layer(np.full((1, 2, 2, 1), 5.0, "float32"), training=True)
    np.testing.assert_allclose(outputs, 5.0, rtol=1e-4)
    assert layer.moving_mean.numpy() == [0.0]


def test_synchronized_batch_norm_sees_all_replicas(images_and_labels, two_replicas):
    images, _ = images_and_labels
    images = images[:8]
    with two_replicas.scope():
        layer = BatchNormalization(synchronized=True)
        layer.build((None, 4, 4, 1))
    data = two_replicas.experimental_distribute_dataset(tf.data.Dataset.from_tensor_slices(images).batch(8))

    @tf.function
    def step(batch):
        return two_replicas.run(lambda x: layer(x, training=True), args=(batch,))

    for batch in data:
        step(batch)
    np.testing.assert_allclose(layer.moving_mean.numpy(), 0.1 * images.mean(), rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance.numpy(), 0.9 + 0.1 * images.var(ddof=1), rtol=1e-5)


def test_a_residual_block_is_wired_as_torchvisions():
    """Which neither numbers of weights nor their names tell: its stride in the 3x3, and no ReLU in the shortcut."""
    network = networks.build("resnet50", num_classes=4, input_shape=(64, 64, 3), width=4)
    convolutions = ("conv1", "conv2", "conv3", "shortcut_conv")
    strides = {name: network.get_layer(f"stage2_block1_{name}").strides for name in convolutions}
    assert strides == {"conv1": (1, 1), "conv2": (2, 2), "conv3": (1, 1), "shortcut_conv": (2, 2)}
    block = [layer for layer in network.layers if layer.name.startswith("stage2_block1_")]
    activations = [layer.name.removeprefix("stage2_block1_") for layer in block if isinstance(layer, keras.layers.ReLU)]
    assert activations == ["bn1_relu", "bn2_relu", "relu"]


def values_of(network, *names):
    """What layers return of two random images."""
    shape = (2, *network.input_shape[1:])
    images = np.random.default_rng(0).normal(size=shape).astype("float32")
    return keras.Model(network.input, [network.get_layer(name).output for name in names])(images)


def test_pyramidnet_adds_its_new_channels_behind_the_old_and_has_no_relu_in_front_of_a_block():
    network = networks.build("pyramidnet200", num_classes=2, input_shape=(8, 8, 3), width=4)
    kernel = network.get_layer("stage1_block1_conv3").kernel
    kernel.assign(np.zeros(kernel.shape))
    names = ("stem_bn", "stage1_block1_bn1", "stage1_block1_conv1", "stage1_block1_add")
    stem, first, second, block = values_of(network, *names)
    np.testing.assert_allclose(block[..., :4], stem, rtol=1e-6)
    assert block.shape[-1] > 4
    assert not np.any(block[..., 4:])
    assert np.min(first) < 0
    np.testing.assert_allclose(second, network.get_layer("stage1_block1_conv1")(first), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "size", "first", "old"),
    [("densenet121", 64, "stem_pool", slice(0, 8)), ("densenet121_cifar", 8, "stem_conv", slice(4, None))],
)
def test_densenets_keep_their_channels_in_the_order_of_their_authors(name, size, first, old):
    """Torchvision's has the new ones behind; the CIFAR one of the papers' code in front."""
    network = networks.build(name, num_classes=2, input_shape=(size, size, 3), width=8)
    inputs, outputs = values_of(network, first, "stage1_block1_concatenate")
    np.testing.assert_array_equal(outputs[..., old], inputs)


def of_pairs(images):
    """The averages of 2 x 2 pixels."""
    count, height, width, channels = images.shape
    return np.reshape(images, (count, height // 2, 2, width // 2, 2, channels)).mean(axis=(2, 4))


def test_a_pyramidnet_halves_in_its_3x3_and_by_averages_and_no_block_ends_in_a_relu():
    network = pyramidnet(11, num_classes=2, input_shape=(8, 8, 3), width=4, name="network")
    assert [network.get_layer(f"stage2_block1_conv{number}").strides[0] for number in (1, 2, 3)] == [1, 2, 1]
    names = ("stage1", "stage2_block1_bn4", "stage2_block1_add", "final_bn", "stage3")
    first, branch, second, final, last = map(np.array, values_of(network, *names))
    shortcut = np.pad(of_pairs(first), [(0, 0)] * 3 + [(0, branch.shape[-1] - first.shape[-1])])
    np.testing.assert_allclose(second, branch + shortcut, atol=1e-5)
    np.testing.assert_array_equal(last, np.maximum(final, 0))


def test_a_densenet_halves_by_averages_behind_each_stage_and_ends_in_a_relu():
    network = densenet((1, 1), num_classes=2, input_shape=(8, 8, 3), width=8, small_images=True, name="network")
    names = ("stage1_block1_concatenate", "stage1", "transition1_conv", "transition1_pool", "final_bn", "stage2")
    block, first, convolved, pooled, final, last = map(np.array, values_of(network, *names))
    np.testing.assert_array_equal(first, block)
    np.testing.assert_allclose(pooled, of_pairs(convolved), atol=1e-6)
    np.testing.assert_array_equal(last, np.maximum(final, 0))


def test_a_resnet_for_large_images_takes_the_largest_of_3x3_in_its_stem_and_activates_sums():
    network = resnet((1, 1), num_classes=2, input_shape=(32, 32, 3), width=4, name="network")
    names = ("stem_bn_relu", "stem_pool", "stage2_block1_bn2", "stage2_block1_shortcut_bn", "stage2")
    stem, pooled, branch, shortcut, second = map(np.array, values_of(network, *names))
    around = np.pad(stem, [(0, 0), (1, 1), (1, 1), (0, 0)])
    parts = [around[:, row : row + 16 : 2, column : column + 16 : 2] for row in range(3) for column in range(3)]
    np.testing.assert_array_equal(pooled, np.max(parts, axis=0))
    np.testing.assert_allclose(second, np.maximum(branch + shortcut, 0), atol=1e-6)
