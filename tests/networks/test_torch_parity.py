"""Every network against the same one in PyTorch: logits, running statistics and gradients, odd sizes too.

Gradients of a deep network with ReLUs are no function of its weights in float32: where a sum of thousands of terms is
zero but for rounding, the ReLU behind it is open in one framework and shut in the other, and PyTorch's own gradients in
float32 and float64 differ by up to 15 %. So they are compared in float64, with ReLUs, and in float32, with the kernels
that training uses, with softplus in place of ReLU on both sides; so are the logits in training, which float32 alone
does not fix to 1e-4 behind a hundred layers that each divide by a measured deviation.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf import networks
from cskd_tf.networks.torch_weights import load_torch_weights

torch = pytest.importorskip("torch", reason="PyTorch, an optional extra, is not installed: make parity installs it")
from tests.networks import torch_networks  # noqa: E402  (imports torch)

pytestmark = pytest.mark.parity
CLASSES, BATCH = 5, 8
WIDTHS = {"pyramidnet200": 4}  # of 16; all others have 64 as published
SMALL, LARGE = {"even": 16, "odd": 21}, {"even": 64, "odd": 75}  # pixels
EXACT = {"logits": 1e-4, "statistics": 1e-5}
# Of the deepest, whose logits in training PyTorch computes no better: its float32 and float64 differ by 7e-5 to 8e-4
# (measured). Statistics of single channels then differ by up to 3e-4.
DEEP = {"logits": 2e-3, "statistics": 3e-4}
# Sizes of images, and tolerances of training.
NETWORKS = {
    "preact_resnet10": (SMALL, EXACT),
    "preact_resnet18": (SMALL, EXACT),
    "preact_resnet34": (SMALL, EXACT),
    "resnet101_cifar": (SMALL, DEEP),
    "resnext29_8x64d": (SMALL, EXACT),
    "densenet121_cifar": (SMALL, EXACT),
    "pyramidnet200": (SMALL, DEEP),
    "resnet10": (LARGE, EXACT),
    "resnet18": (LARGE, EXACT),
    "resnet34": (LARGE, EXACT),
    "resnet50": (LARGE, DEEP),
    "resnet101": (LARGE, DEEP),
    "resnet152": (LARGE, DEEP),
    "resnext50_32x4d": (LARGE, EXACT),
    "resnext101_32x4d": (LARGE, DEEP),
    "densenet121": (LARGE, EXACT),
}
EVERY_NETWORK = pytest.mark.parametrize(
    ("name", "size", "tolerance"),
    [
        pytest.param(name, sizes[kind], tolerance, id=f"{name}-{kind}")
        for name, (sizes, tolerance) in NETWORKS.items()
        for kind in sizes
    ],
)


def build(name, size):
    return networks.build(name, num_classes=CLASSES, input_shape=(size, size, 3), width=WIDTHS.get(name, 16))


def arrays(reference, *, gradients=False):
    """Weights and statistics of a PyTorch network, or its gradients in the places of the weights."""
    state = {key: value.detach().numpy().copy() for key, value in reference.state_dict().items() if value.ndim}
    return {**state, **{key: value.grad.numpy() for key, value in reference.named_parameters()}} if gradients else state


def pair(name, size):
    """The network here and there with the same weights and statistics, and images."""
    torch.manual_seed(0)
    reference = torch_networks.NETWORKS[name](classes=CLASSES, width=WIDTHS.get(name, 16))
    generator = np.random.default_rng(0)
    for module in reference.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # not ones and zeros, with which much would look right
            near_one, near_zero = (module.weight, module.running_var), (module.bias, module.running_mean)
            for weights, center in ((near_one, 1.0), (near_zero, 0.0)):
                for weight in weights:
                    drawn = generator.uniform(center - 0.3, center + 0.3, weight.shape)
                    weight.data.copy_(torch.from_numpy(drawn))
    network = build(name, size)
    load_torch_weights(network, arrays(reference))
    return network, reference, generator.normal(size=(BATCH, size, size, 3)).astype("float32")


def as_torch(images):
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def relative_errors(network, reference, images):
    """Distance of the logits, and of each weight's gradient, from PyTorch's, over the norm of that one."""
    labels = np.arange(BATCH) % CLASSES
    reference.train()
    expected_logits = reference(as_torch(images))
    torch.nn.functional.cross_entropy(expected_logits, torch.from_numpy(labels)).backward()
    expected_logits = expected_logits.detach().numpy()
    expected = build(network.name, images.shape[1])
    load_torch_weights(expected, arrays(reference, gradients=True))
    with tf.GradientTape() as tape:
        logits = network(images, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    gradients = tape.gradient(loss, [weight.value for weight in network.trainable_weights])
    norms = {weight.path: np.linalg.norm(weight.numpy()) for weight in expected.trainable_weights}
    # A shift ahead of another batch norm has no gradient but rounding.
    smallest = 1e-4 * max(norms.values())
    errors = {
        weight.path: np.linalg.norm(mine.numpy() - weight.numpy()) / max(norms[weight.path], smallest)
        for mine, weight in zip(gradients, expected.trainable_weights, strict=True)
    }
    return {"logits": np.linalg.norm(logits - expected_logits) / np.linalg.norm(expected_logits), **errors}


def test_every_network_of_pytorch_is_compared():
    assert sorted(NETWORKS) == sorted(torch_networks.NETWORKS)


@EVERY_NETWORK
def test_logits_and_running_statistics_are_pytorchs(name, size, tolerance):
    network, reference, images = pair(name, size)
    for training, of_logits in ((False, EXACT["logits"]), (True, tolerance["logits"])):
        reference.train(training)
        with torch.no_grad():
            expected = reference(as_torch(images)).numpy()
        np.testing.assert_allclose(network(images, training=training), expected, rtol=1e-4, atol=of_logits)
    after = build(name, size)
    load_torch_weights(after, arrays(reference))
    near = tolerance["statistics"]
    for mine, theirs in zip(network.non_trainable_weights, after.non_trainable_weights, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=near, atol=near, err_msg=mine.path)


@EVERY_NETWORK
def test_gradients_are_pytorchs_in_float64(name, size, tolerance):
    keras.config.set_dtype_policy("float64")
    network, reference, images = pair(name, size)
    errors = relative_errors(network, reference.double(), images.astype("float64"))
    worst = max(errors, key=errors.get)
    assert errors[worst] < 1e-5, f"{worst}: {errors[worst]:.1e}"


@EVERY_NETWORK
def test_gradients_are_pytorchs_in_float32_where_they_are_smooth(name, size, tolerance, monkeypatch):
    monkeypatch.setattr(torch_networks, "activate", torch.nn.functional.softplus)
    monkeypatch.setattr(keras.layers, "ReLU", lambda **kwargs: keras.layers.Activation("softplus", **kwargs))
    errors = relative_errors(*pair(name, size))
    worst = max(errors, key=errors.get)
    assert errors[worst] < 1e-3, f"{worst}: {errors[worst]:.1e}"
