"""Figures, drawn from saved predictions alone."""

import io
import pathlib

import matplotlib.figure
import numpy as np

from cskd_tf.evaluation.calibration import confidence_bins, expected_calibration_error
from cskd_tf.evaluation.predictions import Predictions

ACCURACY_COLOUR, OVER_COLOUR, UNDER_COLOUR, GUIDE_COLOUR = "#2a6f97", "#e07a5f", "#81b29a", "#6c757d"


def reliability_diagram(predictions: Predictions, *, bins: int, title: str) -> matplotlib.figure.Figure:
    """Accuracy against confidence by bin, with the gaps that ECE sums, over a histogram of the confidences.

    A bar reaches the larger of accuracy and confidence; its upper part is the gap between the two, in one colour where
    the network is over-confident and in another where it is under-confident.

    Args:
        predictions: of a split.
        bins: confidence bins, at least 1.
        title: what stands above the figure, before the ECE.

    Raises:
        UserError: predictions or bins that do not fit, as of `confidence_bins`.
    """
    shown = confidence_bins(predictions.logits, predictions.labels, bins=bins)
    ece = expected_calibration_error(predictions.logits, predictions.labels, bins=bins)
    filled = shown["count"] > 0
    centres = ((np.arange(bins) + 0.5) / bins)[filled]
    accuracy, confidence = shown["accuracy"][filled], shown["confidence"][filled]
    lower = np.minimum(accuracy, confidence)
    width = 0.92 / bins
    figure = matplotlib.figure.Figure(figsize=(4.4, 5.4), layout="constrained")
    figure.suptitle(f"{title}\nECE {100 * ece:.2f} % ({bins} bins)", fontsize=11)
    diagram, histogram = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    diagram.bar(centres, lower, width, color=ACCURACY_COLOUR)
    over, under = np.maximum(confidence - accuracy, 0), np.maximum(accuracy - confidence, 0)
    diagram.bar(centres, over, width, bottom=lower, color=OVER_COLOUR, label="over-confident by")
    diagram.bar(centres, under, width, bottom=lower, color=UNDER_COLOUR, label="under-confident by")
    diagram.plot([0, 1], [0, 1], color=GUIDE_COLOUR, linestyle="--", linewidth=1)
    diagram.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    histogram.bar(centres, shown["count"][filled] / shown["count"].sum(), width, color=GUIDE_COLOUR)
    histogram.set(xlabel="confidence", ylabel="share of images", ylim=(0, 1))
    return figure


def as_image(figure: matplotlib.figure.Figure) -> np.ndarray:
    """The figure at 100 dots per inch, as uint8 `[1, height, width, 3]`: what TensorBoard shows."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="rgba", dpi=100)
    width, height = (round(inches * 100) for inches in figure.get_size_inches())
    return np.frombuffer(buffer.getvalue(), np.uint8).reshape(1, height, width, 4)[..., :3]


def save_reliability_diagram(predictions: Predictions, path: pathlib.Path, *, bins: int, title: str) -> None:
    """Writes the diagram of `reliability_diagram` as a PNG of 660 x 810 pixels."""
    reliability_diagram(predictions, bins=bins, title=title).savefig(path, dpi=150)
