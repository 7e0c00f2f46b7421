"""SGD as the papers mean it, and their schedule."""

from cskd_tf.training.optimizers import SGD, WarmUp, milestone_epochs, step_schedule

__all__ = ["SGD", "WarmUp", "milestone_epochs", "step_schedule"]
