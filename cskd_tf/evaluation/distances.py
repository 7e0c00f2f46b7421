"""Distances among the embeddings of a split: quickly, with a bound of the error, or by differences in float64.

Quick ones are scores `-|x - y|^2 / 2`, read off a matrix product. The bound of their error is proven.
"""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

BLOCK = 2048  # rows, and columns, of one matrix product
DIFFERENCES = 2**19  # numbers of direct differences in memory at once


def blocks(length: int, size: int) -> Iterator[slice]:
    """Slices of `size`, the last one shorter, of what has a length.

    Example:
        >>> list(blocks(5, 2))
        [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return (slice(start, min(start + size, length)) for start in range(0, length, size))


@dataclasses.dataclass
class Entries:
    """The images sorted by class, where those of one class with equal embeddings share one entry.

    Attributes:
        embeddings: of all images, `[N, D]`.
        images: of each entry, the row in `embeddings`, `[M]`.
        labels: of each entry, `[M]`, ascending.
        counts: how many images each entry stands for, `[M]`.
        scale: a power of two that brings the largest number near 1: squares neither overflow nor underflow.
        centre: about the mean of the scaled embeddings, `[D]`: a common offset would cost float32 its digits.
        spread: a power of two that brings the largest distance from the centre to at most 1.
    """

    embeddings: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    counts: np.ndarray
    scale: float = 1.0
    centre: np.ndarray | float = 0.0
    spread: float = 1.0

    @classmethod
    def of(cls, embeddings: np.ndarray, images: np.ndarray, *, labels: np.ndarray, counts: np.ndarray) -> "Entries":
        """The entries with their scale, centre and spread."""
        entries = cls(embeddings, images, labels, counts)
        entries.scale = _inverse_power_of_two(max(float(embeddings.max()), -float(embeddings.min())))
        parts = [images[block] for block in blocks(len(images), BLOCK)]
        entries.centre = sum(entries.exact(part).sum(axis=0) for part in parts) / len(images)
        farthest = max(np.linalg.norm(entries.exact(part) - entries.centre, axis=1).max() for part in parts)
        entries.spread = _inverse_power_of_two(farthest)
        return entries

    def exact(self, images: np.ndarray) -> np.ndarray:
        """The embeddings of some images, scaled, in float64: the scale is a power of two, so no digit is lost."""
        return self.embeddings[images].astype(np.float64) * self.scale

    def factors(self, chosen: slice | np.ndarray, dtype: type[np.floating]) -> np.ndarray:
        """Rows `[x, 1, -|x|^2 / 2]` of the chosen entries' centred embeddings x.

        The product of such a row with another one, whose last two numbers are swapped, is the score of the two.
        """
        return self._single[chosen] if dtype == np.float32 else self._factors(chosen, dtype)

    def _factors(self, chosen: slice | np.ndarray, dtype: type[np.floating]) -> np.ndarray:
        centred = ((self.exact(self.images[chosen]) - self.centre) * self.spread).astype(dtype)
        halves = np.square(centred, dtype=np.float64).sum(axis=1, keepdims=True) / -2
        return np.concatenate([centred, np.ones_like(halves, dtype), halves.astype(dtype)], axis=1)

    @functools.cached_property
    def _single(self) -> np.ndarray:
        """The factors of all entries in float32, computed once."""
        result = np.empty((len(self.images), self.embeddings.shape[1] + 2), np.float32)
        for block in blocks(len(result), BLOCK):
            result[block] = self._factors(block, np.float32)
        return result

    def block_scores(self) -> Iterator[tuple[slice, slice, np.ndarray]]:
        """Rows, columns and their scores in float32, of each pair of blocks once: scores are symmetric."""
        for columns in blocks(len(self.images), BLOCK):
            right = _swap(self.factors(columns, np.float32))
            for rows in blocks(columns.stop, BLOCK):
                yield rows, columns, self.factors(rows, np.float32) @ right.T

    def scores(self, rows: np.ndarray, dtype: type[np.floating]) -> np.ndarray:
        """Scores of some entries with all, `[R, M]`."""
        factors, scores = self.factors(rows, dtype), np.empty((len(rows), len(self.images)), dtype)
        for columns in blocks(len(self.images), BLOCK):
            scores[:, columns] = factors @ _swap(self.factors(columns, dtype)).T
        return scores

    @functools.cached_property
    def norms(self) -> np.ndarray:
        """Distances of all entries from the centre, `[M]`."""
        return np.sqrt(-2 * self._single[:, -1].astype(np.float64))

    def errors(self, rows: np.ndarray, scores: np.ndarray, dtype: type[np.floating]) -> np.ndarray:
        """By how much a score of each row may be off, if the score, computed or exact, is at least that of `scores`.

        With r and s the norms of x and y, a product of n numbers in any order is off by at most
        `n u / (1 - n u) * (r s + r^2/2 + s^2/2)` (Higham, Accuracy and Stability of Numerical Algorithms, 3.1), u the
        unit roundoff; rounding x, y and their norms to the type adds less than eight to n. That is
        `e = c (r + s)^2 / 2`. For the distance d, `s <= r + d` and `d^2 <= -2 score + 2 e`, so
        `(2r + d) (1 - sqrt(c)) <= 2r + sqrt(-2 score)`: an entry that lies far away, and has large errors, is not among
        the nearest.

        Args:
            rows: the entries whose scores are asked about, `[R]`.
            scores: the smallest score that matters, of each row, float64 `[R]`.
            dtype: in which the products are computed.

        Returns:
            float64 `[R]`, in the unit of the scores.
        """
        norms, numbers = self.norms[rows], self.embeddings.shape[1] + 2 + 8
        relative = numbers * float(np.finfo(dtype).eps) / 2
        relative /= 1 - relative
        reach = (2 * norms + np.sqrt(2 * np.maximum(-scores, 0))) / (1 - np.sqrt(relative))
        underflow = 4 * numbers * float(np.finfo(dtype).tiny)
        return relative / 2 * np.minimum(norms + self.norms.max(), reach) ** 2 + underflow

    def distances(self, entry: int, others: np.ndarray) -> np.ndarray:
        """Squared distances from one entry to others, by direct differences."""
        embedding = self.exact(self.images[[entry]])
        size = max(1, DIFFERENCES // embedding.shape[1])
        differences = (self.exact(self.images[others[block]]) - embedding for block in blocks(len(others), size))
        return np.concatenate([np.square(rows).sum(axis=1) for rows in differences])


def _inverse_power_of_two(value: float) -> float:
    """The power of two by which a value is multiplied to lie above 1/2 and at most at 1, without a lost digit.

    Example:
        >>> _inverse_power_of_two(6.0), _inverse_power_of_two(0.0)
        (0.125, 1.0)
    """
    return float(np.ldexp(1.0, min(-int(np.frexp(value)[1]), 1000))) if value else 1.0


def _swap(factors: np.ndarray) -> np.ndarray:
    """The rows with their last two numbers swapped."""
    return np.concatenate([factors[:, :-2], factors[:, :-3:-1]], axis=1)
