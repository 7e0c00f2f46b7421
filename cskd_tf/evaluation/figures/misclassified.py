"""What networks say of images that they get wrong: log-probabilities, and the five most probable classes."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib.axes
import matplotlib.figure
import matplotlib.patches
import matplotlib.ticker
import numpy as np

from cskd_tf.errors import UserError
from cskd_tf.evaluation.figures.compared import Compared, labels_of_all, wrong_in_all
from cskd_tf.evaluation.figures.style import (
    GUIDE_COLOUR,
    legend_below,
    legend_height,
    line_handle,
    look,
    new_figure,
    panels,
    shortened,
    styled,
    wrapped,
)
from cskd_tf.evaluation.scores import log_probabilities, softmax

IMAGES, METHODS = 4, 4  # rows and columns of top_five at most


@styled
def log_probability_histograms(
    compared: Sequence[Compared], *, title: str, bins: int | None = None
) -> matplotlib.figure.Figure:
    """Histograms of the log-probabilities of predicted and true class, of images that all take for another class.

    Figure 2 of the CS-KD paper. Of each name the first seed is drawn.

    Args:
        compared: what is drawn, at least one, of the same images.
        title: what stands above the figure.
        bins: of each histogram; else about twice the root of the number of images, at most 25.

    Raises:
        UserError: predictions of different images, or none that all get wrong.
    """
    wrong = wrong_in_all(compared)
    if not len(wrong):
        raise UserError("Expected an image that all get wrong. Received: none")
    labels = labels_of_all(compared)[wrong]
    names = [wrapped(each.name, characters=90) for each in compared]
    images = "1 image" if len(wrong) == 1 else f"{len(wrong)} images"
    heading = f"{title}\n{images} that {'it gets' if len(compared) == 1 else 'all of them get'} wrong"
    figure, axes = panels(2, columns=2, size=(3.9, 3.0), title=heading, below=legend_height(names))
    logs = [log_probabilities(each.seeds[0].logits[wrong].astype(np.float64)) for each in compared]
    kinds = {
        "predicted class": [values.max(axis=1) for values in logs],
        "true class": [values[np.arange(len(wrong)), labels] for values in logs],
    }
    bins = bins or min(25, math.ceil(2 * math.sqrt(len(wrong))))
    for axis, (kind, samples) in zip(axes, kinds.items(), strict=True):
        edges = _edges(np.concatenate(samples), bins)
        for number, values in enumerate(samples):
            drawn = look(number)
            count, _ = np.histogram(values, edges)
            axis.stairs(count, edges, edgecolor=drawn.colour, linestyle=drawn.line, linewidth=1.6)
            axis.plot([np.median(values)], [0], color=drawn.colour, marker=drawn.marker, markersize=6, clip_on=False)
        axis.set(xlabel=f"log-probability of the {kind}, nats", ylabel="images", ylim=(0, None))
        axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6))
        axis.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    for number, name in enumerate(names):
        medians = " and ".join(f"{np.median(values[number]):z.2f}" for values in kinds.values())
        names[number] = f"{name}: medians {medians}"
    legend_below(figure, [line_handle(number) for number in range(len(names))], names)
    return figure


@styled
def top_five(
    compared: Sequence[Compared],
    *,
    indices: np.ndarray,
    images: np.ndarray,
    class_names: Sequence[str],
    title: str,
) -> matplotlib.figure.Figure:
    """Images, and beside each the five most probable classes of each name; the true class is hatched.

    Figure 1 (b) of the CS-KD paper, Figure 4 of PS-KD. Of each name the first seed is drawn, and of the names the first
    four. The images are those that all get wrong, of which the first name is most confident; where these are fewer than
    four, further ones that it gets wrong, and then those that it is least sure of.

    Args:
        compared: of the same images, at least one.
        indices: int `[n]`, which of the images of the predictions there are pictures of.
        images: uint8 `[n, H, W, C]`.
        class_names: C of them.
        title: what stands above the figure.

    Raises:
        UserError: predictions of different images, or no pictures.
    """
    compared = compared[:METHODS]
    labels = labels_of_all(compared)
    chosen = _most_telling(compared, indices)
    if not len(chosen):
        raise UserError("Expected pictures of some images. Received: none")
    columns = 1 + len(compared)
    figure = new_figure(2.0 + 3.4 * len(compared), 0.9 + 1.9 * len(chosen), title=title)
    grid = figure.subplots(len(chosen), columns, squeeze=False, width_ratios=[1.6, *[2.0] * len(compared)])
    for row, place in zip(grid, chosen, strict=True):
        index = indices[place]
        true = labels[index]
        picture = images[place]
        row[0].imshow(picture[..., 0] if picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=255)
        row[0].set(xticks=[], yticks=[])
        row[0].set_xlabel(wrapped(f"true: {shortened(class_names[true], characters=44)}", characters=20), fontsize=8)
        row[0].spines[:].set_visible(False)
        for axis, each in zip(row[1:], compared, strict=True):
            _bars(axis, softmax(each.seeds[0].logits[index][None].astype(np.float64))[0], true, class_names)
    for axis, each in zip(grid[0][1:], compared, strict=True):
        axis.set_title(wrapped(each.name, characters=28), fontsize=9)
    for axis in grid[-1][1:]:
        axis.set_xlabel("probability")
    handles = [matplotlib.patches.Patch(**_of_bar(is_true=is_true)) for is_true in (True, False)]
    legend_below(figure, handles, ["true class", "another class"], columns=2)
    return figure


def _edges(values: np.ndarray, bins: int) -> np.ndarray:
    """Of bins over all values; where these differ by rounding alone, which NumPy refuses, over one nat about them."""
    low, high = values.min(), values.max()
    return np.histogram_bin_edges(values, bins, (low - 0.5, high + 0.5) if high - low < 1e-9 else (low, high))


def _most_telling(compared: Sequence[Compared], indices: np.ndarray) -> np.ndarray:
    """Places in `indices` of the images that are drawn."""
    first = compared[0].seeds[0]
    confidence = softmax(first.logits[indices].astype(np.float64)).max(axis=1)
    wrong = first.logits[indices].argmax(axis=1) != first.labels[indices]
    in_all = np.isin(indices, wrong_in_all(compared))
    order = np.lexsort((np.where(wrong, -confidence, confidence), ~wrong, ~in_all))
    return order[:IMAGES]


def _of_bar(*, is_true: bool) -> dict[str, Any]:
    drawn = look(1) if is_true else look(0)
    return {**drawn.of_areas, "facecolor": drawn.colour if is_true else GUIDE_COLOUR}


def _bars(axis: matplotlib.axes.Axes, probabilities: np.ndarray, true: int, class_names: Sequence[str]) -> None:
    """The five largest of probabilities `[C]`, the largest on top."""
    best = np.argsort(-probabilities, kind="stable")[:5]
    for place, number in enumerate(best):
        axis.barh(place, probabilities[number], 0.8, **_of_bar(is_true=number == true))
    axis.set(xlim=(0, 1), ylim=(len(best) - 0.4, -0.6))
    first, _, last = axis.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    first.label1.set_horizontalalignment("left")  # within the panel, apart from those of its neighbours
    last.label1.set_horizontalalignment("right")
    axis.set_yticks(range(len(best)), [shortened(class_names[number], characters=20) for number in best], fontsize=7)
    axis.tick_params(axis="y", length=0)
