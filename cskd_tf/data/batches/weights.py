"""What images and classes weigh in the loss."""

import dataclasses
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from sklearn.utils.class_weight import compute_class_weight

from cskd_tf.data.sources.base import check_labels
from cskd_tf.errors import UserError
from cskd_tf.settings import Within, check


@dataclasses.dataclass(frozen=True)
class ClassWeights:
    """Weights of classes that make up for how often each of them comes.

    With `n_c` images of class c, N in all and C classes, the weight of a class is

    - `"inverse"`: `N / (C * n_c)`, so that every class weighs the same in the loss, and an image 1 on average;
    - `"effective"`: in proportion to `(1 - beta) / (1 - beta^n_c)`, one over the effective number of images, and 1 for
      a class on average (Cui et al., CVPR 2019, https://arxiv.org/abs/1901.05555, section 4). It lies between no
      weights (`beta` 0) and the inverse (`beta` towards 1), at another scale than that of the inverse.

    They depend on the numbers of images alone. For Keras: `model.fit(..., class_weight=...)`.

    Example, of 3 images and 1: `4 / (2 * 3)` and `4 / (2 * 1)`; and at beta .5 in proportion to `.5 / .875 = 4 / 7` and
    `.5 / .5 = 1`, which are 11 / 7 together:
        >>> {number: round(weight, 6) for number, weight in ClassWeights("inverse").of([0, 0, 0, 1]).items()}
        {0: 0.666667, 1: 2.0}
        >>> {number: round(weight, 6) for number, weight in ClassWeights("effective", 0.5).of([0, 0, 0, 1]).items()}
        {0: 0.727273, 1: 1.272727}

    Attributes:
        scheme: `"inverse"`, `"effective"`, or `""`: 1 for every class.
        beta: of the effective number, in [0, 1); the paper takes .9, .99, .999 or .9999, by validation.

    Raises:
        UserError: another scheme, or a beta out of range.
    """

    scheme: Literal["", "inverse", "effective"] = "effective"
    beta: Annotated[float, Within(0, 1 - 1e-9)] = 0.999

    def __post_init__(self):
        check(self)

    def of(self, labels: npt.ArrayLike) -> dict[int, float]:
        """The weight of each class.

        Args:
            labels: int `[N]`, every class of `range(max + 1)` at least once.

        Raises:
            UserError: other labels.
        """
        numbers = check_labels(labels)
        images = np.bincount(numbers)
        if self.scheme == "inverse":
            weights = compute_class_weight("balanced", classes=np.arange(len(images)), y=numbers)
        elif self.scheme == "effective":
            # 1 - beta^n, without losing the digits of a beta near 1.
            effective = -np.expm1(images * np.log(self.beta)) if self.beta else np.ones(len(images))
            weights = (1 / effective) / np.mean(1 / effective)
        else:
            weights = np.ones(len(images))
        return {number: float(weight) for number, weight in enumerate(weights)}


def check_sample_weight(weights: npt.ArrayLike, *, size: int) -> np.ndarray:
    """Weights of images as float32 `[N]`.

    Example:
        >>> check_sample_weight([1, 0.5], size=2)
        array([1. , 0.5], dtype=float32)

    Args:
        weights: `[N]` or `[N, 1]`.
        size: N.

    Raises:
        UserError: another shape or number of them, weights that are not finite or below 0.
    """
    numbers = np.asarray(weights)
    if numbers.dtype.kind not in "uif" or numbers.shape not in ((size,), (size, 1)):
        raise UserError(
            f"Expected a sample weight for each of {size} images. Received: {numbers.dtype} of shape {numbers.shape}"
        )
    numbers = numbers.astype(np.float32).reshape(-1)
    if len(wrong := np.flatnonzero(~(np.isfinite(numbers) & (numbers >= 0)))):
        raise UserError(
            "Expected sample weights that are finite and not below 0. "
            f"Received: {numbers[wrong[:10]].tolist()} for images {wrong[:10].tolist()}"
        )
    return numbers
