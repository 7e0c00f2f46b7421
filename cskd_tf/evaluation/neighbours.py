"""Recall among nearest neighbours: as exact as float64 differences, at the speed of float32 products.

All distances are first read off a matrix product in float32, as scores `-|x - y|^2 / 2`. Its error has a proven bound,
so most images are decided by it; of the others the candidates, few as a rule, are compared again by direct differences
in float64. Beyond the embeddings it needs a float32 copy of them and about 0.5 GiB, whatever they are.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator

import numpy as np

from cskd_tf.errors import UserError

BLOCK = 2048  # rows, and columns, of one product
SCORES = 2**24  # in memory at once, where rows meet all columns
DIFFERENCES = 2**19  # in memory at once


def alone_in_class(labels) -> int:
    """How many images are the only one of their class: `recall_at_k` leaves them out.

    Example: of labels `[0, 0, 1, 2]` there are 2.

    Args:
        labels: int `[N]`.
    """
    return int((np.unique(labels, return_counts=True)[1] == 1).sum())


def recall_at_k(embeddings, labels, *, k: int = 1) -> float:
    """Share of images with another image of their class among the k nearest others, by L2 distance of embeddings.

    An image that is alone in its class has nothing to find and is left out of the average, though others may find it.
    Images at equal distance count as in a random order: with some of them beyond the k nearest, an image counts with
    the probability that one of its class is within. Distances are those of float64, whatever the embeddings are.

    Example: embeddings `[[0], [1], [3]]` with labels `[0, 0, 1]` have R@1 1. With `[[0], [1], [-1], [9]]` and labels
    `[0, 0, 1, 1]`, the first image has one of each class beside it and counts 1/2, the second 1 and the others 0: .375.

    Args:
        embeddings: `[N, D]`, finite numbers of any type.
        labels: int `[N]`.
        k: from 1 to N - 1.

    Returns:
        NaN where every image is alone in its class: the share is undefined.

    Raises:
        ValueError: shapes, labels or k that do not fit, or values that are not finite.
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
    shares = np.zeros(len(counts))
    if k == 1:
        copies = np.bincount(points)[points[first]] - 1  # at distance 0 from an entry's image
        shares[copies > 0] = ((counts - 1)[copies > 0]) / copies[copies > 0]
        pending = np.flatnonzero(has_mates & (copies == 0))
        if 2 * len(pending) > len(counts):  # else half of all products are more than theirs
            pending = _decide_nearest(entries, pending, shares)
    else:
        pending = np.flatnonzero(has_mates)
    for dtype in (np.float32, np.float64):
        pending = _decide(entries, pending, shares, k=k, dtype=dtype)
    return float(np.average(shares[has_mates], weights=counts[has_mates]))


def _check(embeddings, labels, k: int) -> tuple[np.ndarray, np.ndarray]:
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
    """A number for each row, the same for equal rows."""
    numbers = {}
    # + 0 makes zeros of negative zeros.
    digests = (hashlib.blake2b((row + 0).tobytes(), digest_size=16).digest() for row in embeddings)
    return np.array([numbers.setdefault(digest, len(numbers)) for digest in digests])


def _blocks(length: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, length)) for start in range(0, length, size))


