"""How many labels are wrong, and which, by a classifier that has not seen them: confident learning.

Northcutt, Jiang and Chuang, JAIR 2021 (https://arxiv.org/abs/1911.00068). The probabilities are those of
cross-validation, so that no image was predicted by a classifier which had learnt its label.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from cskd_tf.errors import UserError
from cskd_tf.evaluation.intervals import interval, resampled


@dataclasses.dataclass(frozen=True, eq=False)
class LabelNoise:
    """What labels are likely to be, from probabilities `p` of classes.

    The threshold of a class is the mean of `p` for it over the images that are labelled so. An image counts as of the
    class of the highest `p` among those that reach their thresholds, and as of none where no class does (section 3.1).
    A threshold of 0, of a class that the classifier finds in none of its own images, no image reaches: by the letter
    each would, and all that reach no other would count as of that class.
    Counts of label i and class j are the confident joint. A row of it, scaled to the images that have the label, tells
    how many of these are of each class (equation 3); the row of a label without counts is taken for right.

    What the classifier mistakes with confidence counts as a wrong label, so that the share is too high where it is a
    weak one.

    Example: both thresholds are .7. The third image reaches that of class 1 alone, although its label is 0, and of the
    four labels 0 a third is therefore likely to be 1. The fourth image reaches none.
        >>> p = np.array([0.9, 0.9, 0.2, 0.8, 0.3, 0.3])
        >>> p[3] = 0.6
        >>> noise = LabelNoise.of(np.stack([p, 1 - p], axis=1), [0, 0, 0, 0, 1, 1])
        >>> noise.likely.tolist(), noise.suspects.tolist(), round(noise.share, 6)
        ([0, 0, 1, -1, 1, 1], [2], 0.222222)

    Attributes:
        labels: int `[N]`, as given.
        likely: int `[N]`, the class that each image counts as; -1: none.
        suspects: indices of the images that count as of another class than their label, the lowest margin first: `p` of
            the label less the highest other (the paper's prune by noise rate orders by it).
        classes: C.
    """

    labels: np.ndarray
    likely: np.ndarray
    suspects: np.ndarray
    classes: int

    @classmethod
    def of(cls, probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> "LabelNoise":
        """From out-of-sample probabilities.

        Args:
            probabilities: `[N, C]`.
            labels: int `[N]`, each of the C classes at least once.

        Raises:
            UserError: other shapes or labels, or probabilities that are not finite.
        """
        p, y = np.asarray(probabilities, np.float64), np.asarray(labels)
        fits = p.ndim == 2 and y.shape == p.shape[:1] and np.issubdtype(y.dtype, np.integer)
        if not (fits and np.isfinite(p).all() and np.array_equal(np.unique(y), np.arange(p.shape[1]))):
            raise UserError(
                "Expected finite probabilities [N, C] and labels [N] of each of the C classes. "
                f"Received: probabilities {p.shape}, labels {y.shape} of {len(np.unique(y))} classes"
            )
        count, classes = p.shape
        thresholds = np.empty(classes)
        for label in range(classes):
            own = p[y == label, label]
            thresholds[label] = np.clip(own.mean(), own.min(), own.max())  # the mean of equals may round to another
        reaching = np.where((p >= thresholds) & (thresholds > 0), p, -1.0)
        likely = np.where(reaching.max(axis=1) >= 0, reaching.argmax(axis=1), -1)
        own = p[np.arange(count), y]
        others = p.copy()
        others[np.arange(count), y] = -1.0
        margins = own - others.max(axis=1)
        suspects = np.flatnonzero((likely >= 0) & (likely != y))
        return cls(y, likely, suspects[np.argsort(margins[suspects], kind="stable")], classes)

    @property
    def share(self) -> float:
        """Of labels that are likely to be wrong."""
        return self._share(np.arange(len(self.labels)))

    def interval(self, *, resamples: int = 1000, seed: int = 0) -> list[float] | None:
        """95 % of the shares of images drawn again, by the same classifier and thresholds; see `intervals.interval`."""
        drawn = resampled(
            lambda chosen: {"share": self._share(chosen)}, len(self.labels), resamples=resamples, seed=seed
        )
        return interval(drawn["share"])

    def _share(self, chosen: np.ndarray) -> float:
        """Of the images at some indices: over labels, their share times that of their counts off the diagonal."""
        labels, likely = self.labels[chosen], self.likely[chosen]
        images = np.bincount(labels, minlength=self.classes)
        counted = np.bincount(labels[likely >= 0], minlength=self.classes)
        wrong = np.bincount(labels[(likely >= 0) & (likely != labels)], minlength=self.classes)
        return float((images * wrong / np.maximum(counted, 1)).sum() / len(chosen))
