"""How far a metric would move on other images of the same kind: bootstrap intervals."""

from collections.abc import Callable, Mapping

import numpy as np

from cskd_tf.errors import UserError

RESAMPLES = 1000
LEVEL = 0.95


def resampled(
    statistic: Callable[[np.ndarray], Mapping[str, float]], size: int, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, np.ndarray]:
    """The statistic of `resamples` draws of the images with replacement (Efron, 1979).

    Example:
        >>> values = np.array([0.0, 1.0])
        >>> drawn = resampled(lambda chosen: {"mean": values[chosen].mean()}, 2, resamples=100)
        >>> sorted(set(drawn["mean"].tolist()))
        [0.0, 0.5, 1.0]

    Args:
        statistic: of the images at some indices, int `[size]`, a number per name.
        size: how many images there are.
        resamples: at least 1.
        seed: of the draws: the same images are drawn whatever the statistic is.

    Returns:
        `[resamples]` per name.

    Raises:
        UserError: no resamples, or no images.
    """
    if not isinstance(resamples, int | np.integer) or resamples < 1 or size < 1:
        raise UserError(f"Expected at least one resample of at least one image. Received: {resamples=}, {size=}")
    generator = np.random.default_rng(seed)
    drawn = [statistic(generator.integers(size, size=size)) for _ in range(resamples)]
    return {name: np.array([values[name] for values in drawn]) for name in drawn[0]}


def interval(values: np.ndarray, *, level: float = LEVEL, figure: float | None = None) -> list[float] | None:
    """The middle `level` of what was resampled: the percentile interval.

    A calibration error takes each bin's chance deviations for errors, and of drawn images, which repeat, there are more
    of these: what was resampled lies above the figure that it is of, which of a calibrated network may be below the
    whole interval. With `figure` what was resampled is moved so that its mean is the figure.

    Example:
        >>> [round(end, 6) for end in interval(np.linspace(0, 1, 101))], interval(np.array([0.5, np.nan]))
        ([0.025, 0.975], None)
        >>> interval(np.linspace(0.2, 0.4, 101), figure=0.25)[0].__round__(6)
        0.155

    Args:
        values: `[resamples]`.
        level: a fraction.
        figure: of all images, of a metric with such a bias; None: nothing is moved.

    Returns:
        Its lower and its upper end; None where the metric is undefined in one of the resamples.
    """
    tail = (1 - level) / 2
    if np.isnan(values).any():
        return None
    moved = values if figure is None else values + (figure - values.mean())
    return np.quantile(moved, [tail, 1 - tail]).tolist()
