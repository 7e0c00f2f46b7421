"""Callbacks for `fit`."""

from cskd_tf.training.callbacks import Evaluation, StopOnNaN

__all__ = ["Evaluation", "StopOnNaN"]
