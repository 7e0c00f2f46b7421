"""Recall among nearest neighbours: as exact as float64 differences, at the speed of float32 products.

All distances are first read off a matrix product in float32, as scores `-|x - y|^2 / 2`. Its error has a proven bound,
so most images are decided by it. For the other images all candidates, few as a rule, are compared again by direct
differences in float64. Memory beyond the embeddings: a float32 copy of them, and about 0.5 GiB whatever their number.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from cskd_tf.errors import UserError

BLOCK = 2048  # rows, and columns, of one matrix product
SCORES = 2**24  # scores in memory at once, where rows meet all columns
DIFFERENCES = 2**19  # numbers of direct differences in memory at once


def alone_in_class(labels: ArrayLike) -> int:
    """How many images are the only one of their class: `recall_at_k` leaves them out.

    Example:
        >>> alone_in_class([0, 0, 1, 2])
        2

    Args:
        labels: int `[N]`.

    Returns:
        Images, from 0 to N.
    """
    return int((np.unique(labels, return_counts=True)[1] == 1).sum())


def recall_at_k(embeddings: ArrayLike, labels: ArrayLike, *, k: int = 1) -> float:
    """Share of images with another image of their class among the k nearest others, by L2 distance of embeddings.

    An image that is alone in its class has nothing to find and is left out of the average, though it stays a neighbour
    of the others. Images at equal distance count as in a random order: where only some of them are among the k nearest,
    an image counts with the probability that one of its class is. Distances are those of float64, whatever the
    embeddings are.

    Example:
        The first two images find each other, the third is alone in its class. In the second case the first image has
        one of each class at distance 1 and counts 1/2, the second image counts 1 and the other two count 0.

        >>> recall_at_k([[0], [1], [3]], [0, 0, 1])
        1.0
        >>> recall_at_k([[0], [1], [-1], [9]], [0, 0, 1, 1])
        0.375

    Args:
        embeddings: `[N, D]`, finite numbers of any type.
        labels: int `[N]`.
        k: from 1 to N - 1.

    Returns:
        A fraction in [0, 1]; NaN where every image is alone in its class, and the share is undefined.

    Raises:
        UserError: shapes, labels or k that do not fit, or values that are not finite.
    """
    embeddings, labels = _check(embeddings, labels, k)
    labels, class_sizes = np.unique(labels, return_inverse=True, return_counts=True)[1:]
    points = _equal_rows(embeddings)
    # Images of one class with one embedding have one entry: a collapsed network returns thousands of them.
    _, first, counts = np.unique(labels * len(labels) + points, return_index=True, return_counts=True)
    entries = _Entries.of(embeddings, first, labels=labels[first], counts=counts)
    has_mates = class_sizes[entries.labels] > 1
    if not has_mates.any():
        return float("nan")
    shares = np.zeros(len(counts))  # of each entry the probability that an image of its class is among the k nearest
    if k == 1:
        copies = np.bincount(points)[points[first]] - 1  # other images at distance 0 from an entry's image
        shares[copies > 0] = ((counts - 1)[copies > 0]) / copies[copies > 0]
        pending = np.flatnonzero(has_mates & (copies == 0))
        if 2 * len(pending) > len(counts):  # else products of the pending rows alone are fewer than half of all
            pending = _decide_nearest(entries, pending, shares)
    else:
        pending = np.flatnonzero(has_mates)
    for dtype in (np.float32, np.float64):
        pending = _decide(entries, pending, shares, k=k, dtype=dtype)
    return float(np.average(shares[has_mates], weights=counts[has_mates]))


def _check(embeddings: ArrayLike, labels: ArrayLike, k: int) -> tuple[np.ndarray, np.ndarray]:
    embeddings, labels = np.asarray(embeddings), np.asarray(labels)
    if embeddings.dtype.kind != "f":
        embeddings = embeddings.astype(np.float64)
    if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1] or not embeddings.shape[1]:
        raise UserError(
            f"Expected embeddings [N, D] and labels [N]. Received: shapes {embeddings.shape} and {labels.shape}"
        )
    if labels.dtype.kind not in "bui":
        raise UserError(f"Expected integer labels. Received: {labels.dtype}")
    if not np.isfinite(embeddings).all():
        raise UserError("Expected finite embeddings. Received: NaN or infinity")
    if not 1 <= k < len(labels):
        raise UserError(f"Expected k from 1 to {len(labels) - 1}, the number of other images. Received: k={k}")
    return embeddings, labels


def _equal_rows(embeddings: np.ndarray) -> np.ndarray:
    """A number per row, the same for equal rows."""
    numbers: dict[bytes, int] = {}
    # + 0 turns negative zeros into zeros, which are equal to them but have other bytes.
    digests = (hashlib.blake2b((row + 0).tobytes(), digest_size=16).digest() for row in embeddings)
    return np.array([numbers.setdefault(digest, len(numbers)) for digest in digests])


def _blocks(length: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, length)) for start in range(0, length, size))


@dataclasses.dataclass
class _Entries:
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
    def of(cls, embeddings: np.ndarray, images: np.ndarray, *, labels: np.ndarray, counts: np.ndarray) -> "_Entries":
        """The entries with their scale, centre and spread."""
        entries = cls(embeddings, images, labels, counts)
        entries.scale = _inverse_power_of_two(max(float(embeddings.max()), -float(embeddings.min())))
        blocks = [images[block] for block in _blocks(len(images), BLOCK)]
        entries.centre = sum(entries.exact(block).sum(axis=0) for block in blocks) / len(images)
        farthest = max(np.linalg.norm(entries.exact(block) - entries.centre, axis=1).max() for block in blocks)
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
        for block in _blocks(len(result), BLOCK):
            result[block] = self._factors(block, np.float32)
        return result

    @functools.cached_property
    def norms(self) -> np.ndarray:
        """Distances of all entries from the centre, `[M]`."""
        return np.sqrt(-2 * self._single[:, -1].astype(np.float64))

    def distances(self, entry: int, others: np.ndarray) -> np.ndarray:
        """Squared distances from one entry to others, by direct differences."""
        embedding = self.exact(self.images[[entry]])
        size = max(1, DIFFERENCES // embedding.shape[1])
        differences = (self.exact(self.images[others[block]]) - embedding for block in _blocks(len(others), size))
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


def _errors(entries: _Entries, rows: np.ndarray, scores: np.ndarray, dtype: type[np.floating]) -> np.ndarray:
    """By how much a score of each row may be off, if the score, computed or exact, is at least as large as `scores`.

    With r and s the norms of x and y, a product of n numbers in any order is off by at most
    `n u / (1 - n u) * (r s + r^2/2 + s^2/2)` (Higham, Accuracy and Stability of Numerical Algorithms, 3.1), u the unit
    roundoff; rounding x, y and their norms to the type adds less than eight to n. That is `e = c (r + s)^2 / 2`. For
    the distance d, `s <= r + d` and `d^2 <= -2 score + 2 e`, so `(2r + d) (1 - sqrt(c)) <= 2r + sqrt(-2 score)`: an
    entry that lies far away, and has large errors, is not among the nearest.

    Args:
        entries: all of them.
        rows: the entries whose scores are asked about, `[R]`.
        scores: the smallest score that matters, of each row, float64 `[R]`.
        dtype: in which the products are computed.

    Returns:
        float64 `[R]`, in the unit of the scores.
    """
    norms, numbers = entries.norms[rows], entries.embeddings.shape[1] + 2 + 8
    relative = numbers * float(np.finfo(dtype).eps) / 2
    relative /= 1 - relative
    reach = (2 * norms + np.sqrt(2 * np.maximum(-scores, 0))) / (1 - np.sqrt(relative))
    underflow = 4 * numbers * float(np.finfo(dtype).tiny)
    return relative / 2 * np.minimum(norms + entries.norms.max(), reach) ** 2 + underflow


def _decide_nearest(entries: _Entries, pending: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Writes into `shares` whether the nearest entry is of the class, where float32 can tell.

    Distances are symmetric: of each pair of blocks one product serves the rows of both.

    Returns:
        The pending entries for which it cannot tell.
    """
    others, own = 0, 1
    best = np.full((2, len(shares)), -np.inf, np.float32)

    def keep_best(kind: int, scores: np.ndarray, rows: slice, columns: slice) -> None:
        np.maximum(best[kind, rows], scores.max(axis=1), out=best[kind, rows])
        np.maximum(best[kind, columns], scores.max(axis=0), out=best[kind, columns])

    for columns in _blocks(len(shares), BLOCK):
        right = _swap(entries.factors(columns, np.float32))
        for rows in _blocks(columns.stop, BLOCK):
            scores = entries.factors(rows, np.float32) @ right.T
            if rows == columns:
                np.fill_diagonal(scores, -np.inf)
            same = entries.labels[rows, None] == entries.labels[columns]
            if same.any():
                keep_best(own, np.where(same, scores, np.float32(-np.inf)), rows, columns)
                scores[same] = -np.inf
            keep_best(others, scores, rows, columns)
    best = best[:, pending].astype(np.float64)
    decided = np.abs(best[own] - best[others]) > 2 * _errors(entries, pending, best.max(axis=0), np.float32)
    shares[pending[decided]] = (best[own] > best[others])[decided]
    return pending[~decided]