@dataclasses.dataclass
class _Entries:
    """Images, sorted by class, those of one class with one embedding as one.

    Attributes:
        embeddings: of all images.
        images: of each entry, the row in `embeddings`, `[M]`.
        labels: `[M]`, ascending.
        counts: how many images each entry stands for, `[M]`.
        scale: a power of two, by which the largest embedding comes near 1: squares neither overflow nor underflow.
        centre: about the mean of the scaled embeddings, `[D]`: a common offset would cost float32 its digits.
        spread: a power of two, by which the largest distance from the centre comes to at most 1.
    """

    embeddings: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    counts: np.ndarray
    scale: float = 1.0
    centre: np.ndarray | float = 0.0
    spread: float = 1.0

    @classmethod
    def of(cls, embeddings, images, *, labels, counts) -> "_Entries":
        entries = cls(embeddings, images, labels, counts)
        entries.scale = _inverse_power_of_two(max(float(embeddings.max()), -float(embeddings.min())))
        blocks = [images[block] for block in _blocks(len(images), BLOCK)]
        entries.centre = sum(entries.exact(block).sum(axis=0) for block in blocks) / len(images)
        farthest = max(np.linalg.norm(entries.exact(block) - entries.centre, axis=1).max() for block in blocks)
        entries.spread = _inverse_power_of_two(farthest)
        return entries

    def exact(self, images: np.ndarray) -> np.ndarray:
        """Scaled embeddings in float64, of which differences are taken: no digit is lost."""
        return self.embeddings[images].astype(np.float64) * self.scale

    def factors(self, chosen, dtype) -> np.ndarray:
        """Rows `[x, 1, -|x|^2 / 2]` of centred embeddings x: with the last two swapped, products are the scores."""
        return self._single[chosen] if dtype == np.float32 else self._factors(chosen, dtype)

    def _factors(self, chosen, dtype) -> np.ndarray:
        centred = ((self.exact(self.images[chosen]) - self.centre) * self.spread).astype(dtype)
        halves = np.square(centred, dtype=np.float64).sum(axis=1, keepdims=True) / -2
        return np.concatenate([centred, np.ones_like(halves, dtype), halves.astype(dtype)], axis=1)

    @functools.cached_property
    def _single(self) -> np.ndarray:
        result = np.empty((len(self.images), self.embeddings.shape[1] + 2), np.float32)
        for block in _blocks(len(result), BLOCK):
            result[block] = self._factors(block, np.float32)
        return result

    @functools.cached_property
    def norms(self) -> np.ndarray:
        return np.sqrt(-2 * self._single[:, -1].astype(np.float64))

    def distances(self, entry: int, others: np.ndarray) -> np.ndarray:
        """Squared distances from one entry to others, by direct differences."""
        own = self.exact(self.images[[entry]])
        size = max(1, DIFFERENCES // own.shape[1])
        parts = [self.exact(self.images[others[block]]) - own for block in _blocks(len(others), size)]
        return np.concatenate([np.square(part).sum(axis=1) for part in parts])


def _inverse_power_of_two(value: float) -> float:
    """What brings a value to at most 1 and above a half, and loses no digit of it; 1 for 0."""
    return float(np.ldexp(1.0, min(-int(np.frexp(value)[1]), 1000))) if value else 1.0


def _swap(factors: np.ndarray) -> np.ndarray:
    return np.concatenate([factors[:, :-2], factors[:, :-3:-1]], axis=1)


def _errors(entries: _Entries, rows: np.ndarray, scores: np.ndarray, dtype) -> np.ndarray:
    """By how much a score of each row may be off, if it or what it stands for is at least as large as `scores`.

    With r and s the norms of x and y, a product of n numbers in any order is off by at most
    `n u / (1 - n u) * (r s + r^2/2 + s^2/2)` (Higham, Accuracy and Stability of Numerical Algorithms, 3.1), u the unit
    roundoff; rounding x, y and their norms to the type adds less than eight to n. That is `e = c (r + s)^2 / 2`. Of
    the distance d, `s <= r + d` and `d^2 <= -2 score + 2 e`, so `(2r + d) (1 - sqrt(c)) <= 2r + sqrt(-2 score)`: what
    lies far away, and has large errors, is not among the nearest.
    """
    norms, numbers = entries.norms[rows], entries.embeddings.shape[1] + 2 + 8
    relative = numbers * float(np.finfo(dtype).eps) / 2
    relative /= 1 - relative
    reach = (2 * norms + np.sqrt(2 * np.maximum(-scores, 0))) / (1 - np.sqrt(relative))
    underflow = 4 * numbers * float(np.finfo(dtype).tiny)
    return relative / 2 * np.minimum(norms + entries.norms.max(), reach) ** 2 + underflow


def _decide_nearest(entries: _Entries, pending: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Whether the nearest entry is of the class, where float32 can tell; returns the pending entries where not.

    Distances are symmetric: of each pair of blocks one product serves the rows of both.
    """
    others, own = 0, 1
    best = np.full((2, len(shares)), -np.inf, np.float32)

    def keep_best(kind, scores, rows, columns):
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


def _decide(entries: _Entries, pending: np.ndarray, shares: np.ndarray, *, k: int, dtype) -> np.ndarray:
    """The shares of pending entries; returns those that have too many candidates in float32.

    Candidates are all entries that may be among the k nearest or as near as the last of them. The k + 1 largest scores
    count the entry itself; entries that stand for several images make the k nearest fewer, never more.
    """
    total = len(shares)
    several = max(total // 8, 2 * k)  # from here on, float64's products cost less than as many differences
    left = []
    for block in _blocks(len(pending), max(1, SCORES // total)):
        rows = pending[block]
        factors, scores = entries.factors(rows, dtype), np.empty((len(rows), total), dtype)
        for columns in _blocks(total, BLOCK):
            scores[:, columns] = factors @ _swap(entries.factors(columns, dtype)).T
        scores[np.arange(len(rows)), rows] = np.inf
        last = max(0, total - k - 1)
        smallest = np.partition(scores, last, axis=1)[:, last].astype(np.float64)
        smallest -= 2 * _errors(entries, rows, smallest, dtype)
        # Down, lest the rounding takes a candidate away.
        smallest = np.nextafter(smallest.astype(dtype), dtype(-np.inf))
        for row, score, threshold in zip(rows, scores, smallest, strict=True):
            candidates = np.flatnonzero(score >= threshold)
            counts = entries.counts[candidates] - (candidates == row)
            own = entries.labels[candidates] == entries.labels[row]
            if (own | (counts == 0)).all() or not (own & (counts > 0)).any():
                shares[row] = own[counts > 0].any()
            elif len(candidates) <= several or dtype == np.float64:
                shares[row] = _share(entries.distances(row, candidates), own, counts, k=k)
            else:
                left.append(row)
    return np.array(left, int)


def _share(distances: np.ndarray, own: np.ndarray, counts: np.ndarray, *, k: int) -> float:
    """The probability that one of the k nearest images is of the class, those at equal distance in a random order."""
    order = np.argsort(distances)
    farthest = distances[order[np.searchsorted(np.cumsum(counts[order]), k)]]
    nearer, tied = distances < farthest, distances == farthest
    if counts[nearer & own].any():
        return 1.0
    places, images, mates = k - counts[nearer].sum(), counts[tied].sum(), counts[tied & own].sum()
    # None of the mates is drawn into the places that are left, one place after the other.
    drawn = np.arange(places)
    return float(1 - np.prod((images - mates - drawn) / (images - drawn)))
