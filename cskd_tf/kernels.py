"""Which kernels TensorFlow computes with on a CPU: oneDNN's where nobody has chosen, before TensorFlow is loaded."""

import os
import platform
import sys

from absl import logging

VARIABLE = "TF_ENABLE_ONEDNN_OPTS"


def onednn_is_on() -> bool:
    """Whether TensorFlow, which this loads, computes with oneDNN's kernels in this process."""
    from tensorflow.python.util import _pywrap_util_port  # nothing public tells it

    return _pywrap_util_port.IsMklEnabled()


def choose_onednn() -> None:
    """Turns oneDNN on where `TF_ENABLE_ONEDNN_OPTS` is not set.

    TensorFlow itself leaves it off on CPUs without AVX-512 VNNI or AMX, where its kernels are faster all the same
    (benchmarks/network_speed.py), and the only ones that train grouped convolutions. TensorFlow reads the variable
    once, when it is loaded: after that nothing is changed, and a warning says so. Machines other than x86-64 were not
    measured and stay as they are.
    """
    if VARIABLE in os.environ or platform.machine().lower() not in ("x86_64", "amd64"):
        return
    if "tensorflow" not in sys.modules:
        os.environ[VARIABLE] = "1"
    elif not onednn_is_on():
        logging.warning(
            "TensorFlow was loaded before cskd_tf, without oneDNN's kernels, with which it trains faster on this CPU: "
            "import cskd_tf first or set %s=1; 0 leaves it as it is, without this warning.",
            VARIABLE,
        )


def check_backend() -> None:
    """Refuses any backend of Keras but TensorFlow, whose operations methods, networks and data are written with.

    Raises:
        ImportError: Keras is set to another backend.
    """
    try:
        import keras

        backend = keras.config.backend()
    except ModuleNotFoundError as error:
        if error.name not in ("jax", "torch", "openvino", "mlx"):
            raise
        backend = f"one that needs {error.name}, which is not installed"
    if backend != "tensorflow":
        raise ImportError(f"Expected Keras' TensorFlow backend (KERAS_BACKEND=tensorflow). Received: {backend}")
