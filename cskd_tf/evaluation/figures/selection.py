"""Risk-coverage curves: the error rate among the images that a network is most confident of."""

from collections.abc import Sequence
from typing import Any

import matplotlib.figure
import numpy as np

from cskd_tf.evaluation.figures.compared import Compared, mean_and_deviation
from cskd_tf.evaluation.figures.style import legend_below, legend_height, look, new_figure, styled, unbroken, wrapped
from cskd_tf.evaluation.selective import area_under_risk_coverage, risk_coverage_curve

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
        area = unbroken(f"AURC (× 1000): {mean_and_deviation(areas, digits=2)}")
        labels.append(wrapped(f"{each.name}; {area}", characters=72))
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
