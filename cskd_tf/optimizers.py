"""SGD as the papers mean it, Keras' optimizers for fine-tuning, schedules, and loss scaling for float16."""

from cskd_tf.training.optimizers import SGD, LossScaleOptimizer, make
from cskd_tf.training.schedules import WarmUp, constant_schedule, cosine_schedule, milestone_epochs, step_schedule
from cskd_tf.training.tuned import OPTIMIZERS, Tuned

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "LossScaleOptimizer",
    "Tuned",
    "WarmUp",
    "constant_schedule",
    "cosine_schedule",
    "make",
    "milestone_epochs",
    "step_schedule",
]
