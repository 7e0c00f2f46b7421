"""Conformal prediction: sets of classes that hold an image's class in at least 1 - alpha of the cases, on average.

The promise holds for images that are drawn like those that the sets were fitted on, and for nothing else.
"""

import dataclasses
import hashlib
import math
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from cskd_tf.errors import UserError
from cskd_tf.evaluation.scores import check_logits, check_scores, check_scores_of_kind, softmax

Kind = Literal["threshold", "aps", "raps"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DEFAULT_ALPHA = 0.1
# Fixed: to choose them, as Angelopoulos et al. (2021) also do, takes validation images away from the threshold.
PENALTY, FREE_RANKS = 0.01, 5


def nonconformity(
    probabilities: np.ndarray,
    *,
    kind: Kind,
    uniforms: np.ndarray,
    penalty: float = PENALTY,
    free_ranks: int = FREE_RANKS,
) -> np.ndarray:
    """How strange each class would be as the label of each image.

    - `threshold`: 1 less its probability (Sadinle et al., 2019, called LAC and THR too).
    - `aps`: the sum of all probabilities down to its own, of which a random part is left out (Romano et al., 2020).
    - `raps`: the same, and `penalty` for each rank beyond the first `free_ranks` (Angelopoulos et al., 2021).

    Among equal probabilities the lower class comes first.

    Example:
        >>> options = {"uniforms": np.array([0.5]), "penalty": 0.1, "free_ranks": 1}
        >>> for kind in KINDS:
        ...     print(kind, nonconformity(np.array([[0.5, 0.2, 0.3]]), kind=kind, **options).round(6).tolist())
        threshold [[0.5, 0.8, 0.7]]
        aps [[0.25, 0.9, 0.65]]
        raps [[0.25, 1.1, 0.75]]

    Args:
        probabilities: `[N, C]`.
        kind: of the score.
        uniforms: the random part of each image, `[N]`, from 0 to 1; at 0 the sets are larger than they need to be.
        penalty: at least 0.
        free_ranks: from 0 on.

    Returns:
        `[N, C]`.
    """
    if kind == "threshold":
        return 1 - probabilities
    order = np.argsort(-probabilities, axis=1, kind="stable")
    down_to = np.cumsum(np.take_along_axis(probabilities, order, axis=1), axis=1)
    if kind == "raps":
        down_to += penalty * np.maximum(np.arange(1, probabilities.shape[1] + 1) - free_ranks, 0)
    result = np.empty_like(down_to)
    np.put_along_axis(result, order, down_to, axis=1)
    return result - uniforms[:, None] * probabilities


def quantile(strange: np.ndarray, alpha: float) -> float:
    """The `ceil((n + 1) (1 - alpha))`-th smallest of n numbers: one more like them is at most as large in 1 - alpha.

    Example:
        >>> quantile(np.arange(1.0, 10.0), 0.2), quantile(np.arange(1.0, 10.0), 0.01)
        (8.0, inf)
    """
    rank = max(math.ceil(round((len(strange) + 1) * (1 - alpha), 9)), 1)  # .9 * 10 has to be 9
    return float(np.sort(strange)[rank - 1]) if rank <= len(strange) else math.inf


def fewest(alpha: float) -> int:
    """Of how many numbers, at least, there is a `quantile`.

    Example:
        >>> fewest(0.1), math.isinf(quantile(np.arange(9.0), 0.1)), math.isinf(quantile(np.arange(8.0), 0.1))
        (9, False, True)
    """
    return math.ceil(round(1 / alpha, 9)) - 1


def uniforms_of(logits: np.ndarray, *, seed: int) -> np.ndarray:
    """A number in [0, 1) per image, `[N]`, drawn by its logits and the seed, wherever it stands among others.

    Example:
        >>> uniforms_of(np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]), seed=0).round(6).tolist()
        [0.293484, 0.657383, 0.293484]

    Args:
        logits: float64 `[N, C]`.
        seed: at least 0.
    """
    key = np.int64(seed).tobytes()
    digests = (hashlib.blake2b(row.tobytes(), digest_size=8, key=key).digest() for row in np.ascontiguousarray(logits))
    return np.frombuffer(b"".join(digests), "<u8") / 2.0**64


@dataclasses.dataclass(frozen=True)
class ConformalSets:
    """Split conformal prediction, fitted on images that the network was not trained on.

    Example:
        Of nine images, the label of one has a probability of .6, of the others .8: with alpha = .1 all nine count.

        >>> logits = np.log([[0.6, 0.3, 0.1]] + [[0.8, 0.1, 0.1]] * 8)
        >>> fitted = ConformalSets.fit(logits, np.zeros(9, int), kind="threshold", alpha=0.1)
        >>> round(fitted.largest, 6), fitted.sets(np.log([[0.65, 0.3, 0.05], [0.5, 0.4, 0.1]])).tolist()
        (0.4, [[True, False, False], [False, False, False]])

    Attributes:
        kind: `threshold`, `aps` or `raps`: see `nonconformity`.
        alpha: the share of images whose set may lack their class.
        largest: the nonconformity up to which classes are in the set; infinite where too few images were at hand for
            alpha, and every class is.
        seed: of the random part of `aps` and `raps`.
        classes: C, where it is known: logits of others are refused.
    """

    kind: Kind
    alpha: float
    largest: float
    seed: int = 0
    classes: int | None = None

    @classmethod
    def fit(
        cls, logits: ArrayLike, labels: ArrayLike, *, kind: Kind, alpha: float = DEFAULT_ALPHA, seed: int = 0
    ) -> "ConformalSets":
        """Finds the nonconformity that a share of 1 - alpha of the labels stays within.

        Args:
            logits: `[N, C]`, of validation images.
            labels: int `[N]`.
            kind: see `nonconformity`.
            alpha: above 0 and below 1.
            seed: of the random part of `aps` and `raps`.

        Raises:
            UserError: shapes, labels, kind or alpha that do not fit.
        """
        if kind not in KINDS or not 0 < alpha < 1:
            raise UserError(f"Expected a kind of {list(KINDS)} and 0 < alpha < 1. Received: {kind=}, {alpha=}")
        logits, labels = check_scores_of_kind(logits, labels, from_logits=True)
        strange = nonconformity(softmax(logits), kind=kind, uniforms=uniforms_of(logits, seed=seed))
        own = strange[np.arange(len(labels)), labels]
        return cls(kind, alpha, quantile(own, alpha), seed, logits.shape[1])

    def sets(self, logits: ArrayLike) -> np.ndarray:
        """Whether each class is in the set of each image, bool `[N, C]`; a set may be empty.

        The random part is drawn by the seed from the image's logits: its set is the same alone and among others.

        Raises:
            UserError: another shape, or logits that are not finite.
        """
        logits = check_logits(logits)
        if self.classes not in (None, logits.shape[1]):
            raise UserError(f"Expected logits of {self.classes} classes, as fitted. Received: {logits.shape[1]}")
        uniforms = uniforms_of(logits, seed=self.seed)
        return nonconformity(softmax(logits), kind=self.kind, uniforms=uniforms) <= self.largest


def coverage_and_size(sets: ArrayLike, labels: ArrayLike) -> dict[str, Any]:
    """How often the sets hold the label, how many classes they have on average, and how many of them have none.

    Example:
        >>> coverage_and_size(np.array([[True, True], [False, False]]), np.array([0, 1]))
        {'coverage': 0.5, 'size': 1.0, 'empty': 0.5}

    Args:
        sets: bool `[N, C]`.
        labels: int `[N]`.

    Raises:
        UserError: shapes or labels that do not fit, sets that are not bool, or no image at all.
    """
    sets, labels = np.asarray(sets), np.asarray(labels)
    if sets.dtype != bool:
        raise UserError(f"Expected sets as bool [N, C]. Received: {sets.dtype}")
    check_scores(sets, labels)
    return SetOutcomes.of(sets, labels).metrics()


@dataclasses.dataclass(frozen=True)
class SetOutcomes:
    """Of each image how its set came out, `[N]` each.

    Attributes:
        holds: whether the set holds the label.
        size: how many classes it has.
    """

    holds: np.ndarray
    size: np.ndarray

    @classmethod
    def of(cls, sets: np.ndarray, labels: np.ndarray) -> "SetOutcomes":
        """Of sets, bool `[N, C]`, and labels, int `[N]`."""
        return cls(sets[np.arange(len(labels)), labels], sets.sum(axis=1))

    def metrics(self, chosen: np.ndarray | slice = slice(None)) -> dict[str, float]:
        """What `coverage_and_size` says of the images at some indices, which may have images several times."""
        size = self.size[chosen]
        return {
            "coverage": float(self.holds[chosen].mean()),
            "size": float(size.mean()),
            "empty": float((size == 0).mean()),
        }
