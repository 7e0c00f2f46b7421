"""Encoded images in memory and in files, and several sources as one."""

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import ArraySource, Concatenation
from cskd_tf.data.sources.encoded import Encoded, Files
from tests.data.helpers import paths


def in_memory(*contents, labels, class_names, channels=3, name="image"):
    sizes = [len(content) for content in contents]
    arguments = {"class_names": class_names, "channels": channels, "sizes": sizes}
    return Encoded(tf.constant(contents), labels, locate=f"{name} {{}}".format, **arguments)


def read(source, indices):
    return source.read(tf.constant(indices, tf.int64)).numpy().tolist()


def test_files_are_read_in_any_order(tmp_path):
    files = [tmp_path / name for name in ("a", "b", "c")]
    for file in files:
        file.write_text(2 * file.name)
    source = Files(list(map(str, files)), [0, 1, 1], class_names=["one", "two"], channels=3, sizes=[2, 2, 2])
    assert read(source, [2, 0, 2]) == [b"cc", b"aa", b"cc"]
    assert paths(source) == list(map(str, files))
    assert source.sizes.dtype == np.int64
    assert source.image_shape == (None, None, 3)


@pytest.fixture
def joined():
    birds = in_memory(b"a", b"bb", labels=[1, 0], class_names=["crow", "wren"], name="bird")
    dogs = in_memory(b"ccc", labels=[0], class_names=["pug"], name="dog")
    cats = in_memory(b"dddd", b"eeeee", labels=[0, 0], class_names=["manx"], name="cat")
    return Concatenation({"birds": birds, "dogs": dogs, "cats": cats})


def test_classes_of_joined_sources_stand_side_by_side(joined):
    assert joined.class_names == ["birds/crow", "birds/wren", "dogs/pug", "cats/manx"]
    assert joined.class_groups == ["birds", "birds", "dogs", "cats"]
    assert joined.labels.tolist() == [1, 0, 2, 3, 3]
    assert joined.sizes.tolist() == [1, 2, 3, 4, 5]
    assert paths(joined) == ["bird 0", "bird 1", "dog 0", "cat 0", "cat 1"]


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 2, 0, 3, 1], [2], [1, 1, 4, 1]])
def test_joined_sources_are_read_in_any_order(joined, order):
    assert read(joined, order) == [[b"a", b"bb", b"ccc", b"dddd", b"eeeee"][index] for index in order]


def test_a_subset_of_joined_sources_is_read_by_its_own_numbers(joined):
    subset = joined.subset(np.array([4, 1, 2]))
    assert read(subset, [2, 0]) == [b"ccc", b"eeeee"]
    assert subset.labels.tolist() == [3, 0, 2]


def test_only_encoded_images_of_as_many_channels_are_joined():
    colour = in_memory(b"a", labels=[0], class_names=["one"])
    grey = in_memory(b"a", labels=[0], class_names=["one"], channels=1)
    with pytest.raises(ValueError, match="JPEG or PNG images to concatenate. Received: {'a': 'JPEG or PNG', 'b': 'arr"):
        Concatenation({"a": colour, "b": ArraySource(np.zeros([1, 2, 2, 3]), [0])})
    with pytest.raises(ValueError, match="JPEG or PNG images to concatenate"):
        Concatenation({"a": colour, "b": grey})