def _decide(
    entries: _Entries, pending: np.ndarray, shares: np.ndarray, *, k: int, dtype: type[np.floating]
) -> np.ndarray:
    """Writes into `shares` those of pending entries.

    Returns:
        The entries that have too many candidates in float32; none in float64.
    """
    total = len(shares)
    several = max(total // 8, 2 * k)  # with more candidates, products in float64 cost less than differences
    undecided = []
    for block in _blocks(len(pending), max(1, SCORES // total)):
        rows = pending[block]
        scores, thresholds = _scores_and_thresholds(entries, rows, k=k, dtype=dtype)
        for row, row_scores, threshold in zip(rows, scores, thresholds, strict=True):
            candidates = np.flatnonzero(row_scores >= threshold)
            counts = entries.counts[candidates] - (candidates == row)
            own = entries.labels[candidates] == entries.labels[row]
            if (own | (counts == 0)).all() or not (own & (counts > 0)).any():
                shares[row] = own[counts > 0].any()
            elif len(candidates) <= several or dtype == np.float64:
                shares[row] = _share(entries.distances(row, candidates), own, counts, k=k)
            else:
                undecided.append(row)
    return np.array(undecided, int)


def _scores_and_thresholds(
    entries: _Entries, rows: np.ndarray, *, k: int, dtype: type[np.floating]
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of some entries with all, `[R, M]`, and of each row the score from which on entries are candidates, `[R]`.

    Candidates are all entries that may be among the k nearest, or as near as the last of them. The k + 1 largest scores
    count the entry itself; entries that stand for several images make the k nearest fewer, never more.
    """
    total = len(entries.images)
    factors, scores = entries.factors(rows, dtype), np.empty((len(rows), total), dtype)
    for columns in _blocks(total, BLOCK):
        scores[:, columns] = factors @ _swap(entries.factors(columns, dtype)).T
    scores[np.arange(len(rows)), rows] = np.inf
    last = max(0, total - k - 1)
    smallest = np.partition(scores, last, axis=1)[:, last].astype(np.float64)
    smallest -= 2 * _errors(entries, rows, smallest, dtype)
    # The next smaller number, lest the rounding to the type excludes a candidate.
    return scores, np.nextafter(smallest.astype(dtype), dtype(-np.inf))


def _share(distances: np.ndarray, own: np.ndarray, counts: np.ndarray, *, k: int) -> float:
    """The probability that one of the k nearest images is of the class, those at equal distance in a random order.

    Example:
        One image of the class among three at the same distance is the nearest in one order of three.

        >>> distances, own, counts = np.array([0.0, 4.0, 4.0]), np.array([True, True, False]), np.array([0, 1, 2])
        >>> round(_share(distances, own, counts, k=1), 6)
        0.333333

    Args:
        distances: from the image to each candidate, `[K]`.
        own: whether the candidate is of the image's class, bool `[K]`.
        counts: how many images each candidate stands for, without the image itself, `[K]`.
        k: how many images are nearest.
    """
    order = np.argsort(distances)
    farthest = distances[order[np.searchsorted(np.cumsum(counts[order]), k)]]
    nearer, tied = distances < farthest, distances == farthest
    if counts[nearer & own].any():
        return 1.0
    places, images, mates = k - counts[nearer].sum(), counts[tied].sum(), counts[tied & own].sum()
    # 1 less the probability that none of the mates is drawn, for one of the remaining places after the other.
    drawn = np.arange(places)
    return float(1 - np.prod((images - mates - drawn) / (images - drawn)))
