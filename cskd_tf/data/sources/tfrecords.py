"""Data sets of TensorFlow Datasets (TFDS), any image of which can be read at any time from their TFRecord files."""

import hashlib
import json
import os
import pathlib
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
from absl import logging

from cskd_tf.data.sources.base import EncodedSource
from cskd_tf.data.sources.passes import track
from cskd_tf.data.sources.weakly import weakly
from cskd_tf.errors import UserError
from cskd_tf.files import read_arrays, written_whole

if TYPE_CHECKING:  # TFDS takes half a second to import
    import tensorflow_datasets as tfds

_FRAME = 12  # bytes before a record: its length, and a checksum of the length
_CHECKSUM = 4  # bytes after it
_COARSE = "coarse_label"  # what TFDS calls the superclass of an image
_FILE_NAMES = ("file_name", "image/filename", "filename")  # what data sets call an image's original name


class Records(EncodedSource):
    """One split of a prepared TFDS data set, read record by record from its TFRecord files.

    The place of each record takes 20 bytes of memory. Places and labels are found by reading everything once, and kept
    in a file beside the records, so that the next start is quick.

    Args:
        builder: of a prepared data set.
        split: in TFDS' notation, such as `train` or `train[:90%]`.
        channels: 3 (colour) or 1 (grey).
        classes: numbers of the classes to keep, sorted, where another split has set them; else those with an image.
        class_groups: of these classes, from that split; else the names of their coarse labels, as CIFAR-100 has them.

    Attributes:
        classes: the numbers that TFDS gives the classes that are kept, sorted.

    Raises:
        UserError: an unknown split, another file format, features that are not an image and its class, or images
            without a label.
    """

    def __init__(
        self,
        builder: "tfds.core.DatasetBuilder",
        split: str,
        *,
        channels: int,
        classes: np.ndarray | None = None,
        class_groups: Sequence[str] | None = None,
    ):
        image, label = _features(builder)
        self._image, self._name = image, f"{builder.info.full_name}, {split}"
        instructions = _instructions(builder, split)
        self._files = [os.fspath(instruction.filename) for instruction in instructions]
        index = _index(pathlib.Path(builder.data_dir), self._files, label)
        if (unlabelled := int((index["labels"] < 0).sum())) > 0:
            raise UserError(f"Expected images with labels. Received: {self._name}, with {unlabelled} that have none")
        in_split = _in_split(instructions, index["shards"])
        self.classes = np.unique(index["labels"][in_split]) if classes is None else classes
        kept = np.isin(index["labels"], self.classes) & in_split
        if left_out := int(in_split.sum() - kept.sum()):
            logging.warning("%s: %d images of classes without a training image are left out", self._name, left_out)
        names = builder.info.features[label].names
        self._shards, self._offsets = index["shards"][kept], index["offsets"][kept]
        super().__init__(
            np.searchsorted(self.classes, index["labels"][kept]),
            class_names=[names[number] for number in self.classes],
            class_groups=class_groups,
            channels=channels,
            sizes=index["sizes"][kept],  # with what else is in the records, such as CUB's masks
        )
        if classes is None and _COARSE in builder.info.features:
            self.class_groups = self._coarse_names(builder.info.features[_COARSE].names)

    def read(self, indices: tf.Tensor) -> tf.Tensor:
        # tf.data makes batches in parallel only of what is declared stateless. This reads files, but always the same.
        records = tf.numpy_function(weakly(self._records), [indices], tf.string, stateful=False)
        records = tf.ensure_shape(records, indices.shape)
        return tf.io.parse_example(records, {self._image: tf.io.FixedLenFeature([], tf.string)})[self._image]

    def _coarse_names(self, names: Sequence[str]) -> list[str]:
        """The coarse label of each class: that of its first image, as the fine label determines the coarse one."""
        firsts = np.unique(self.labels, return_index=True)[1]
        examples = [tf.train.Example.FromString(record) for record in self._records(firsts)]
        return [names[example.features.feature[_COARSE].int64_list.value[0]] for example in examples]

    def locate(self, index: int) -> str:
        features = tf.train.Example.FromString(self._records(np.array([index]))[0]).features.feature
        names = [features[key].bytes_list.value[0].decode() for key in _FILE_NAMES if key in features]
        return f"{names[0] if names else f'image {index}'} of {self._name}"

    def _records(self, indices: np.ndarray) -> np.ndarray:
        """The bytes of some records, object `[n]`."""
        records = np.empty(len(indices), object)
        for place, index in enumerate(indices):
            with open(self._files[self._shards[index]], "rb", buffering=0) as file:
                records[place] = os.pread(file.fileno(), int(self.sizes[index]), int(self._offsets[index]))
        return records


