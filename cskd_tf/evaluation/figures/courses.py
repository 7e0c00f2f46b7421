"""What changed over the epochs of training: logged values, and the probabilities of single training images."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.axes
import matplotlib.figure
import matplotlib.ticker
import numpy as np

from cskd_tf.errors import UserError
from cskd_tf.evaluation.figures.style import (
    legend_below,
    legend_height,
    line_handle,
    look,
    panels,
    styled,
    wrapped,
)

Log = Sequence[Mapping[str, Any]]  # an entry per epoch, as log.jsonl has them
# What is drawn of a log, its factor, and what stands beside its axis: of training, and of a split that was evaluated.
LOSS = {"loss": (1, "training loss")}
LEARNING_RATE = {"learning_rate": (1, "learning rate")}
OF_SPLIT = {
    "top1_error": (100, "top-1 error, %"),
    "nll": (1, "NLL, nats"),
    "ece": (100, "ECE, %"),
    "recall_at_1": (100, "R@1, %"),
}
SPLITS = ("val", "test")
HARD = 100  # images, as in the paper
BANDS = 3  # more of them would cover each other


@dataclasses.dataclass(frozen=True)
class ImageHistory:
    """How probable label and prediction of N training images were, of T epochs.

    Attributes:
        epochs: int `[T]`, ascending.
        target: float32 `[T, N]`, probability of the label.
        maximum: float32 `[T, N]`, probability of the predicted class.
        correct: bool `[T, N]`, whether that is the label.
    """

    epochs: np.ndarray
    target: np.ndarray
    maximum: np.ndarray
    correct: np.ndarray


@styled
def training_curves(logs: Mapping[str, Sequence[Log]], *, title: str) -> matplotlib.figure.Figure:
    """Loss, metrics and learning rate over the epochs, a line per name: the mean of its seeds, in the range of these.

    What was evaluated on validation images has panels of its own, apart from those of the test split, as the two cannot
    be compared: a run without validation images is trained on more, and evaluated on others.

    Args:
        logs: of each name the logs of its seeds.
        title: what stands above the figure.

    Raises:
        UserError: no epoch in any log.
    """
    if not any(log for seeds in logs.values() for log in seeds):
        raise UserError("Expected a log of at least one epoch. Received: none, as of imported runs")
    names = [wrapped(name, characters=110) for name in logs]
    evaluated = {_split_of(log) for seeds in logs.values() for log in seeds if log}
    first, *others = [_values_of(split) for split in SPLITS if split in evaluated]
    values = {**LOSS, **first, **LEARNING_RATE}
    columns = len(LOSS) + len(first) if others else 3  # a row of each split, if there are two
    for other in others:
        values |= other
    figure, axes = panels(len(values), columns=columns, size=(3.2, 2.4), title=title, below=legend_height(names))
    for axis, (key, (factor, label)) in zip(axes, values.items(), strict=True):
        for number, seeds in enumerate(logs.values()):
            _draw_seeds(axis, [_series(log, key) for log in seeds if _has(log, key)], factor=factor, number=number)
        axis.set(xlabel="epoch", ylabel=label)
        axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
        if key == "learning_rate":
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
            axis.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    legend_below(figure, [line_handle(number) for number in range(len(names))], names)
    return figure


@styled
def hard_images(histories: Mapping[str, ImageHistory], *, title: str, count: int = HARD) -> matplotlib.figure.Figure:
    """Probabilities of label and prediction of the hardest training images over the epochs.

    Figure 2 of PS-KD: of each name the mean over the images, and of up to three names the middle half of the images.
    The hardest are those that were right in the fewest epochs, counted over all names; the paper takes 100 that were
    right in fewer than a sixth.

    Args:
        histories: of each name that of its run, of the same images.
        title: what stands above the figure.
        count: images, at least 1, or all there are.

    Raises:
        UserError: histories of different numbers of images, or none.
    """
    if len(sizes := {history.correct.shape[1] for history in histories.values()}) != 1:
        raise UserError(f"Expected the log of one set of training images. Received: sets of {sorted(sizes)}")
    hardest = hardest_images(list(histories.values()), count=count)
    logged = sum(len(history.epochs) for history in histories.values())
    right = sum(history.correct[:, hardest].sum(axis=0) for history in histories.values())
    rarely = f"right in at most {right.max()} of {logged} logged epochs"
    heading = f"{title}\n{len(hardest)} training images, {rarely}"
    names = [wrapped(name, characters=84) for name in histories]
    figure, axes = panels(2, columns=2, size=(3.7, 3.0), title=heading, below=legend_height(names))
    for axis, (kind, label) in zip(axes, {"target": "label", "maximum": "predicted class"}.items(), strict=True):
        for number, history in enumerate(histories.values()):
            values, drawn = getattr(history, kind)[:, hardest], look(number)
            if len(histories) <= BANDS:
                low, high = np.quantile(values, (0.25, 0.75), axis=1)
                axis.fill_between(history.epochs, low, high, color=drawn.colour, alpha=0.15, linewidth=0)
            axis.plot(history.epochs, values.mean(axis=1), **_marked(number, len(history.epochs)))
        axis.set(xlabel="epoch", ylabel=f"probability of the {label}", ylim=(0, 1))
        axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    legend_below(figure, [line_handle(number) for number in range(len(names))], names)
    return figure


def hardest_images(histories: Sequence[ImageHistory], *, count: int) -> np.ndarray:
    """Sorted indices of the images that were right in the fewest epochs; of equal ones, the least probable on average.

    Example: of three images, right in both epochs, in one, and in none:
        >>> correct = np.array([[True, False, False], [True, True, False]])
        >>> history = ImageHistory(np.array([1, 2]), np.zeros((2, 3)), np.zeros((2, 3)), correct)
        >>> hardest_images([history], count=2).tolist()
        [1, 2]
    """
    right = sum(history.correct.sum(axis=0) for history in histories)
    target = sum(history.target.mean(axis=0, dtype=np.float64) for history in histories)
    return np.sort(np.lexsort((target, right))[:count])


def _split_of(log: Log) -> str:
    return next((split for split in SPLITS if f"{split}_top1_error" in log[0]), SPLITS[0])


def _values_of(split: str) -> dict[str, tuple[int, str]]:
    return {f"{split}_{key}": (factor, f"{split} {label}") for key, (factor, label) in OF_SPLIT.items()}


def _has(log: Log, key: str) -> bool:
    """Whether a log is of what the key names: an empty one never, and one of another split not."""
    return bool(log) and (key in {**LOSS, **LEARNING_RATE} or key in _values_of(_split_of(log)))


def _series(log: Log, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and values; NaN for what the log has as null, or lacks."""
    values = [np.nan if entry.get(key) is None else entry[key] for entry in log]
    return np.array([entry["epoch"] for entry in log]), np.array(values, float)


def _draw_seeds(
    axis: matplotlib.axes.Axes, series: Sequence[tuple[np.ndarray, np.ndarray]], *, factor: float, number: int
) -> None:
    """The mean over seeds of those epochs that all have, and the range between the lowest and the highest."""
    if not series:
        return
    length = min(len(epochs) for epochs, _ in series)
    epochs, values = series[0][0][:length], factor * np.stack([own[:length] for _, own in series])
    axis.plot(epochs, values.mean(axis=0), **_marked(number, length))
    if len(series) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        axis.fill_between(epochs, low, high, color=look(number).colour, alpha=0.15, linewidth=0)


def _marked(number: int, points: int) -> dict[str, Any]:
    """Keyword arguments of `Axes.plot`: a marker at some of the points, at others than the next line has."""
    every = max(1, points // 8)
    drawn = look(number)
    return {**drawn.of_lines, "marker": drawn.marker, "markersize": 4.5, "markevery": (number % every, every)}
