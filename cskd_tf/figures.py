"""Figures, drawn from saved predictions alone."""

import io
import pathlib

import matplotlib.figure
import numpy as np

from cskd_tf.metrics import confidence_bins, expected_calibration_error
from cskd_tf.predictions import Predictions

ACCURACY_COLOUR, GAP_COLOUR, GUIDE_COLOUR = "#2a6f97", "#e07a5f", "#6c757d"


def reliability_diagram(predictions: Predictions, *, bins: int, title: str) -> matplotlib.figure.Figure:
    """Accuracy against confidence by bin, with the gap that ECE sums, over a histogram of the confidences."""
    parts = confidence_bins(predictions.logits, predictions.labels, bins=bins)
    ece = expected_calibration_error(predictions.logits, predictions.labels, bins=bins)
    centres = (np.arange(bins) + 0.5) / bins
    filled = parts["count"] > 0
    width = 0.92 / bins
    figure = matplotlib.figure.Figure(figsize=(4.4, 5.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.bar(centres[filled], parts["accuracy"][filled], width, color=ACCURACY_COLOUR, label="accuracy")
    above.bar(
        centres[filled],
        (parts["confidence"] - parts["accuracy"])[filled],
        width,
        bottom=parts["accuracy"][filled],
        color=GAP_COLOUR,
        alpha=0.45,
        label="gap to confidence",
    )
    above.plot([0, 1], [0, 1], color=GUIDE_COLOUR, linestyle="--", linewidth=1, label="perfectly calibrated")
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy", title=title)
    above.text(0.97, 0.05, f"ECE {100 * ece:.2f} %\n({bins} bins)", ha="right", va="bottom")
    above.legend(loc="upper left", frameon=False)
    below.bar(centres, parts["count"] / parts["count"].sum(), width, color=GUIDE_COLOUR)
    below.set(xlabel="confidence", ylabel="share of images", ylim=(0, 1))
    return figure


def as_image(figure: matplotlib.figure.Figure) -> np.ndarray:
    """The figure as uint8 `[1, height, width, 3]`, for TensorBoard."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="rgba", dpi=100)
    width, height = (round(inches * 100) for inches in figure.get_size_inches())
    return np.frombuffer(buffer.getvalue(), np.uint8).reshape(1, height, width, 4)[..., :3]


def save_reliability_diagram(predictions: Predictions, path: pathlib.Path, *, bins: int, title: str) -> None:
    """Writes the diagram as PNG."""
    reliability_diagram(predictions, bins=bins, title=title).savefig(path, dpi=150)
