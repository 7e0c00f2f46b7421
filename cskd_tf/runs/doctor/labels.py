"""How many labels of the training images are likely to be wrong, and which: by a small classifier, in seconds."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cskd_tf import data
from cskd_tf.data.sources.base import Source
from cskd_tf.errors import UserError
from cskd_tf.evaluation.confident_learning import LabelNoise
from cskd_tf.runs.classifiers import Classifier

PIXELS = 8  # of the side of the images that are compared where there are no embeddings
FOLDS = 5  # of cross-validation, and so the images that a class needs
NEIGHBOURS = 10
# Of the way from chance to all labels, how much the classifier has to agree with. Below it, most of what looks wrong is
# its own mistakes: by pixels, two thirds of CIFAR-10.
STRONG = 0.7
SHOWN = 10  # suspicious images


@dataclasses.dataclass(frozen=True, eq=False)
class Checked:
    """What became of the labels of some training images.

    Attributes:
        by: the features, in words.
        indices: int `[n]`, which images were checked.
        left_out: images of classes with fewer than `FOLDS` of them, which were not.
        agreement: share of the checked labels that cross-validation predicts; None where nothing could be checked.
        chance: share of the largest class.
        noise: of the checked images, its labels the numbers of `classes`; None as of `agreement`.
        classes: int `[C']`, the labels that were checked.
    """

    by: str
    indices: np.ndarray
    left_out: int
    agreement: float | None = None
    chance: float = 0.0
    noise: LabelNoise | None = None
    classes: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, int))

    @property
    def is_strong(self) -> bool:
        """Whether the classifier agrees with enough labels to say which of the others are wrong.

        Example: from a chance of .5 it needs .85.
            >>> nothing = np.zeros(0, int)
            >>> [Checked("pixels", nothing, 0, agreement, 0.5).is_strong for agreement in (0.84, 0.86, None)]
            [False, True, False]
        """
        return self.agreement is not None and self.agreement - self.chance >= STRONG * (1 - self.chance)


def check(source: Source, *, limit: int, classifier: Classifier | None = None, seed: int = 0) -> Checked:
    """Confident learning on the k nearest neighbours of each image, among images of other folds.

    Args:
        source: the training images, which can all be decoded.
        limit: how many images at most, drawn at random where there are more.
        classifier: whose embeddings are compared; None: `PIXELS` x `PIXELS` pixels.
        seed: of the draw and of the folds.

    Raises:
        UserError: a classifier without embeddings, or of images of other channels.
    """
    by = f"the embeddings of {classifier.name}" if classifier else f"{PIXELS} x {PIXELS} pixels"
    drawn = np.sort(np.random.default_rng(seed).permutation(len(source.labels))[:limit])
    counts = np.bincount(source.labels[drawn], minlength=len(source.class_names))
    indices = drawn[counts[source.labels[drawn]] >= FOLDS]
    left_out = len(drawn) - len(indices)
    classes, labels = np.unique(source.labels[indices], return_inverse=True)
    if len(classes) < 2:
        return Checked(by, indices, left_out)
    chosen = source.subset(indices)
    features = _embeddings(chosen, classifier) if classifier else _pixels(chosen)
    neighbours = KNeighborsClassifier(min(NEIGHBOURS, len(indices) // 2), weights="distance")
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    compared = make_pipeline(StandardScaler(), neighbours)
    probabilities = cross_val_predict(compared, features, labels, cv=folds, method="predict_proba")
    agreement = float((probabilities.argmax(axis=1) == labels).mean())
    chance = float(np.bincount(labels).max() / len(labels))
    return Checked(by, indices, left_out, agreement, chance, LabelNoise.of(probabilities, labels), classes)


def _pixels(source: Source) -> np.ndarray:
    """Float32 `[n, D]`: small copies of the images."""
    channels = source.image_shape[2]
    small = data.Augmentation(image_size=PIXELS, crop="none", mean=(0.0,) * channels, std=(1.0,) * channels)
    _, transform = data.build_transforms(small)
    batches = data.evaluation_dataset(source, batch_size=256, transform=transform)
    return np.concatenate([images.numpy().reshape(len(images), -1) for images, _ in batches])


def _embeddings(source: Source, classifier: Classifier) -> np.ndarray:
    if classifier.channels != source.image_shape[2]:
        raise UserError(
            f"Expected --with a run on images of {source.image_shape[2]} channels. "
            f"Received: {classifier.name}, on {classifier.channels}"
        )
    embeddings = classifier.on(source, name="train").embeddings
    if not embeddings.shape[1]:
        raise UserError(f"Expected --with a run whose embeddings are known. Received: {classifier.name}, without")
    return embeddings.reshape(len(embeddings), -1)


def described(checked: Checked, source: Source, *, saw_them: bool) -> Iterator[str]:
    """What to tell of it, line by line.

    Args:
        checked: what `check` returned.
        source: what it was given.
        saw_them: whether the classifier's network was trained on these labels.
    """
    count = len(checked.indices)
    if checked.noise is None or checked.agreement is None:
        yield f"train: labels are not checked: fewer than two classes have {FOLDS} images"
        return
    left_out = (
        f"; {checked.left_out:,} images in classes of fewer than {FOLDS} are left out" if checked.left_out else ""
    )
    yield (
        f"train: the neighbours of {count:,} images by {checked.by} agree with {100 * checked.agreement:.1f} % of the "
        f"labels{left_out}"
    )
    if not checked.is_strong:
        yield (
            f"train: too weak to tell wrong labels from its own mistakes (chance {100 * checked.chance:.1f} %): either "
            "these features do not show the classes, or very many labels are wrong; --with=WORKDIR takes a run's "
            "embeddings"
        )
        return
    share = f"{100 * checked.noise.share:.1f} %"
    if ends := checked.noise.interval():
        share += f" (95 %: {100 * ends[0]:.1f} to {100 * ends[1]:.1f})"
    yield (
        f"train: {share} of the labels look wrong by confident learning, which counts mistakes of the neighbours too: "
        "an upper estimate"
    )
    if saw_them:
        yield "train: that run was trained on these labels and may have learnt wrong ones: then there are more"
    suspects = checked.noise.suspects[:SHOWN]
    for number in suspects:
        given, likely = (
            source.class_names[checked.classes[each[number]]] for each in (checked.noise.labels, checked.noise.likely)
        )
        yield f"  {source.locate(int(checked.indices[number]))}: labelled {given!r}, looks like {likely!r}"
