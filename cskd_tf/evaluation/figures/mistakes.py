"""The images that a network gets most wrong."""

from collections.abc import Sequence

import matplotlib.figure
import numpy as np

from cskd_tf.evaluation.figures.style import new_figure, shortened, styled
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.evaluation.scores import softmax

COLUMNS, IMAGES = 4, 12
CELL = 1.45  # height of an image with its words, in widths of the image


def worst_mistakes(predictions: Predictions, *, count: int = IMAGES) -> np.ndarray:
    """Indices int `[n]`, n at most `count`, of images that are taken for another class, the most confident first.

    Example:
        >>> worst_mistakes(Predictions(np.array([[0.0, 1], [0, 3], [2, 0]]), np.array([0, 0, 0]))).tolist()
        [1, 0]
    """
    confidence = softmax(predictions.logits.astype(np.float64)).max(axis=1)
    wrong = np.flatnonzero(predictions.logits.argmax(axis=1) != predictions.labels)
    return wrong[np.argsort(-confidence[wrong], kind="stable")][:count]


@styled
def mistakes(
    predictions: Predictions, *, indices: np.ndarray, images: np.ndarray, class_names: Sequence[str], title: str
) -> matplotlib.figure.Figure:
    """Images, and below each its class, and for which it is taken, with which confidence.

    Args:
        predictions: of a split.
        indices: int `[n]`, which of its images, n at least 1.
        images: uint8 `[n, S, S, C]`.
        class_names: of all classes.
        title: what stands above the figure.
    """
    rows = -(-len(images) // COLUMNS)
    figure = new_figure(5.2, 0.5 + 5.0 / COLUMNS * CELL * rows, title=f"{title}\nmost confident mistakes")
    axis = figure.subplots()  # one for all, as axes take their time
    axis.set_axis_off()
    probabilities = softmax(predictions.logits[indices].astype(np.float64))
    for place, (index, picture, row) in enumerate(zip(indices, images, probabilities, strict=True)):
        top, left = CELL * (place // COLUMNS), place % COLUMNS
        extent = (left + 0.04, left + 0.96, top + 0.96, top + 0.04)
        pixels = picture[..., 0] if picture.shape[-1] == 1 else picture
        axis.imshow(pixels, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="nearest")
        best = row.argmax()
        true, taken = (shortened(class_names[each], characters=16) for each in (predictions.labels[index], best))
        words = f"{true}\ntaken for {taken}\n{100 * row[best]:.0f} %"
        axis.text(left + 0.5, top + 1.0, words, ha="center", va="top", fontsize=7)
    axis.set(xlim=(0, COLUMNS), ylim=(CELL * rows, 0))
    return figure
