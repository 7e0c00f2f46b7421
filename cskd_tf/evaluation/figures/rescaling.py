"""By how much PS-KD rescales the gradient of an image: equation 11 of PS-KD (Kim et al., ICCV 2021)."""

from typing import Any

import matplotlib.figure
import numpy as np
from numpy.typing import ArrayLike

from cskd_tf.errors import UserError
from cskd_tf.evaluation.figures.style import look, panels, styled

ALPHAS = (0.2, 0.4, 0.6, 0.8)
PREVIOUS = (0.1, 0.3, 0.5, 0.7, 0.9)


def rescaling_factor(probability: ArrayLike, *, previous: ArrayLike, alpha: ArrayLike) -> np.ndarray:
    """The L1 norm of the gradient with the softened target over that with the label alone, by the image's logits.

    `1 - alpha * (1 - previous) / (1 - probability)`, equation 11. It holds where alpha is at most the smallest
    `p_{t,i} / p_{t-1,i}` over the other classes; that is `(1 - probability) / (1 - previous)` where all of them shrank
    alike, and never more.

    Example: an image whose label had .5 and has .6 now, at alpha .4:
        >>> round(float(rescaling_factor(0.6, previous=0.5, alpha=0.4)), 6)
        0.5

    Args:
        probability: of the label now, in [0, 1).
        previous: of the label one epoch ago, in [0, 1).
        alpha: share of the previous prediction in the target, in [0, 1].

    Returns:
        float64, of their common shape, in [0, 1]; NaN where alpha is larger than the equation allows.

    Raises:
        UserError: values out of range.
    """
    arrays = np.broadcast_arrays(*(np.asarray(each, np.float64) for each in (probability, previous, alpha)))
    probability, previous, alpha = arrays
    for name, values in {"probability": probability, "previous": previous}.items():
        if not ((values >= 0) & (values < 1)).all():
            raise UserError(f"Expected {name} from 0 to below 1. Received: {name}={values}")
    if not ((alpha >= 0) & (alpha <= 1)).all():
        raise UserError(f"Expected alpha from 0 to 1. Received: alpha={alpha}")
    factor = 1 - alpha * (1 - previous) / (1 - probability)
    return np.where(factor >= 0, factor, np.nan)


@styled
def rescaling_curves(*, alpha: float = 0.4) -> matplotlib.figure.Figure:
    """Equation 11 against the probability of the label: the nearer to how it was, the more the image counts.

    On the left for alpha as it grows in training, of an image whose label had probability .5 an epoch ago; on the right
    for labels of other probabilities an epoch ago, at one alpha. As in the paper's analysis, the label has become more
    probable since, and a line ends where the equation holds no longer.

    Args:
        alpha: of the right panel.

    Raises:
        UserError: alpha out of range.
    """
    now = np.linspace(0, 1, 401)[:-1]
    title = "PS-KD's rescaling of an image's gradient, equation 11"
    figure, (left, right) = panels(2, columns=2, size=(3.8, 3.1), title=title)
    cases = {
        left: [(f"α = {each:g}", 0.5, each) for each in ALPHAS],
        right: [(f"{each:g} an epoch ago", each, alpha) for each in PREVIOUS],
    }
    titles = {left: "label at 0.5 an epoch ago", right: f"α = {alpha:g}"}
    for axis, lines in cases.items():
        for number, (label, previous, share) in enumerate(lines):
            shown = now[now >= previous]
            factor = rescaling_factor(shown, previous=previous, alpha=share)
            drawn = look(number)
            marked: dict[str, Any] = {"marker": drawn.marker, "markersize": 4.5, "markevery": (0, 40)}
            axis.plot(shown, factor, label=label, **drawn.of_lines, **marked)
        axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability of the label now", ylabel="rescaling factor")
        axis.set_title(titles[axis])
        axis.legend(fontsize=8, handlelength=3.2)
    return figure
