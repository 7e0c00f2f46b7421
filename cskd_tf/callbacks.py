"""Callbacks for `fit`."""

from cskd_tf.training.callbacks import Evaluation, StopOnNaN
from cskd_tf.training.freezing import FrozenBackbone

__all__ = ["Evaluation", "FrozenBackbone", "StopOnNaN"]
