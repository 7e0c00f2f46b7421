"""Recall among nearest neighbours: as exact as float64 differences, at the speed of float32 products.

All distances are first scores of a matrix product in float32, whose error has a proven bound, so most images are
decided by it. For the other images all candidates, few as a rule, are compared again by direct differences in float64.
Memory beyond the embeddings: a float32 copy of them, and about 0.5 GiB whatever their number.
"""

import hashlib

import numpy as np
from numpy.typing import ArrayLike

from cskd_tf.errors import UserError
from cskd_tf.evaluation.distances import Entries, blocks

SCORES = 2**24  # scores in memory at once, where rows meet all columns


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
    shares, entry_of, has_mates = _shares(*_check(embeddings, labels, k), k=k)
    if not has_mates.any():
        return float("nan")
    return float(np.average(shares[has_mates], weights=np.bincount(entry_of)[has_mates]))


def recalled(embeddings: ArrayLike, labels: ArrayLike, *, k: int = 1) -> np.ndarray:
    """Of each image the probability that `recall_at_k` counts it, `[N]`; NaN where it is alone in its class.

    Example:
        >>> recalled([[0], [1], [3]], [0, 0, 1]).tolist()
        [1.0, 1.0, nan]

    Arguments and errors are those of `recall_at_k`.
    """
    shares, entry_of, has_mates = _shares(*_check(embeddings, labels, k), k=k)
    return np.where(has_mates, shares, np.nan)[entry_of]


def _shares(embeddings: np.ndarray, labels: np.ndarray, *, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each entry the share, `[M]`; of each image its entry, `[N]`; whether the class of an entry has others, `[M]`.

    Images of one class with one embedding have one entry: a collapsed network returns thousands of them.
    """
    labels, class_sizes = np.unique(labels, return_inverse=True, return_counts=True)[1:]
    points = _equal_rows(embeddings)
    _, first, entry_of, counts = np.unique(
        labels * len(labels) + points, return_index=True, return_inverse=True, return_counts=True
    )
    entries = Entries.of(embeddings, first, labels=labels[first], counts=counts)
    has_mates = class_sizes[entries.labels] > 1
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
    return shares, entry_of, has_mates


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
    if not isinstance(k, int | np.integer) or not 1 <= k < len(labels):
        raise UserError(f"Expected k from 1 to {len(labels) - 1}, the number of other images. Received: k={k}")
    return embeddings, labels


def _equal_rows(embeddings: np.ndarray) -> np.ndarray:
    """A number per row, the same for equal rows."""
    numbers: dict[bytes, int] = {}
    # + 0 turns negative zeros into zeros, which are equal to them but have other bytes.
    digests = (hashlib.blake2b((row + 0).tobytes(), digest_size=16).digest() for row in embeddings)
    return np.array([numbers.setdefault(digest, len(numbers)) for digest in digests])


def _decide_nearest(entries: Entries, pending: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Writes into `shares` whether the nearest entry is of the class, where float32 can tell.

    Of each pair of blocks one product serves the rows of both.

    Returns:
        The pending entries for which it cannot tell.
    """
    others, own = 0, 1
    best = np.full((2, len(shares)), -np.inf, np.float32)

    def keep_best(kind: int, scores: np.ndarray, rows: slice, columns: slice) -> None:
        np.maximum(best[kind, rows], scores.max(axis=1), out=best[kind, rows])
        np.maximum(best[kind, columns], scores.max(axis=0), out=best[kind, columns])

    for rows, columns, scores in entries.block_scores():
        if rows == columns:
            np.fill_diagonal(scores, -np.inf)
        same = entries.labels[rows, None] == entries.labels[columns]
        if same.any():
            keep_best(own, np.where(same, scores, np.float32(-np.inf)), rows, columns)
            scores[same] = -np.inf
        keep_best(others, scores, rows, columns)
    best = best[:, pending].astype(np.float64)
    decided = np.abs(best[own] - best[others]) > 2 * entries.errors(pending, best.max(axis=0), np.float32)
    shares[pending[decided]] = (best[own] > best[others])[decided]
    return pending[~decided]


def _decide(
    entries: Entries, pending: np.ndarray, shares: np.ndarray, *, k: int, dtype: type[np.floating]
) -> np.ndarray:
    """Writes into `shares` those of pending entries.

    Returns:
        The entries that have too many candidates in float32; none in float64.
    """
    total = len(shares)
    several = max(total // 8, 2 * k)  # with more candidates, products in float64 cost less than differences
    undecided = []
    for block in blocks(len(pending), max(1, SCORES // total)):
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
    entries: Entries, rows: np.ndarray, *, k: int, dtype: type[np.floating]
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of some entries with all, `[R, M]`, and of each row the score from which on entries are candidates, `[R]`.

    Candidates are all entries that may be among the k nearest, or as near as the last of them. The k + 1 largest scores
    count the entry itself; entries that stand for several images make the k nearest fewer, never more.
    """
    scores = entries.scores(rows, dtype)
    scores[np.arange(len(rows)), rows] = np.inf
    last = max(0, scores.shape[1] - k - 1)
    smallest = np.partition(scores, last, axis=1)[:, last].astype(np.float64)
    smallest -= 2 * entries.errors(rows, smallest, dtype)
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
