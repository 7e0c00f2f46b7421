"""Recalibration after training: logits scaled so that the cross-entropy of validation images is the smallest possible.

Guo et al., 2017, section 4.2. Each problem is convex, and what is fitted is its optimum, where the gradient is zero.
"""

import dataclasses
from typing import Any, Protocol

import numpy as np
import scipy.optimize
from numpy.typing import ArrayLike

from cskd_tf.errors import UserError
from cskd_tf.evaluation.scaled_cross_entropy import ScaledCrossEntropy
from cskd_tf.evaluation.scores import check_logits, check_scores_of_kind, softmax

GRADIENT = 1e-6  # nats per unit of a weight: the largest that still counts as zero
ROUNDING = 1e-6  # of the largest dimension of the logits: what is smaller is rounding of float32


class Scaling(Protocol):
    """What is fitted, and then changes logits."""

    @classmethod
    def fit(cls, logits: ArrayLike, labels: ArrayLike) -> "Scaling":
        """Fits it to logits `[N, C]` and labels int `[N]`.

        Raises:
            UserError: other shapes or labels, or logits that are not finite.
        """
        ...

    def apply(self, logits: ArrayLike) -> np.ndarray:
        """The scaled logits, float64 `[N, C]`.

        Raises:
            UserError: another shape, or logits that are not finite.
        """
        ...

    def parameters(self) -> dict[str, Any]:
        """What was fitted, as plain numbers where these are few."""
        ...


@dataclasses.dataclass(frozen=True)
class TemperatureScaling:
    """`logits / temperature`: the predicted classes stay.

    Example:
        Three of four images like this one are of class 0, which needs logits (ln 3, 0): half of these.

        >>> logits, labels = np.array([[2 * math.log(3), 0.0]] * 4), np.array([0, 0, 0, 1])
        >>> fitted = TemperatureScaling.fit(logits, labels)
        >>> round(fitted.temperature, 6), fitted.apply(logits)[0].round(6).tolist()
        (2.0, [1.098612, 0.0])

    Attributes:
        temperature: above 0.
    """

    temperature: float

    @classmethod
    def fit(cls, logits: ArrayLike, labels: ArrayLike) -> "TemperatureScaling":
        """The temperature with the smallest cross-entropy.

        Args:
            logits: `[N, C]`, of validation images.
            labels: int `[N]`.

        Raises:
            UserError: shapes or labels that do not fit, or no temperature is the best: every image is right, so that a
                lower one is always better, or the logits say so little that a higher one is.
        """
        logits, labels = check_scores_of_kind(logits, labels, from_logits=True)
        below_largest = logits - logits.max(axis=1, keepdims=True)  # the same probabilities
        of_label = below_largest[np.arange(len(labels)), labels]

        def slope(inverse: float) -> float:
            """The derivative of the cross-entropy by the inverse of the temperature; it rises."""
            return float(((softmax(inverse * below_largest) * below_largest).sum(axis=1) - of_label).mean())

        if slope(0.0) >= 0:
            raise UserError("Expected logits that tell classes apart. Received: the higher the temperature, the better")
        if not of_label.any():
            raise UserError(
                "Expected validation images of which some are wrong. "
                "Received: none, so that the lower the temperature, the better"
            )
        upper = 1 / np.abs(below_largest).max()
        while slope(upper) < 0:
            upper *= 2
        return cls(1 / scipy.optimize.brentq(slope, 0.0, upper, xtol=1e-300, rtol=1e-14))

    def apply(self, logits: ArrayLike) -> np.ndarray:
        return check_logits(logits) / self.temperature

    def parameters(self) -> dict[str, Any]:
        return {"temperature": self.temperature}


@dataclasses.dataclass(frozen=True)
class VectorScaling:
    """`logits * weights + biases`, per class.

    Example:
        >>> VectorScaling(np.array([1.0, 2.0]), np.array([0.0, 0.5])).apply([[3.0, 4.0]]).tolist()
        [[3.0, 8.5]]

    Attributes:
        weights: `[C]`.
        biases: `[C]`.
    """

    weights: np.ndarray
    biases: np.ndarray

    @classmethod
    def fit(cls, logits: ArrayLike, labels: ArrayLike) -> "VectorScaling":
        """Weights and biases with the smallest cross-entropy.

        Args:
            logits: `[N, C]`, of validation images, at least as many as there are parameters.
            labels: int `[N]`, of every class.

        Raises:
            UserError: shapes or labels that do not fit, or nothing is the best: too few images for the parameters, a
                class without an image, or images that can be told apart completely.
        """
        return cls(*_fit(logits, labels, matrix=False))

    def apply(self, logits: ArrayLike) -> np.ndarray:
        return _of_classes(logits, len(self.biases)) * self.weights + self.biases

    def parameters(self) -> dict[str, Any]:
        return {"parameters": 2 * len(self.biases)}


