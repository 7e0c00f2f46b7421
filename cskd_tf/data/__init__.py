"""Images, labels, partners, batches."""

from cskd_tf.data.batches.dataset import PairedDataset
from cskd_tf.data.batches.pipeline import evaluation_dataset, paired_dataset
from cskd_tf.data.batches.stream import paired_stream
from cskd_tf.data.catalogue.splits import DATASETS, load_splits
from cskd_tf.data.images.transforms import build_transforms
from cskd_tf.data.sources.base import ArraySource, Concatenation, Source, Subset
from cskd_tf.data.sources.folders import ImageFolder
from cskd_tf.data.sources.memory import in_memory

__all__ = [
    "DATASETS",
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
