"""Another confidence of the same predictions: the largest logit over the length of all, not the largest probability.

Cattelan and Silva, UAI 2024 (How to Fix a Broken Confidence Estimator). It mends the order of the images, by which a
network answers or abstains, where training has spoiled it; the predicted classes stay.
"""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from cskd_tf.errors import UserError
from cskd_tf.evaluation.scores import check_logits, check_scores_of_kind, confidence_and_correct
from cskd_tf.evaluation.selective import risks

NORMS = range(1, 11)  # of which the authors choose too
DIGITS = 12  # that count: of p = 1 all images with a single logit above the mean have 1/2, but for rounding


def normalized_maximum_logit(logits: ArrayLike, *, norm: int) -> np.ndarray:
    """MaxLogit-pNorm: `max_k z_k / |z|_p` of logits z less their mean; 0 where all logits are the same.

    Example:
        Less their mean, 2, they are (2, -1, -1): their sum is 4 and their Euclidean length sqrt(6).

        >>> normalized_maximum_logit([[4.0, 1.0, 1.0]], norm=1).tolist()
        [0.5]
        >>> normalized_maximum_logit([[4.0, 1.0, 1.0]], norm=2).round(6).tolist()
        [0.816497]

    Args:
        logits: `[N, C]`.
        norm: p, at least 1.

    Returns:
        float64 `[N]`; of no unit, and no probability.

    Raises:
        UserError: a p below 1, or logits that are not finite.
    """
    if not norm >= 1:  # NaN neither
        raise UserError(f"Expected a norm of at least 1. Received: norm={norm}")
    centred = check_logits(logits)
    centred = centred - centred.mean(axis=1, keepdims=True)
    largest = np.abs(centred).max(axis=1, keepdims=True)
    centred = centred / np.where(largest > 0, largest, 1)  # or their powers could overflow
    length = np.linalg.norm(centred, ord=norm, axis=1)
    return np.round(centred.max(axis=1) / np.where(length > 0, length, 1), DIGITS)


@dataclasses.dataclass(frozen=True)
class LogitNormalization:
    """The confidence whose order of the validation images is the best.

    Attributes:
        norm: p; None where the largest probability was better than with any p.
    """

    norm: int | None

    @classmethod
    def fit(cls, logits: ArrayLike, labels: ArrayLike) -> "LogitNormalization":
        """The p in `NORMS` with the smallest AURC, or none; the smallest p of several.

        Example:
            By the largest probability the wrong image is the surest; divided by their length, the right ones are.

            >>> LogitNormalization.fit([[9.0, 5.0, 0.0], [3.0, 0.0, 0.0], [2.0, 0.0, 0.0]], [1, 0, 0]).norm
            1

        Args:
            logits: `[N, C]`, of validation images.
            labels: int `[N]`.

        Raises:
            UserError: shapes or labels that do not fit.
        """
        logits, labels = check_scores_of_kind(logits, labels, from_logits=True)
        confidence, correct = confidence_and_correct(logits, labels, from_logits=True)
        areas: dict[int | None, float] = {None: risks(confidence, correct).mean()}
        for norm in NORMS:
            areas[norm] = risks(normalized_maximum_logit(logits, norm=norm), correct).mean()
        return cls(min(areas, key=lambda norm: areas[norm]))

    def confidence(self, logits: ArrayLike) -> np.ndarray:
        """Of each image how sure its prediction is, `[N]`: only the order means anything."""
        if self.norm is None:
            logits = check_logits(logits)
            return confidence_and_correct(logits, np.zeros(len(logits), int), from_logits=True)[0]
        return normalized_maximum_logit(logits, norm=self.norm)