@dataclasses.dataclass(frozen=True)
class MatrixScaling:
    """`logits @ weights + biases`: a logistic regression on the logits, without regularisation.

    Example:
        >>> MatrixScaling(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([0.0, 0.5])).apply([[3.0, 4.0]]).tolist()
        [[4.0, 3.5]]

    Attributes:
        weights: `[C, C]`.
        biases: `[C]`.
    """

    weights: np.ndarray
    biases: np.ndarray

    @classmethod
    def fit(cls, logits: ArrayLike, labels: ArrayLike) -> "MatrixScaling":
        """As `VectorScaling.fit`, with `C * (C + 1)` parameters."""
        return cls(*_fit(logits, labels, matrix=True))

    def apply(self, logits: ArrayLike) -> np.ndarray:
        return _of_classes(logits, len(self.biases)) @ self.weights + self.biases

    def parameters(self) -> dict[str, Any]:
        return {"parameters": len(self.biases) * (len(self.biases) + 1)}


SCALINGS: dict[str, type[Scaling]] = {
    "temperature": TemperatureScaling,
    "vector": VectorScaling,
    "matrix": MatrixScaling,
}


def _of_classes(logits: ArrayLike, classes: int) -> np.ndarray:
    values = check_logits(logits)
    if values.shape[1] != classes:
        raise UserError(f"Expected logits [N, {classes}]. Received: shape {values.shape}")
    return values


def _fit(logits: ArrayLike, labels: ArrayLike, *, matrix: bool) -> tuple[np.ndarray, np.ndarray]:
    """Weights, `[C]` or `[C, C]`, and biases `[C]`."""
    logits, labels = check_scores_of_kind(logits, labels, from_logits=True)
    images, classes = logits.shape
    split = classes * classes if matrix else classes
    if images < split + classes:
        raise UserError(
            f"Expected at least as many validation images as there are parameters, {split + classes}. "
            f"Received: {images} images"
        )
    if absent := sorted(set(range(classes)) - set(labels.tolist())):
        raise UserError(f"Expected validation images of every class. Received: none of class {absent[0]}")
    centre = np.median(logits, axis=0)
    inputs, factors = _of_one_size(logits, centre)
    back = factors
    if matrix:
        inputs, directions = _whitened(inputs)
        back = factors[:, None] * directions
    problem = ScaledCrossEntropy(inputs, labels, classes=classes, matrix=matrix)
    near = problem.descend(np.zeros(problem.size), gradient=GRADIENT)
    found = problem.descend(near, gradient=GRADIENT / 1e4)
    # Where all or some images can be told apart, the gradient falls as well, but the logits move on without end: in
    # proportion to the logarithm of the gradient, by half. An image with huge logits moves too, by a small share.
    logits_near, logits_found = problem.scaled(near), problem.scaled(found)
    moved = (np.abs(logits_found - logits_near) - np.abs(logits_near) / 10).max()
    if moved > 1 or np.abs(problem.gradient(found)).max() > GRADIENT:
        raise problem.told_apart()
    weights, biases = problem.parts(found)
    weights = back @ weights if matrix else back * weights
    return weights, biases - (centre @ weights if matrix else centre * weights)


def _of_one_size(logits: np.ndarray, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each column around 0 with 19 of 20 images within 1, and what it was multiplied by, `[C]`.

    Newton steps become few, also beside an image of huge logits. A column that is the same for all images, but for
    rounding, becomes 0.
    """
    largest, deviations = np.abs(logits).max(axis=0), logits.std(axis=0)
    sizes = np.quantile(np.abs(logits - centre), 0.95, axis=0)
    sizes = np.where(sizes > largest * ROUNDING, sizes, deviations)  # of a column that is the same for most
    differs = deviations > largest * ROUNDING
    factors = np.where(differs, 1 / np.where(differs, sizes, 1.0), 0.0)
    return (logits - centre) * factors, factors


def _whitened(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Uncorrelated columns `[N, R]` of that size, and the matrix `[C, R]` that makes them of the logits.

    Of R dimensions are left out those that are no more than rounding: logits of fewer features than classes.
    """
    left, sizes, right = np.linalg.svd(logits, full_matrices=False)
    kept = sizes > max(sizes[0], np.finfo(float).tiny) * ROUNDING
    length = np.sqrt(len(logits))
    return left[:, kept] * length, right[kept].T * (length / sizes[kept])
