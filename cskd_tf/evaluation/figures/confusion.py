"""Confusion matrices: which class is taken for which."""

from collections.abc import Sequence

import matplotlib.axes
import matplotlib.colors
import matplotlib.figure
import matplotlib.image
import numpy as np
import sklearn.metrics

from cskd_tf.errors import UserError
from cskd_tf.evaluation.figures.style import new_figure, shortened, styled
from cskd_tf.evaluation.predictions import Predictions

NUMBERED = 12  # classes at most of which the cells have numbers
NAMED = 60  # classes at most that have their names beside them


@styled
def confusion_matrix(predictions: Predictions, *, class_names: Sequence[str], title: str) -> matplotlib.figure.Figure:
    """A confusion matrix, in per cent of a class's images: a row for each class, a column for each predicted one.

    Args:
        predictions: of a split.
        class_names: C of them; more than 60 are not written.
        title: what stands above the figure.

    Raises:
        UserError: names of another number of classes.
    """
    shares = class_shares(predictions)
    if len(class_names) != len(shares):
        raise UserError(f"Expected names of {len(shares)} classes. Received: {len(class_names)}")
    figure = new_figure(*size_of(class_names), title=title)
    axis = figure.subplots()
    drawn = draw_shares(axis, shares, names=class_names)
    axis.set(xlabel="predicted class", ylabel="class of the image")
    if len(shares) > NUMBERED:
        figure.colorbar(drawn, ax=axis, label="% of the class's images", shrink=0.8, aspect=40)
    return figure


def class_shares(predictions: Predictions) -> np.ndarray:
    """Which share of the images of class i is taken for class j, `[C, C]`; NaN of a class without images.

    Example:
        >>> logits = np.array([[2.0, 1, 0], [0, 1, 0], [0, 1, 0]])
        >>> class_shares(Predictions(logits, np.array([0, 0, 1]))).tolist()
        [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [nan, nan, nan]]
    """
    classes = np.arange(predictions.logits.shape[1])
    predicted = predictions.logits.argmax(axis=1)
    return shares_of(sklearn.metrics.confusion_matrix(predictions.labels, predicted, labels=classes))


def shares_of(counts: np.ndarray) -> np.ndarray:
    """Counts `[C, C]` as shares of their row; NaN where a row has none."""
    images = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, images, out=np.full(counts.shape, np.nan), where=images > 0)


def side_of(count: int) -> float:
    """Inches of a matrix of so many rows."""
    return min(max(1.7, 0.26 * count), 6.8)


def size_of(names: Sequence[str]) -> tuple[float, float]:
    """Inches, width and height, of a matrix with its names and what its axes are called."""
    ticks, size = _ticks(names)
    side, longest = side_of(len(names)), _inches(ticks, size=size)
    return side + longest + 0.7, side + (longest if _are_upright(ticks, size=size) else 0.15) + 0.85


def _ticks(names: Sequence[str]) -> tuple[list[str], int]:
    """What stands beside rows and columns, and the size of the letters."""
    ticks = [shortened(name, characters=18) for name in names] if len(names) <= NAMED else []
    return ticks, 8 if len(names) <= NUMBERED else 6 if len(names) <= 30 else 5


def _inches(ticks: Sequence[str], *, size: int) -> float:
    """Of the longest name."""
    return max(map(len, ticks), default=0) * size * 0.6 / 72


def _are_upright(ticks: Sequence[str], *, size: int) -> bool:
    """Whether the names of columns do not fit beside each other."""
    return bool(ticks) and _inches(ticks, size=size) > 0.9 * side_of(len(ticks)) / len(ticks)


def draw_shares(axis: matplotlib.axes.Axes, shares: np.ndarray, *, names: Sequence[str]) -> matplotlib.image.AxesImage:
    """Draws shares `[C, C]` in per cent, with numbers and names where there is room for them."""
    numbered = len(names) <= NUMBERED
    drawn = axis.imshow(100 * shares, cmap="Blues", norm=matplotlib.colors.PowerNorm(0.5, 0, 100))
    ticks, size = _ticks(names)
    places = range(len(ticks))
    axis.set_xticks(places, ticks, rotation=90 if _are_upright(ticks, size=size) else 0, fontsize=size)
    axis.set_yticks(places, ticks, fontsize=size)
    axis.spines[:].set_visible(False)
    if numbered:
        for (row, column), value in np.ndenumerate(100 * shares):
            text = f"{value:.1f}" if np.isfinite(value) else "–"
            dark = np.isfinite(value) and value > 40
            axis.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    return drawn
