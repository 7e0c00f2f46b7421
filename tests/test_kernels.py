"""What the package settles when it is imported, before TensorFlow computes: its kernels, and Keras' backend."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf import kernels, networks
from cskd_tf.networks import features
from cskd_tf.networks.convolution import Convolution, _visited_pixels, keep_memory_whole

VARIABLES = ("TF_ENABLE_ONEDNN_OPTS", "ONEDNN_MAX_CPU_ISA", "KERAS_BACKEND", "KERAS_HOME")


def run(*arguments, **variables):
    """A process of its own, with none but the given ones of the variables that matter here."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env={**environment, **variables}, check=False
    )


@pytest.mark.parametrize(("chosen", "on"), [({}, True), ({kernels.VARIABLE: "0"}, False)], ids=["nobody", "off"])
@pytest.mark.skipif(kernels.platform.machine() not in ("x86_64", "AMD64"), reason="measured on x86-64 only")
def test_onednn_is_on_where_nobody_has_chosen(chosen, on):
    code = (
        "import os, runpy, sys\n"
        "program = runpy.run_path('train_main.py')\n"  # what it imports must not load TensorFlow yet
        "assert 'tensorflow' not in sys.modules\n"
        "from cskd_tf import kernels\n"
        "from cskd_tf.networks.convolution import _has_grouped_gradient\n"
        "print(os.environ['TF_ENABLE_ONEDNN_OPTS'], kernels.onednn_is_on(), _has_grouped_gradient('float32'))"
    )
    done = run("-c", code, **chosen)
    assert done.stdout.split() == [str(int(on)), str(on), str(on)], done.stderr


@pytest.mark.parametrize(
    ("machine", "loaded", "on", "chosen", "warned"),
    [
        ("x86_64", False, False, "1", False),
        ("AMD64", False, False, "1", False),
        ("aarch64", False, False, None, False),
        ("x86_64", True, True, None, False),
        ("x86_64", True, False, None, True),
    ],
)
def test_the_choice_is_made_before_tensorflow_is_loaded_or_said(
    machine, loaded, on, chosen, warned, monkeypatch, caplog
):
    monkeypatch.delenv(kernels.VARIABLE, raising=False)
    monkeypatch.setattr(kernels.platform, "machine", lambda: machine)
    monkeypatch.setattr(kernels, "onednn_is_on", lambda: on)
    monkeypatch.setattr(kernels.logging.get_absl_logger(), "propagate", True)
    if not loaded:
        monkeypatch.delitem(sys.modules, "tensorflow")
    kernels.choose_onednn()
    assert os.environ.pop(kernels.VARIABLE, None) == chosen
    assert [("import cskd_tf first" in record.getMessage()) for record in caplog.records] == [True] * warned


def test_what_somebody_chose_stays(monkeypatch, caplog):
    monkeypatch.setattr(kernels, "onednn_is_on", lambda: False)
    monkeypatch.setattr(kernels.logging.get_absl_logger(), "propagate", True)
    for value in ("0", "1", ""):
        monkeypatch.setenv(kernels.VARIABLE, value)
        kernels.choose_onednn()
        assert os.environ[kernels.VARIABLE] == value
    assert not caplog.records


def test_another_backend_is_refused(monkeypatch):
    kernels.check_backend()
    monkeypatch.setattr(keras.config, "backend", lambda: "torch")
    expected = r"Expected Keras' TensorFlow backend \(KERAS_BACKEND=tensorflow\). Received: torch$"
    with pytest.raises(ImportError, match=expected):
        kernels.check_backend()


def test_a_backend_that_is_not_installed_is_refused_in_one_line(tmp_path):
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "jax"}))  # not among this package's dependencies
    done = run("-c", "import cskd_tf", KERAS_HOME=str(tmp_path))
    expected = "Expected Keras' TensorFlow backend (KERAS_BACKEND=tensorflow). Received: "
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"ImportError: {expected}")
    done = run("train_main.py", KERAS_BACKEND="jax")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {expected}")


