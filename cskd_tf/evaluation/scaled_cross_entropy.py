"""The cross-entropy of scaled logits as a convex problem, and the way down to its optimum."""

import dataclasses

import numpy as np
import scipy.optimize

from cskd_tf.errors import UserError
from cskd_tf.evaluation.scores import log_probabilities, softmax

STEPS = 500  # of Newton's method, which needs some ten
PRODUCTS = 2000  # of conjugate gradients, which need some hundred where there is an optimum


@dataclasses.dataclass
class ScaledCrossEntropy:
    """The mean cross-entropy of scaled inputs, as a function of all parameters in one vector.

    Example: of parameters that are all 0, it is that of two classes alike:
        >>> problem = ScaledCrossEntropy(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 1]), classes=2, matrix=False)
        >>> problem.size, round(problem.loss(np.zeros(4)), 6), problem.gradient(np.zeros(4)).tolist()
        (4, 0.693147, [-0.25, -0.25, 0.0, 0.0])

    Attributes:
        inputs: `[N, C]`, of a matrix `[N, R]`.
        labels: int `[N]`.
        classes: C.
        matrix: whether all inputs count for each class, or its own alone.
    """

    inputs: np.ndarray
    labels: np.ndarray
    classes: int
    matrix: bool

    @property
    def size(self) -> int:
        """How many parameters there are."""
        return self.classes * (self.inputs.shape[1] + 1 if self.matrix else 2)

    def parts(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights, `[R, C]` or `[C]`, and biases `[C]`."""
        weights, biases = parameters[: -self.classes], parameters[-self.classes :]
        return weights.reshape(-1, self.classes) if self.matrix else weights, biases

    def scaled(self, parameters: np.ndarray) -> np.ndarray:
        """The logits `[N, C]`."""
        weights, biases = self.parts(parameters)
        return (self.inputs @ weights if self.matrix else self.inputs * weights) + biases

    def _by_parameters(self, by_logits: np.ndarray) -> np.ndarray:
        weights = self.inputs.T @ by_logits if self.matrix else (self.inputs * by_logits).sum(axis=0)
        return np.concatenate([weights.ravel(), by_logits.sum(axis=0)]) / len(self.labels)

    def loss(self, parameters: np.ndarray) -> float:
        return float(-log_probabilities(self.scaled(parameters))[np.arange(len(self.labels)), self.labels].mean())

    def gradient(self, parameters: np.ndarray) -> np.ndarray:
        errors = softmax(self.scaled(parameters))
        errors[np.arange(len(self.labels)), self.labels] -= 1
        return self._by_parameters(errors)

    def curvature(self, parameters: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """The product of the second derivatives and a direction."""
        probabilities, moved = softmax(self.scaled(parameters)), self.scaled(direction)
        return self._by_parameters(probabilities * (moved - (probabilities * moved).sum(axis=1, keepdims=True)))

    def told_apart(self) -> UserError:
        """What is raised where some parameters are always better than others."""
        return UserError(
            "Expected validation images that overlap, so that some parameters are the best. "
            f"Received: {len(self.labels)} images, some of which {self.size} parameters tell apart, or nearly"
        )

    def _refuse_told_apart(self, parameters: np.ndarray) -> None:
        """Ends a search, which would be long, once all images are right: larger parameters are better then."""
        logits, rows = self.scaled(parameters), np.arange(len(self.labels))
        of_label = logits[rows, self.labels].copy()
        logits[rows, self.labels] = -np.inf
        if (of_label > logits.max(axis=1)).all():
            raise self.told_apart()

    def descend(self, start: np.ndarray, *, gradient: float) -> np.ndarray:
        """From `start` down to where the gradient is no longer than `gradient`, by Newton's method in a trust region.

        Where images can be told apart, there are directions with next to no curvature, for which conjugate gradients
        need ever more products.
        """
        products = 0

        def curvature(parameters: np.ndarray, direction: np.ndarray) -> np.ndarray:
            nonlocal products
            products += 1
            if products > PRODUCTS:
                raise self.told_apart()
            return self.curvature(parameters, direction)

        found = scipy.optimize.minimize(
            self.loss,
            start,
            method="trust-ncg",
            jac=self.gradient,
            hessp=curvature,
            callback=self._refuse_told_apart,
            options={"gtol": gradient, "maxiter": STEPS, "max_trust_radius": 1e6},
        )
        return found.x