def _features(builder: "tfds.core.DatasetBuilder") -> tuple[str, str]:
    """What a data set calls its image and its label."""
    import tensorflow_datasets as tfds

    keys: tuple = builder.info.supervised_keys or ()
    features = builder.info.features
    kinds = [features[key] for key in keys if isinstance(key, str)]
    if [type(kind) for kind in kinds] != [tfds.features.Image, tfds.features.ClassLabel]:
        raise UserError(
            "Expected a data set whose supervised keys are an Image and a ClassLabel. "
            f"Received: {builder.info.full_name} with {keys or 'no supervised keys'}, features {list(features)}"
        )
    image, label = keys
    return image, label


def _instructions(builder: "tfds.core.DatasetBuilder", split: str) -> list:
    """Which records of which files make up a split, one instruction of TFDS per file."""
    try:
        info = builder.info.splits[split]
    except (KeyError, ValueError):
        split_names = sorted(builder.info.splits)
        raise UserError(
            f"Unknown split of {builder.info.full_name}; expected one of {split_names}, or a part, as in train[:90%]. "
            f"Received: {split!r}"
        ) from None
    if builder.info.file_format.value != "tfrecord":
        raise UserError(
            f"Expected {builder.info.full_name} to be prepared as tfrecord. Received: {builder.info.file_format.value}"
        )
    if not info.num_examples:
        raise UserError(f"Expected at least one image. Received: split {split!r} of {builder.info.full_name}, empty")
    return info.file_instructions


def _in_split(instructions: list, shards: np.ndarray) -> np.ndarray:
    """Bool `[N]`, which records of its files belong to a split, which may be a part of them."""
    ranks = np.arange(len(shards)) - np.searchsorted(shards, shards)
    skips, takes = (np.array([getattr(instruction, key) for instruction in instructions]) for key in ("skip", "take"))
    return (ranks >= skips[shards]) & (ranks < (skips + takes)[shards])


def _index(folder: pathlib.Path, files: list[str], label: str) -> dict[str, np.ndarray]:
    """For each record its file (`shards`), `offsets`, `sizes` and `labels`, from the cache if it is there."""
    names_and_sizes = json.dumps([[os.path.basename(file), os.path.getsize(file)] for file in files])
    cache = folder / f"cskd_tf_index_{hashlib.sha256(names_and_sizes.encode()).hexdigest()[:16]}.npz"
    if cache.exists():
        return read_arrays(cache, ["shards", "offsets", "sizes", "labels"])
    places = [_places(file) for file in files]
    shards = np.repeat(np.arange(len(files), dtype=np.int32), [len(offsets) for offsets, _ in places])
    offsets, sizes = (np.concatenate(columns) for columns in zip(*places, strict=True))
    feature = {label: tf.io.FixedLenFeature([], tf.int64)}
    batches = tf.data.TFRecordDataset(files, num_parallel_reads=1).batch(256)
    parsed = batches.map(lambda records: tf.io.parse_example(records, feature)[label], num_parallel_calls=2)
    counted = track(parsed.as_numpy_iterator(), total=-(-len(shards) // 256), description="Reading labels")
    try:
        labels = np.concatenate(list(counted))
    except tf.errors.DataLossError as error:
        raise UserError(f"Expected whole TFRecords. Received: damage in {folder}: {error.message}") from error
    try:
        with written_whole(cache) as partial:
            np.savez(partial, shards=shards, offsets=offsets, sizes=sizes, labels=labels)
    except OSError as error:
        logging.warning("The labels will be read again at the next start: %s", error)
    return {"shards": shards, "offsets": offsets, "sizes": sizes, "labels": labels}


def _places(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and sizes of the records in a TFRecord file, int64 both."""
    offsets, sizes, position, end = [], [], 0, os.path.getsize(path)
    with open(path, "rb", buffering=0) as file:
        while position < end:
            head = os.pread(file.fileno(), 8, position)
            size = struct.unpack("<Q", head)[0] if len(head) == 8 else end
            offsets.append(position + _FRAME)
            sizes.append(size)
            position += _FRAME + size + _CHECKSUM
    if position != end:
        raise UserError(f"Expected whole TFRecords. Received: {path}, cut off in its last record")
    return np.array(offsets, np.int64), np.array(sizes, np.int64)
