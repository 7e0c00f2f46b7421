"""Images, labels, partners, batches."""

from cskd_tf.data.augment import build_transforms
from cskd_tf.data.datasets import load_splits
from cskd_tf.data.folders import ImageFolder
from cskd_tf.data.paired import PairedDataset
from cskd_tf.data.pipeline import evaluation_dataset, paired_dataset
from cskd_tf.data.sources import ArraySource, Concatenation, Source, Subset
from cskd_tf.data.storage import in_memory
from cskd_tf.data.stream import paired_stream

__all__ = [
    "ArraySource",
    "Concatenation",
    "ImageFolder",
    "PairedDataset",
    "Source",
    "Subset",
    "build_transforms",
    "evaluation_dataset",
    "in_memory",
    "load_splits",
    "paired_dataset",
    "paired_stream",
]
