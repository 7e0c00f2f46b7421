"""Images, labels, partners, batches."""

from cskd_tf.data.batches.dataset import PairedDataset
from cskd_tf.data.batches.pairing import Pairing
from cskd_tf.data.batches.pipeline import evaluation_dataset, paired_dataset
from cskd_tf.data.batches.stream import paired_stream
from cskd_tf.data.catalogue.splits import DATASETS, SourceOptions, SplitOptions, load_splits
from cskd_tf.data.images.transforms import Augmentation, build_transforms
from cskd_tf.data.sources.base import ArraySource, Concatenation, Source, Subset
from cskd_tf.data.sources.folders import ImageFolder
from cskd_tf.data.sources.memory import in_memory

__all__ = [
    "DATASETS",
    "ArraySource",
    "Augmentation",
    "Concatenation",
    "ImageFolder",
    "PairedDataset",
    "Pairing",
    "Source",
    "SourceOptions",
    "SplitOptions",
    "Subset",
    "build_transforms",
    "evaluation_dataset",
    "in_memory",
    "load_splits",
    "paired_dataset",
    "paired_stream",
]
