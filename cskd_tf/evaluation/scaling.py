"""Recalibration after training: logits scaled so that the cross-entropy of validation images is the smallest possible.

Guo et al., 2017, section 4.2. Each problem is convex, and what is fitted is its optimum, where the gradient is zero.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import scipy.optimize
from numpy.typing import ArrayLike

from cskd_tf.errors import UserError
from cskd_tf.evaluation.scores import check_scores_of_kind, log_probabilities, softmax

GRADIENT = 1e-6  # nats per unit of a weight: the largest that still counts as zero
_TOLD_APART = (
    "Expected validation images that overlap, so that some parameters are the best. "
    "Received: {images} images, which {parameters} parameters tell apart as sharply as one likes"
)


class Scaling(Protocol):
    """What has been fitted, and changes logits."""

    def apply(self, logits: ArrayLike) -> np.ndarray:
        """The scaled logits, float64 `[N, C]`."""
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
        return np.asarray(logits, np.float64) / self.temperature

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
        return np.asarray(logits, np.float64) * self.weights + self.biases

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
        return np.asarray(logits, np.float64) @ self.weights + self.biases

    def parameters(self) -> dict[str, Any]:
        return {"parameters": len(self.biases) * (len(self.biases) + 1)}


SCALINGS: dict[str, type[TemperatureScaling] | type[VectorScaling] | type[MatrixScaling]] = {
    "temperature": TemperatureScaling,
    "vector": VectorScaling,
    "matrix": MatrixScaling,
}


def _fit(logits: ArrayLike, labels: ArrayLike, *, matrix: bool) -> tuple[np.ndarray, np.ndarray]:
    """Weights, `[C]` or `[C, C]`, and biases `[C]`."""
    logits, labels = check_scores_of_kind(logits, labels, from_logits=True)
    images, classes = logits.shape
    shape = (classes, classes) if matrix else (classes,)
    split = int(np.prod(shape))
    if images < split + classes:
        raise UserError(
            f"Expected at least as many validation images as there are parameters, {split + classes}. "
            f"Received: {images} images"
        )
    if absent := sorted(set(range(classes)) - set(labels.tolist())):
        raise UserError(f"Expected validation images of every class. Received: none of class {absent[0]}")
    # Numbers near 1, with which L-BFGS needs fewer steps; as it is affine too, the optimum is the same.
    centre, scale = logits.mean(axis=0), logits.std() or 1.0
    inputs, rows = (logits - centre) / scale, np.arange(images)

    def scaled(parameters: np.ndarray) -> np.ndarray:
        weights, biases = parameters[:split].reshape(shape), parameters[split:]
        return (inputs @ weights if matrix else inputs * weights) + biases

    def loss_and_gradient(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        logarithms = log_probabilities(scaled(parameters))
        loss = -logarithms[rows, labels].mean()
        errors = np.exp(logarithms)
        errors[rows, labels] -= 1
        errors /= images
        by_weights = inputs.T @ errors if matrix else (inputs * errors).sum(axis=0)
        return loss, np.concatenate([by_weights.ravel(), errors.sum(axis=0)])

    start = np.concatenate([(np.eye(classes) if matrix else np.ones(classes)).ravel() * scale, centre])
    near = _descend(loss_and_gradient, start, gradient=GRADIENT)
    result = scaled(near)
    others = np.where(np.eye(classes, dtype=bool)[labels], -np.inf, result).max(axis=1)
    if (result[rows, labels] > others).all():
        raise UserError(_TOLD_APART.format(images=images, parameters=split + classes))
    found = _descend(loss_and_gradient, near, gradient=GRADIENT / 1e4)
    # Where a part of the images can be told apart, the gradient falls too, but the logits move on without end.
    moved = np.abs(scaled(found) - result).max()
    if moved > 1 or np.abs(loss_and_gradient(found)[1]).max() > GRADIENT:
        raise UserError(_TOLD_APART.format(images=images, parameters=split + classes))
    weights, biases = found[:split].reshape(shape) / scale, found[split:]
    return weights, biases - (centre @ weights if matrix else centre * weights)


def _descend(loss_and_gradient: Callable[[np.ndarray], Any], start: np.ndarray, *, gradient: float) -> np.ndarray:
    """From `start` down to where no part of the gradient is larger than `gradient`."""
    options = {"maxiter": 20_000, "maxfun": 40_000, "maxcor": 30, "ftol": 0.0, "gtol": gradient}
    return scipy.optimize.minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options=options).x
