"""Risk-coverage curves: the error rate among the images that a network is most confident of."""

from collections.abc import Sequence
from typing import Any

import matplotlib.figure
import numpy as np

from cskd_tf.evaluation.figures.compared import Compared, mean_and_deviation
from cskd_tf.evaluation.figures.style import legend_below, legend_height, look, new_figure, styled, wrapped
from cskd_tf.evaluation.metrics import area_under_risk_coverage
from cskd_tf.evaluation.scores import check_scores, confidence_and_correct

POINTS = 200  # coverages at which seeds are averaged


@styled
def risk_coverage_curves(compared: Sequence[Compared], *, title: str) -> matplotlib.figure.Figure:
    """Error rate against coverage, a line per name, the mean over its seeds; AURC in the legend.

    Args:
        compared: what is drawn, at least one.
        title: what stands above the figure.

    Raises:
        UserError: predictions that do not fit.
    """
    labels = []
    for each in compared:
        areas = [1000 * area_under_risk_coverage(seed.logits, seed.labels) for seed in each.seeds]
        labels.append(wrapped(f"{each.name}: AURC × 1000 {mean_and_deviation(areas, digits=2)}", characters=72))
    figure = new_figure(5.6, 4.4 + legend_height(labels), title=title)
    axes = figure.subplots()
    coverages, lines = np.linspace(0, 1, POINTS + 1)[1:], []
    for number, each in enumerate(compared):
        drawn, risks = look(number), []
        for seed in each.seeds:
            coverage, risk = risk_coverage_curve(seed.logits, seed.labels)
            risks.append(np.interp(coverages, coverage, risk))
        marked: dict[str, Any] = {"marker": drawn.marker, "markersize": 5, "markevery": (number * 5, POINTS // 8)}
        lines += axes.plot(coverages, 100 * np.mean(risks, axis=0), **drawn.of_lines, **marked)
    axes.set(xlim=(0, 1), ylim=(0, None), xlabel="coverage: share of images, most confident first")
    axes.set_ylabel("risk: error among them, %")
    axes.grid(color="0.9")
    legend_below(figure, lines, labels)
    return figure


def risk_coverage_curve(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The curve under which AURC is the area: coverages 1/N to 1, and the error rate among as many images, `[N]` each.

    Images of equal confidence count as in a random order.

    Example:
        Probabilities .9 (right), .8 (wrong) and .7 (right):

        >>> coverages, risks = risk_coverage_curve(np.log([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]), np.array([0, 1, 0]))
        >>> coverages.round(3).tolist(), risks.round(3).tolist()
        ([0.333, 0.667, 1.0], [0.0, 0.5, 0.333])

    Args:
        logits: `[N, C]`.
        labels: int `[N]`.

    Raises:
        UserError: shapes or labels that do not fit.
    """
    confidence, correct = confidence_and_correct(*check_scores(logits, labels), from_logits=True)
    _, tied_group = np.unique(-confidence, return_inverse=True)
    error_of_tied = np.bincount(tied_group, weights=~correct) / np.bincount(tied_group)
    images = np.arange(1, len(correct) + 1)
    return images / len(correct), np.cumsum(error_of_tied[np.sort(tied_group)]) / images
