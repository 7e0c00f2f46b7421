"""Metrics of parts of the classes: of each one, and of groups of classes, such as the data sets that were joined."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import sklearn.metrics
from numpy.typing import ArrayLike

from cskd_tf.errors import UserError
from cskd_tf.evaluation.scores import check_scores, softmax


def group_error(scores: ArrayLike, labels: ArrayLike, *, groups: ArrayLike) -> float:
    """Share of images whose predicted class lies in another group than their own: a dog taken for a bird, say.

    CS-KD paper, section 3.3, hierarchical image classification.

    Example:
        The first image, of class 0, is taken for class 1 of the same group; the second, a bird, is taken for a dog.

        >>> group_error([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]], [0, 2], groups=["dog", "dog", "bird"])
        0.5

    Args:
        scores: logits or probabilities `[N, C]`.
        labels: int `[N]`.
        groups: the group of each class, `[C]`, numbers or names.

    Returns:
        A fraction in [0, 1]; NaN where all classes are of one group, which no prediction can leave.

    Raises:
        UserError: shapes or labels that do not fit.
    """
    crossed = crosses_groups(scores, labels, groups=groups)
    return float(crossed.mean()) if len(np.unique(np.asarray(groups))) > 1 else float("nan")


def crosses_groups(scores: ArrayLike, labels: ArrayLike, *, groups: ArrayLike) -> np.ndarray:
    """Of each image whether its predicted class lies in another group than its own, bool `[N]`: `group_error`'s terms.

    Example:
        >>> crosses_groups([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]], [0, 2], groups=["dog", "dog", "bird"]).tolist()
        [False, True]

    Arguments and errors are those of `group_error`.
    """
    scores, labels = check_scores(scores, labels)
    groups = np.asarray(groups)
    _check_groups(groups, scores)
    return groups[scores.argmax(axis=1)] != groups[labels]


def per_class(logits: ArrayLike, labels: ArrayLike, *, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Of each class how many images it has, how many of them are recognised, and how many of its guesses are right.

    Example:
        Class "cat" has two images, one is taken for a dog; the dog is recognised.

        >>> rows = per_class([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0]], [0, 0, 1], class_names=["cat", "dog"])
        >>> [(row["images"], row["recall"], row["precision"], round(row["confidence"], 6)) for row in rows]
        [(2, 0.5, 1.0, 0.880797), (1, 1.0, 0.5, 0.880797)]

    Args:
        logits: `[N, C]`.
        labels: int `[N]`.
        class_names: C names.

    Returns:
        A row per class: `name`, `images`, `recall` (the accuracy on its images), `precision` and `confidence` (the mean
        largest probability on its images), fractions; None for what is undefined: of a class without images, or that is
        never guessed.

    Raises:
        UserError: shapes, labels or names that do not fit.
    """
    logits, labels = check_scores(logits, labels)
    if len(class_names) != logits.shape[1]:
        raise UserError(f"Expected a name for each of {logits.shape[1]} classes. Received: {len(class_names)} names")
    counts = np.bincount(labels, minlength=len(class_names))
    precision, recall, _, _ = sklearn.metrics.precision_recall_fscore_support(
        labels, logits.argmax(axis=1), labels=np.arange(len(class_names)), zero_division=np.nan
    )
    total = np.bincount(labels, weights=softmax(logits).max(axis=1), minlength=len(class_names))
    return [
        {
            "name": str(name),
            "images": int(count),
            "recall": float(recall[number]) if count else None,
            "precision": None if np.isnan(precision[number]) else float(precision[number]),
            "confidence": float(total[number] / count) if count else None,
        }
        for number, (name, count) in enumerate(zip(class_names, counts, strict=True))
    ]


def per_group(scores: ArrayLike, labels: ArrayLike, *, groups: Sequence[str]) -> dict[str, Any]:
    """Errors within and across groups of classes: CS-KD paper, section 3.3, hierarchical image classification.

    Example:
        Of two dogs, one is taken for the other breed and one for a bird.

        >>> shown = per_group([[0.1, 0.7, 0.2], [0.3, 0.2, 0.5]], [0, 1], groups=["dog", "dog", "bird"])
        >>> shown["groups"], shown["confusion"], shown["top1_error"], shown["group_error"]
        (['dog', 'bird'], [[1, 1], [0, 0]], [1.0, None], [0.5, None])

    Args:
        scores: logits or probabilities `[N, C]`.
        labels: int `[N]`.
        groups: the group of each class, C names.

    Returns:
        `groups`, in the order of their first class, and of each its number of `images`, its `top1_error`, and its
        `group_error`, the share that is taken for another group; None for a group without images. `confusion[i][j]` is
        how many images of group i are taken for group j.

    Raises:
        UserError: shapes, labels or groups that do not fit.
    """
    scores, labels = check_scores(scores, labels)
    names = list(dict.fromkeys(groups))
    _check_groups(np.asarray(groups), scores)
    number = np.array([names.index(group) for group in groups])
    predicted = scores.argmax(axis=1)
    pairs = np.bincount(number[labels] * len(names) + number[predicted], minlength=len(names) ** 2)
    confusion = pairs.reshape(len(names), len(names))
    images = confusion.sum(axis=1)
    wrong = np.bincount(number[labels], weights=predicted != labels, minlength=len(names))
    return {
        "groups": names,
        "images": images.tolist(),
        "top1_error": [float(part / count) if count else None for part, count in zip(wrong, images, strict=True)],
        "group_error": [
            float(1 - row[own] / count) if count else None
            for own, (row, count) in enumerate(zip(confusion, images, strict=True))
        ],
        "confusion": confusion.tolist(),
    }


def _check_groups(groups: np.ndarray, scores: np.ndarray) -> None:
    if groups.shape != scores.shape[1:]:
        raise UserError(f"Expected a group for each of {scores.shape[1]} classes. Received: shape {groups.shape}")
