"""Images, labels, partners, batches."""

from cskd_tf.data.batches.dataset import PairedDataset
from cskd_tf.data.batches.pairing import Pairing
from cskd_tf.data.batches.pipeline import evaluation_dataset, paired_dataset
from cskd_tf.data.batches.stream import paired_stream
from cskd_tf.data.batches.views import Distribution, Needs
from cskd_tf.data.batches.weights import ClassWeights
from cskd_tf.data.catalogue.datasets import DATASETS, SourceOptions, SplitOptions
from cskd_tf.data.catalogue.splits import load_splits
from cskd_tf.data.images.augmentation import Augmentation, build_transforms
from cskd_tf.data.images.keras_layers import KerasLayers
from cskd_tf.data.sources.arrays import ArraySource
from cskd_tf.data.sources.base import EncodedSource, PixelSource, Source
from cskd_tf.data.sources.caching import in_memory
from cskd_tf.data.sources.encoded import Concatenation
from cskd_tf.data.sources.folders import ImageFolder
from cskd_tf.data.sources.image_table import ImageTable

__all__ = [
    "DATASETS",
    "ArraySource",
    "Augmentation",
    "ClassWeights",
    "Concatenation",
    "Distribution",
    "EncodedSource",
    "ImageFolder",
    "ImageTable",
    "KerasLayers",
    "Needs",
    "PairedDataset",
    "Pairing",
    "PixelSource",
    "Source",
    "SourceOptions",
    "SplitOptions",
    "build_transforms",
    "evaluation_dataset",
    "in_memory",
    "load_splits",
    "paired_dataset",
    "paired_stream",
]
