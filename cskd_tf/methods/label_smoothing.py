"""Label smoothing (Szegedy et al., 2016, https://arxiv.org/abs/1512.00567)."""

from cskd_tf.checks import check_flag, check_fraction
from cskd_tf.methods.base import Method


class LabelSmoothing(Method):
    """Takes a share `epsilon` of each target and spreads it evenly over the classes.

    Targets become `(1 - epsilon) * targets + epsilon / C` (the paper's section 7); with `over_others`, what is taken
    from a class goes to the other classes alone, `(1 - epsilon) * targets + epsilon * (1 - targets) / (C - 1)`.

    Example, of 5 classes:
        >>> targets = tf.constant([[1.0, 0, 0, 0, 0]])
        >>> LabelSmoothing(epsilon=0.1).targets({}, targets).numpy().round(3)
        array([[0.92, 0.02, 0.02, 0.02, 0.02]], dtype=float32)
        >>> LabelSmoothing(epsilon=0.1, over_others=True).targets({}, targets).numpy().round(3)
        array([[0.9  , 0.025, 0.025, 0.025, 0.025]], dtype=float32)

    Args:
        epsilon: in [0, 1); the PS-KD paper has 0.1 on ImageNet, the CS-KD paper states none.
        over_others: leave the true class out of what is spread.

    Raises:
        UserError: an argument out of range.
    """

    per_position = True
    per_class = True

    def __init__(self, *, epsilon: float = 0.1, over_others: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = check_fraction("epsilon", epsilon)
        self.over_others = check_flag("over_others", over_others)

    def targets(self, batch, targets):
        classes = targets.shape[-1]
        spread = (1 - targets) / (classes - 1) if self.over_others else 1 / classes
        return (1 - self.epsilon) * targets + self.epsilon * spread
