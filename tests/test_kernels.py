"""What the package settles when it is imported, before TensorFlow computes: its kernels, and Keras' backend."""

import json
import os
import subprocess
import sys

import keras
import pytest

from cskd_tf import kernels

VARIABLES = ("TF_ENABLE_ONEDNN_OPTS", "ONEDNN_MAX_CPU_ISA", "KERAS_BACKEND", "KERAS_HOME")


def run(*arguments, **variables):
    """A process of its own, with none but the given ones of the variables that matter here."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env={**environment, **variables}, check=False
    )


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("chosen", "on"),
    [({}, True), pytest.param({kernels.VARIABLE: "0"}, False, marks=pytest.mark.slow)],
    ids=["nobody", "off"],
)
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


@pytest.mark.slow
@pytest.mark.parametrize("onednn", ["0", "1"])
def test_bfloat16_learns_the_gradient_whichever_kernels_there_are(onednn):
    code = (
        "import cskd_tf, keras, numpy as np, tensorflow as tf\n"
        "keras.config.set_dtype_policy('mixed_bfloat16')\n"
        "layers = [keras.Input((32, 32, 3)), keras.layers.Conv2D(4, 3, padding='same', kernel_initializer='ones')]\n"
        "network = keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D()])\n"
        "model = cskd_tf.SelfDistiller(network)\n"
        "with tf.GradientTape() as tape:\n"
        "    total = 1024 * tf.reduce_sum(model(np.ones((4, 32, 32, 3))))\n"
        "gradient = tape.gradient(total, network.layers[0].kernel.value)\n"
        "print(*set(gradient[1, 1].numpy().ravel()))"
    )
    done = run("-c", code, **{kernels.VARIABLE: onednn})
    assert done.stdout.split() == ["4096.0"], done.stderr
