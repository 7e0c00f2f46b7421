"""SGD as the papers mean it, their schedule, and loss scaling for float16."""

from cskd_tf.training.optimizers import SGD, LossScaleOptimizer, WarmUp, milestone_epochs, step_schedule

__all__ = ["SGD", "LossScaleOptimizer", "WarmUp", "milestone_epochs", "step_schedule"]
