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
SMALL = ("preact", "resnet101_cifar", "resnext29", "densenet121_cifar", "pyramidnet")
WIDTHS = {"pyramidnet200": 4}  # of 16; all others have 64 as published
# Whose logits in training PyTorch computes no better: its float32 and float64 differ by 1e-4 to 8e-4 (measured).
# Statistics of single channels then differ by up to 3e-4.
DEEPEST = ("resnet101_cifar", "resnet101", "resnet152", "resnext101_32x4d", "pyramidnet200")
EVERY_NETWORK = pytest.mark.parametrize("name", torch_networks.NETWORKS)
EVEN_AND_ODD = pytest.mark.parametrize("odd", [False, True], ids=["even", "odd"])


def image_size(name, odd):
    even_size, odd_size = (16, 21) if name.startswith(SMALL) else (64, 75)
    return odd_size if odd else even_size


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


@EVEN_AND_ODD
@EVERY_NETWORK
def test_logits_and_running_statistics_are_pytorchs(name, odd):
    network, reference, images = pair(name, image_size(name, odd))
    for training in (False, True):
        reference.train(training)
        with torch.no_grad():
            expected = reference(as_torch(images)).numpy()
        tolerance = 2e-3 if training and name in DEEPEST else 1e-4
        np.testing.assert_allclose(network(images, training=training), expected, rtol=1e-4, atol=tolerance)
    tolerance = 3e-4 if name in DEEPEST else 1e-5
    after = build(name, image_size(name, odd))
    load_torch_weights(after, arrays(reference))
    for mine, theirs in zip(network.non_trainable_weights, after.non_trainable_weights, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=tolerance, atol=tolerance, err_msg=mine.path)


@EVEN_AND_ODD
@EVERY_NETWORK
def test_gradients_are_pytorchs_in_float64(name, odd):
    keras.config.set_dtype_policy("float64")
    network, reference, images = pair(name, image_size(name, odd))
    errors = relative_errors(network, reference.double(), images.astype("float64"))
    worst = max(errors, key=errors.get)
    assert errors[worst] < 1e-5, f"{worst}: {errors[worst]:.1e}"


@EVEN_AND_ODD
@EVERY_NETWORK
def test_gradients_are_pytorchs_in_float32_where_they_are_smooth(name, odd, monkeypatch):
    monkeypatch.setattr(torch_networks, "activate", torch.nn.functional.softplus)
    monkeypatch.setattr(keras.layers, "ReLU", lambda **kwargs: keras.layers.Activation("softplus", **kwargs))
    errors = relative_errors(*pair(name, image_size(name, odd)))
    worst = max(errors, key=errors.get)
    assert errors[worst] < 1e-3, f"{worst}: {errors[worst]:.1e}"
