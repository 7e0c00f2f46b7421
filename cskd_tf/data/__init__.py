"""Images, labels, partners, batches."""

from cskd_tf.data.augment import build_transforms
from cskd_tf.data.pipeline import evaluation_dataset, paired_dataset
from cskd_tf.data.sources import ArraySource, ImageFolder, Source, Subset, load_splits, split_by_class

__all__ = [
    "ArraySource",
    "ImageFolder",
    "Source",
    "Subset",
    "build_transforms",
    "evaluation_dataset",
    "load_splits",
    "paired_dataset",
    "split_by_class",
]