@pytest.mark.parametrize("kind", [Convolution, keras.layers.Conv2D])
@pytest.mark.parametrize("strides", [2, 3, (1, 2)])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_pixels_between_strides_are_left_out_and_nothing_else(kind, strides, padding):
    generator = np.random.default_rng(0)
    images = tf.constant(generator.normal(size=(3, 9, 8, 4)), tf.float32)
    layer = kind(5, 1, strides=strides, padding=padding, bias_initializer="ones")
    keep_memory_whole(layer)
    rows, columns = layer.strides
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = layer(images)
        loss = tf.reduce_sum(outputs**2)
    kernel = layer.kernel.numpy()[0, 0]
    visited = images.numpy()[:, ::rows, ::columns]
    expected = visited @ kernel + 1
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
    of_images, of_kernel = tape.gradient(loss, [images, layer.kernel.value])
    np.testing.assert_allclose(of_kernel[0, 0], np.einsum("nhwi,nhwo->io", visited, 2 * expected), rtol=1e-4)
    np.testing.assert_allclose(of_images[:, ::rows, ::columns], 2 * expected @ kernel.T, rtol=1e-4, atol=1e-4)
    assert np.count_nonzero(of_images) == visited.size


def test_channels_first_and_layers_of_the_users_own_are_right_too():
    class Own(keras.layers.Conv2D):
        def convolution_op(self, inputs, kernel):
            return keras.ops.zeros((1,))

    own = Own(2, 1, strides=2, use_bias=False)
    keep_memory_whole(own)
    assert own(tf.ones((1, 4, 4, 3))).shape == (1,)
    layer = keras.layers.Conv2D(2, 1, strides=(1, 3), data_format="channels_first")
    images = np.arange(3 * 4 * 7).reshape(1, 3, 4, 7)  # the convolution itself needs oneDNN or an accelerator
    np.testing.assert_array_equal(_visited_pixels(layer, images), images[:, :, :, ::3])


def dangerous(function) -> list:
    """Convolutions of 1 x 1 pixels at a stride over fewer than 16 channels in a traced training step."""
    found = []
    for operation in function.graph.get_operations():
        if operation.type == "Conv2D" and max(operation.get_attr("strides")) > 1:
            rows, columns, channels, _ = operation.inputs[1].shape
            if rows == columns == 1 and channels < 16:
                found.append(operation.name)
    return found


def gradients(network):
    def compute(images):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(network(images, training=True))
        return tape.gradient(loss, [weight.value for weight in network.trainable_weights])

    return tf.function(compute, autograph=False).get_concrete_function(tf.TensorSpec(network.input_shape))


@pytest.mark.parametrize("name", ["preact_resnet10", "resnet10", "resnext29_8x64d"])
def test_no_network_takes_the_gradient_that_breaks_the_heap(name, monkeypatch):
    network = networks.build(name, num_classes=2, input_shape=(33, 33, 3), width=2)
    assert not dangerous(gradients(network))
    monkeypatch.setattr("cskd_tf.networks.convolution._skips_pixels", lambda layer, kernel: False)
    assert dangerous(gradients(network))


def test_nor_does_a_network_of_keras_layers_once_it_is_wrapped():
    layers = keras.layers
    network = keras.Sequential(
        [keras.Input((16, 16, 3)), layers.Conv2D(4, 1, 2), layers.GlobalAveragePooling2D(), layers.Dense(2)]
    )
    assert len(dangerous(gradients(network))) == 1
    features.NetworkOutputs(network)
    features.NetworkOutputs(network)
    assert not dangerous(gradients(network))


def test_narrow_networks_live_through_odd_batches():
    # Without `keep_memory_whole` every such process died, of 6 on a CPU with AVX-512.
    code = (
        "from benchmarks import narrow_networks as narrow; narrow.gradients(0, layers=60); narrow.train(0, networks=2)"
    )
    done = run("-c", code, TF_ENABLE_ONEDNN_OPTS="1")
    assert done.returncode == 0, done.stderr[-2000:]
