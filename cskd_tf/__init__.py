"""Class-wise self-knowledge distillation for image classifiers, in Keras 3 on TensorFlow."""

# ruff: noqa: E402, because TensorFlow asks for its kernels when it is loaded
from cskd_tf import kernels

kernels.choose_onednn()
kernels.check_backend()

from cskd_tf import callbacks, data, losses, methods, metrics, networks, optimizers
from cskd_tf.training.distiller import SelfDistiller

__version__ = "0.1.0"
__all__ = ["SelfDistiller", "callbacks", "data", "losses", "methods", "metrics", "networks", "optimizers"]
