"""t-SNE of embeddings: which images lie beside which (van der Maaten and Hinton, 2008), by openTSNE."""

from collections.abc import Sequence
from typing import Any

import matplotlib.axes
import matplotlib.colors
import matplotlib.figure
import matplotlib.font_manager
import matplotlib.lines
import matplotlib.patheffects
import matplotlib.textpath
import numpy as np
from absl import logging

from cskd_tf.errors import UserError
from cskd_tf.evaluation.figures.style import (
    COLOURS,
    MARKERS,
    boxes_named,
    legend_below,
    legend_height,
    panels,
    shortened,
    styled,
    wrapped,
)

PERPLEXITY = 30  # as scikit-learn and openTSNE have it; papers do not say
IMAGES = 2000  # at most
FEWEST = 5
NAMED = 24  # kinds at most that have their names at their images
NUMBERED = 250  # kinds at most that have a number there, and their names in a key below
SIZE = 3.4  # inches of a panel with names
FONT = matplotlib.font_manager.FontProperties(weight="bold", size=7)  # of names
AROUND = 2.2  # points of white around a letter
LINES = 22 / 3.4  # of names, that an inch of a panel has room for
STEPS = np.linspace(-1, 1, 101)  # by which names are moved, in widths and heights of the panel
NEAR = 0.15  # of these, first
INSTALL = "pip install openTSNE==1.0.4"


def project(embeddings: np.ndarray, *, seed: int = 0, perplexity: float = PERPLEXITY) -> np.ndarray:
    """Places in two dimensions, such that near images stay near; the same ones from the same seed, on one machine.

    Exact neighbours by Euclidean distance, one thread, openTSNE's other defaults. With N images the perplexity is at
    most (N - 1) / 3, which is logged.

    Args:
        embeddings: `[N, D]`, at least 5.
        seed: of the optimisation.
        perplexity: about how many neighbours count, at least 1.

    Returns:
        float64 `[N, 2]`.

    Raises:
        UserError: too few images, embeddings that are not finite or all the same, a perplexity below 1, or no openTSNE.
    """
    embeddings = np.asarray(embeddings, np.float64)
    if embeddings.ndim != 2 or len(embeddings) < FEWEST:
        raise UserError(f"Expected embeddings [N, D] of at least {FEWEST} images. Received: shape {embeddings.shape}")
    if not np.isfinite(embeddings).all():
        raise UserError("Expected finite embeddings. Received: NaN or infinity")
    if (embeddings == embeddings[0]).all():
        raise UserError("Expected embeddings that differ. Received: the same one of all images")
    if perplexity < 1:
        raise UserError(f"Expected a perplexity of at least 1. Received: perplexity={perplexity}")
    if (largest := (len(embeddings) - 1) / 3) < perplexity:
        logging.info("t-SNE of %d images: perplexity %.1f, not %g", len(embeddings), largest, perplexity)
        perplexity = largest
    try:
        import openTSNE
    except ImportError as error:
        raise UserError(f"Expected openTSNE: {INSTALL}. Received: {error}") from error
    options = {"neighbors": "exact", "negative_gradient_method": "bh", "n_jobs": 1}
    return np.asarray(openTSNE.TSNE(perplexity=perplexity, random_state=seed, **options).fit(embeddings))


