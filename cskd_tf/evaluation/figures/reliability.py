"""Reliability diagrams: accuracy against confidence."""

import pathlib
from collections.abc import Sequence
from typing import Any

import matplotlib.axes
import matplotlib.figure
import numpy as np

from cskd_tf.evaluation.calibration import confidence_bins, expected_calibration_error
from cskd_tf.evaluation.figures.compared import Compared, mean_and_deviation
from cskd_tf.evaluation.figures.style import (
    GUIDE_COLOUR,
    legend_below,
    legend_height,
    line_handle,
    look,
    new_figure,
    styled,
    wrapped,
)
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.files import written_whole

ACCURACY_COLOUR, OVER_COLOUR, UNDER_COLOUR = "#2a6f97", "#e07a5f", "#81b29a"
OVER_HATCH = "////"
FEW = 10  # images of a bin


@styled
def reliability_diagram(predictions: Predictions, *, bins: int, title: str) -> matplotlib.figure.Figure:
    """Accuracy against confidence by bin, with the gaps that ECE sums, over a histogram of the confidences.

    A bar reaches the larger of accuracy and confidence; its upper part is the gap between the two, in one colour,
    hatched, where the network is over-confident and in another where it is under-confident.

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
    figure = new_figure(4.4, 5.4, title=f"{title}\nECE {100 * ece:.2f} % ({bins} bins)")
    diagram, histogram = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    diagram.bar(centres, lower, width, color=ACCURACY_COLOUR)
    over, under = np.maximum(confidence - accuracy, 0), np.maximum(accuracy - confidence, 0)
    hatched = {"facecolor": OVER_COLOUR, "edgecolor": "white", "hatch": OVER_HATCH, "linewidth": 0}
    diagram.bar(centres, over, width, bottom=lower, label="over-confident by", **hatched)
    diagram.bar(centres, under, width, bottom=lower, color=UNDER_COLOUR, label="under-confident by")
    _diagonal(diagram)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    histogram.bar(centres, shown["count"][filled] / shown["count"].sum(), width, color=GUIDE_COLOUR)
    histogram.set(xlabel="confidence", ylabel="share of images", ylim=(0, 1))
    return figure


@styled
def reliability_curves(compared: Sequence[Compared], *, bins: int, title: str) -> matplotlib.figure.Figure:
    """Accuracy against mean confidence of each bin, a line per name, over the share of images in each bin.

    Figure 5 of the CS-KD paper, Figure 3 of its ICLR form, Figure 3 of PS-KD. The images of all seeds are counted
    together; the ECE is the mean over seeds, with its standard deviation. Bins of fewer than 10 images, whose accuracy
    is mostly chance, are hollow markers beside the line.

    Args:
        compared: what is drawn, at least one.
        bins: confidence bins, at least 1.
        title: what stands above the figure.

    Raises:
        UserError: as `reliability_diagram`.
    """
    labels = [f"{each.name}: ECE {_eces(each, bins=bins)}" for each in compared]
    labels = [wrapped(label, characters=72) for label in labels]
    heading = f"{title}\n{bins} bins; hollow: fewer than {FEW} images"
    figure = new_figure(5.6, 6.2 + legend_height(labels), title=heading)
    diagram, histogram = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for number, each in enumerate(compared):
        logits, truth = (np.concatenate([getattr(seed, of) for seed in each.seeds]) for of in ("logits", "labels"))
        shown, drawn = confidence_bins(logits, truth, bins=bins), look(number)
        marked: dict[str, Any] = {"marker": drawn.marker, "markersize": 5, "clip_on": False}
        hollow = {"linestyle": "", "color": drawn.colour, "fillstyle": "none", "markeredgewidth": 0.7}
        many, few = shown["count"] >= FEW, (shown["count"] > 0) & (shown["count"] < FEW)
        for bins_of_kind, style in ((many, drawn.of_lines), (few, hollow)):
            confidence, accuracy = shown["confidence"][bins_of_kind], shown["accuracy"][bins_of_kind]
            (line,) = diagram.plot(confidence, accuracy, **style, **marked)
            line.set_in_layout(False)  # matplotlib would make room for a line without points, in the figure's corner
        share, edges = shown["count"] / shown["count"].sum(), np.linspace(0, 1, bins + 1)
        histogram.stairs(share, edges, edgecolor=drawn.colour, linestyle=drawn.line, linewidth=1.4)
    (optimal,) = _diagonal(diagram)
    histogram.set(xlabel="confidence", ylabel="share of images", ylim=(0, None))
    handles = [*(line_handle(number) for number in range(len(compared))), optimal]
    legend_below(figure, handles, [*labels, "perfect calibration"])
    return figure


def _diagonal(diagram: matplotlib.axes.Axes):
    diagram.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    return diagram.plot([0, 1], [0, 1], color=GUIDE_COLOUR, linestyle="--", linewidth=1)


def _eces(each: Compared, *, bins: int) -> str:
    values = [100 * expected_calibration_error(seed.logits, seed.labels, bins=bins) for seed in each.seeds]
    return f"{mean_and_deviation(values, digits=2)} %"


def save_reliability_diagram(predictions: Predictions, path: pathlib.Path, *, bins: int, title: str) -> None:
    """Writes the diagram of `reliability_diagram` as a PNG of 660 x 810 pixels."""
    with written_whole(path) as partial:
        reliability_diagram(predictions, bins=bins, title=title).savefig(partial, dpi=150)
