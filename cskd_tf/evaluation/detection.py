"""Out-of-distribution detection: whether a network's outputs tell images of another data set from those of its own."""

from typing import Any

import numpy as np
import scipy.special
import sklearn.metrics
import sklearn.neighbors
import sklearn.preprocessing
from numpy.typing import ArrayLike

from cskd_tf.errors import UserError
from cskd_tf.evaluation.scores import check_logits, softmax

NEIGHBOURS = 50
RECALL = 0.95


def maximum_probability(logits: ArrayLike) -> np.ndarray:
    """The largest probability of each image, `[N]` (Hendrycks and Gimpel, 2017).

    Example:
        >>> maximum_probability([[math.log(3), 0.0]]).round(6).tolist()
        [0.75]
    """
    return softmax(check_logits(logits)).max(axis=1)


def negative_energy(logits: ArrayLike) -> np.ndarray:
    """`log sum exp` of the logits of each image, `[N]` (Liu et al., 2020, at a temperature of 1).

    Example:
        >>> negative_energy([[math.log(3), 0.0]]).round(6).tolist()
        [1.386294]
    """
    return scipy.special.logsumexp(check_logits(logits), axis=1)


def negative_distance(embeddings: ArrayLike, *, reference: ArrayLike, neighbours: int = NEIGHBOURS) -> np.ndarray:
    """Minus the distance to the k-th nearest training image, of embeddings of length 1, `[N]` (Sun et al., 2022).

    Example:
        >>> negative_distance([[5.0, 0.0]], reference=[[1.0, 0.0], [0.0, 1.0]], neighbours=2).round(6).tolist()
        [-1.414214]

    Args:
        embeddings: `[N, D]`.
        reference: `[M, D]`, of training images.
        neighbours: k, at most M.

    Raises:
        UserError: shapes or neighbours that do not fit, or embeddings that are not finite.
    """
    points, known = np.asarray(embeddings, np.float64), np.asarray(reference, np.float64)
    if points.ndim != 2 or known.ndim != 2 or points.shape[1:] != known.shape[1:]:
        raise UserError(f"Expected embeddings of one length. Received: shapes {points.shape} and {known.shape}")
    if not (np.isfinite(points).all() and np.isfinite(known).all()):
        raise UserError("Expected finite embeddings. Received: NaN or infinity")
    if not isinstance(neighbours, int | np.integer) or not 1 <= neighbours <= len(known):
        raise UserError(f"Expected neighbours from 1 to {len(known)}, the training images. Received: {neighbours}")
    index = sklearn.neighbors.NearestNeighbors(n_neighbors=neighbours, algorithm="brute")
    index.fit(sklearn.preprocessing.normalize(known))
    return -index.kneighbors(sklearn.preprocessing.normalize(points))[0][:, -1]


def detection(inside: ArrayLike, outside: ArrayLike) -> dict[str, Any]:
    """How well a score, larger for the network's own images, tells them from others.

    Example:
        Of two own images one scores above both others, one between them.

        >>> {name: round(value, 6) for name, value in detection([4.0, 2.0], [3.0, 1.0]).items()}
        {'auroc': 0.75, 'aupr_inside': 0.833333, 'aupr_outside': 0.833333, 'fpr_at_95_recall': 0.5}

    Args:
        inside: scores of the network's own images, `[N]`.
        outside: scores of the others, `[M]`.

    Returns:
        Fractions: `auroc`, the probability that an own image scores higher (ties count half); `aupr_inside` and
        `aupr_outside`, the average precision where own or other images are looked for; `fpr_at_95_recall`, the share of
        the others that pass for own ones at the highest threshold that lets 95 % of those pass.

    Raises:
        UserError: no scores, or scores that are not finite.
    """
    own, others = np.asarray(inside, np.float64), np.asarray(outside, np.float64)
    if own.ndim != 1 or others.ndim != 1 or not len(own) or not len(others):
        raise UserError(f"Expected scores [N] and [M]. Received: shapes {own.shape} and {others.shape}")
    scores, is_own = np.concatenate([own, others]), np.repeat([True, False], [len(own), len(others)])
    if not np.isfinite(scores).all():
        raise UserError("Expected finite scores. Received: NaN or infinity")
    passed, recall, _ = sklearn.metrics.roc_curve(is_own, scores, drop_intermediate=False)
    return {
        "auroc": float(sklearn.metrics.roc_auc_score(is_own, scores)),
        "aupr_inside": float(sklearn.metrics.average_precision_score(is_own, scores)),
        "aupr_outside": float(sklearn.metrics.average_precision_score(~is_own, -scores)),
        "fpr_at_95_recall": float(passed[recall >= RECALL][0]),
    }