def chosen_images(count: int, *, seed: int = 0) -> np.ndarray:
    """Sorted indices of all of `count` images, or of 2,000 random ones where there are more."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:IMAGES])


@styled
def scattered(
    places: Sequence[np.ndarray],
    *,
    names: Sequence[str],
    kinds: np.ndarray,
    kind_names: Sequence[str],
    title: str,
) -> matplotlib.figure.Figure:
    """Points by kind, in colours and markers, a panel per name, with a legend.

    The names of up to 24 kinds, or else their numbers in the legend, also stand at the points nearest to the median of
    their own, or, where they would cover each other, beside, with a thin line to the point. They tell kinds apart where
    markers and colours do not: there are 11 markers.

    Figure 3 of the CS-KD paper by class, Figure 2 of its ICLR form by superclass.

    Args:
        places: `[N, 2]` of each name, as of `project`.
        names: of the panels.
        kinds: int `[N]`, of the points.
        kind_names: K of them; those without points are left out.
        title: what stands above the figure.

    Raises:
        UserError: more than 250 kinds.
    """
    present = np.unique(kinds)
    if len(present) > NUMBERED:
        raise UserError(
            f"Expected points of at most {NUMBERED} classes or groups, as more cannot be told apart. "
            f"Received: {len(present)}"
        )
    named = len(present) <= NAMED
    colours = _colours(len(present))
    labels = [shortened(kind_names[kind], characters=24 if named else 16) for kind in present]
    marks = [shortened(label, characters=12) for label in labels]
    if not named:
        marks = [str(number) for number in range(1, len(labels) + 1)]
        labels = [f"{mark} {label}" for mark, label in zip(marks, labels, strict=True)]
    size = SIZE if named else max(5.2 if len(present) <= 100 else 7.8, 10.4 / len(places))
    across = 4 if named else int(15.6 / size)
    width = max(size * min(len(places), across), 4.4)  # inches, with room for 14 letters in each; a marker takes 10
    columns = max(1, min(6 if named else 8, int(14 * width) // (max(map(len, labels)) + 10)))
    below = legend_height(labels, columns=columns)
    figure, axes = panels(len(places), columns=across, size=(size, size), title=title, below=below)
    for axis, name, points in zip(axes, names, places, strict=True):
        for number, kind in enumerate(present):
            own = points[kinds == kind]
            marker = MARKERS[number % len(MARKERS)]
            drawn: dict[str, Any] = {"s": 9, "linewidths": 0, "alpha": 0.75, "rasterized": True}
            axis.scatter(own[:, 0], own[:, 1], color=colours[number], marker=marker, **drawn)
        axis.set_title(wrapped(name, characters=40), fontsize=9)
        axis.set(xticks=[], yticks=[])
        axis.set_box_aspect(1)
        axis.spines[:].set_visible(True)
    handles = [
        matplotlib.lines.Line2D([], [], linestyle="", color=colour, marker=MARKERS[number % len(MARKERS)])
        for number, colour in enumerate(colours)
    ]
    legend_below(figure, handles, labels, columns=columns)
    with boxes_named(None):  # who saves it is told
        figure.draw_without_rendering()  # the layout leaves panels more or less than their size
    for axis, points in zip(axes, places, strict=True):
        inches = axis.get_window_extent().width / figure.dpi
        _write(axis, marks, [points[kinds == kind] for kind in present], size=inches)
    return figure


def _colours(count: int) -> list:
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    return [matplotlib.colormaps["turbo"](number / (count - 1)) for number in range(count)]


def _write(axis: matplotlib.axes.Axes, marks: Sequence[str], points: Sequence[np.ndarray], *, size: float) -> None:
    """Marks at images of their kind, where they can be read without any colour; a thin line leads to what is moved.

    Where a mark would cover most images of its kind, no mark covers these.
    """
    outline = matplotlib.patheffects.withStroke(linewidth=AROUND, foreground="white")
    written: dict[str, Any] = {"fontproperties": FONT, "path_effects": [outline], "clip_on": True}
    images = np.array([own[_central(own)] for own in points])
    low, high = np.transpose([axis.get_xlim(), axis.get_ylim()])
    axis.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))  # what is drawn now moves none of it
    widths = np.array([_width(mark) for mark in marks]) / 72
    sizes = np.stack([widths / size, np.full(len(marks), 1 / (LINES * size))], axis=1)
    anchors = (images - low) / (high - low)
    covered = []
    for own, anchor, box in zip(points, anchors, sizes, strict=True):
        places = (own - low) / (high - low)
        if (np.abs(places - anchor) <= box / 2).all(axis=1).mean() > 0.5:
            covered.append(np.percentile(places, (5, 95), axis=0))
    centres = low + (high - low) * spread(anchors, sizes=sizes, free=np.reshape(covered, (-1, 2, 2)))
    for mark, image, centre in zip(marks, images, centres, strict=True):
        axis.plot(*np.transpose([image, centre]), color="black", linewidth=0.6)
        axis.text(centre[0], centre[1], mark, color="black", ha="center", va="center", **written)


def _width(mark: str) -> float:
    """Of a written name, in points."""
    return matplotlib.textpath.TextPath((0, 0), mark, prop=FONT).get_extents().width + 2 * AROUND


def _central(points: np.ndarray) -> int:
    """Which point is nearest to the median of all, where there may be none."""
    return int(np.linalg.norm(points - np.median(points, axis=0), axis=1).argmin())


def spread(anchors: np.ndarray, *, sizes: np.ndarray, free: np.ndarray | None = None) -> np.ndarray:
    """Centres of boxes in the unit square, each as near to its anchor as it can be without covering those before it.

    Where there is no such place, it is the one at which least is covered.

    Example: two boxes at one place, of which the second goes up or down by its height:
        >>> centres = spread(np.array([[0.5, 0.5], [0.5, 0.5]]), sizes=np.array([[0.4, 0.1], [0.4, 0.1]]))
        >>> centres[0].tolist(), np.abs(centres[1] - centres[0]).round(2).tolist()
        ([0.5, 0.5], [0.0, 0.1])

    Args:
        anchors: `[K, 2]`, from 0 to 1.
        sizes: `[K, 2]`, width and height of each, from 0 to 1.
        free: `[M, 2, 2]`, lowest and highest corner of each box that is not to be covered either.

    Returns:
        float64 `[K, 2]`.
    """
    corners = np.zeros((0, 2, 2)) if free is None else free
    centres, boxes = corners.mean(axis=1), corners[:, 1] - corners[:, 0]
    steps = np.stack(np.meshgrid(STEPS, STEPS), axis=-1).reshape(-1, 2)
    near = NEAR * steps[::3]  # which is cheaper to look through, and as a rule enough
    for anchor, size in zip(anchors, sizes, strict=True):
        for tried in (anchor[None], anchor + near, anchor + steps):
            tried = np.clip(tried, size / 2, 1 - size / 2)
            covered = np.zeros(len(tried))
            for centre, other in zip(centres, boxes, strict=True):
                covered += np.maximum((size + other) / 2 - np.abs(tried - centre), 0).prod(axis=1)
            if not covered.round(9).all():
                break
        distance = np.linalg.norm(tried - anchor, axis=1).round(9)
        centres = np.concatenate([centres, tried[np.lexsort((distance, covered.round(9)))[:1]]])
        boxes = np.concatenate([boxes, size[None]])
    return centres[len(corners) :]
