"""Groups of classes: which are taken for which, and the error within each."""

from collections.abc import Sequence
from typing import Any

import matplotlib.figure
import matplotlib.patches
import numpy as np

from cskd_tf.errors import UserError
from cskd_tf.evaluation.figures.compared import Compared
from cskd_tf.evaluation.figures.confusion import NUMBERED, draw_shares, shares_of, side_of, size_of
from cskd_tf.evaluation.figures.style import (
    legend_below,
    legend_height,
    look,
    new_figure,
    panels,
    shortened,
    styled,
    wrapped,
)
from cskd_tf.evaluation.groups import per_group

DRAWN = 60  # groups at most that are drawn


@styled
def group_confusions(compared: Sequence[Compared], *, groups: Sequence[str], title: str) -> matplotlib.figure.Figure:
    """Confusion matrices of groups, in per cent of a group's images: which group their predicted class is of.

    Figure 4 (a) and (b) of the CS-KD paper. The images of all seeds are counted together.

    Args:
        compared: what is drawn, at least one, a panel each.
        groups: the group of each class, C names, from 2 to 60 different ones.
        title: what stands above the figure.

    Raises:
        UserError: predictions that do not fit, a single group, or too many.
    """
    names = _drawn_names(groups)
    shares = [group_shares(each, groups=groups) for each in compared]
    titles = [wrapped(each.name, characters=int(13 * (side_of(len(names)) + 0.2))) for each in compared]
    width, height = size_of(names)
    height += 0.14 * max(text.count("\n") for text in titles)
    figure, axes = panels(len(compared), columns=max(1, int(17 / width)), size=(width, height), title=title)
    for axis, text, share in zip(axes, titles, shares, strict=True):
        drawn = draw_shares(axis, share, names=names)
        axis.set_title(text, fontsize=9)
        axis.set(xlabel="group of the predicted class", ylabel="group of the image")
    if len(names) > NUMBERED:
        figure.colorbar(drawn, ax=axes, label="% of the group's images", shrink=0.8, aspect=40)
    return figure


@styled
def group_errors(compared: Sequence[Compared], *, groups: Sequence[str], title: str) -> matplotlib.figure.Figure:
    """Top-1 error of the classes of each group, a bar per name.

    Figure 4 (c) of the CS-KD paper. The images of all seeds are counted together.

    Arguments and errors are those of `group_confusions`.
    """
    names, labels = _drawn_names(groups), [wrapped(each.name, characters=80) for each in compared]
    thickness = 0.8 / len(compared)
    height = len(names) * max(0.3, 0.11 * len(compared) + 0.12)
    figure = new_figure(6.0, 1.2 + height + legend_height(labels), title=title)
    axes = figure.subplots()
    patches = []
    for number, each in enumerate(compared):
        errors = 100 * errors_of_groups(each, groups=groups)
        places = np.arange(len(names)) - 0.4 + thickness * (number + 0.5)
        axes.barh(places, np.nan_to_num(errors), thickness, **look(number).of_areas)
        patches.append(matplotlib.patches.Patch(**look(number).of_areas))
        for place, error in zip(places, errors, strict=True):
            text = f" {error:.1f}" if np.isfinite(error) else " no images"
            axes.text(np.nan_to_num(error), place, text, va="center", fontsize=min(8, 4 + 40 * thickness * 0.3))
    axes.set_yticks(range(len(names)), [shortened(name, characters=26) for name in names])
    axes.set(xlabel="top-1 error, %", ylim=(len(names) - 0.45, -0.55))
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    legend_below(figure, patches, labels)
    return figure


def group_names(groups: Sequence[str]) -> list[str]:
    """The different groups, in the order of their first class.

    Raises:
        UserError: a single group.
    """
    names = list(dict.fromkeys(groups))
    if len(names) < 2:
        raise UserError(f"Expected at least two groups of classes. Received: {names}")
    return names


def _drawn_names(groups: Sequence[str]) -> list[str]:
    if len(names := group_names(groups)) > DRAWN:
        raise UserError(f"Expected at most {DRAWN} groups of classes, as more cannot be read. Received: {len(names)}")
    return names


def group_shares(each: Compared, *, groups: Sequence[str]) -> np.ndarray:
    """Which share of the images of group i is taken for group j, `[G, G]`; NaN of a group without images.

    Example:
        >>> from cskd_tf.evaluation.predictions import Predictions
        >>> seed = Predictions(np.array([[0.0, 1, 0], [0, 0, 1], [0, 0, 1]]), np.array([0, 1, 2]), np.zeros((3, 1)))
        >>> group_shares(Compared("", [seed]), groups=["dog", "dog", "bird"]).tolist()
        [[0.5, 0.5], [0.0, 1.0]]

    Raises:
        UserError: predictions or groups that do not fit.
    """
    counted = _counted(each, groups)
    counts = np.sum([seed["confusion"] for seed in counted], axis=0)
    return shares_of(counts)


def errors_of_groups(each: Compared, *, groups: Sequence[str]) -> np.ndarray:
    """Share of the images of each group that are taken for another class, `[G]`; NaN of a group without images."""
    counted = _counted(each, groups)
    images = np.sum([seed["images"] for seed in counted], axis=0)
    errors = np.array([seed["top1_error"] for seed in counted], float)  # NaN for None
    wrong = np.nansum(errors * [seed["images"] for seed in counted], axis=0)
    return np.divide(wrong, images, out=np.full(len(images), np.nan), where=images > 0)


def _counted(each: Compared, groups: Sequence[str]) -> list[dict[str, Any]]:
    """What `per_group` says of each seed."""
    group_names(groups)
    return [per_group(seed.logits, seed.labels, groups=groups) for seed in each.seeds]
