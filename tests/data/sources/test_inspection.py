import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from cskd_tf.data import ArraySource, ImageFolder
from cskd_tf.data.sources.encoded import Encoded
from cskd_tf.data.sources.inspection import duplicates, inspect


def test_duplicates_are_found_by_content():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 3, 1), np.uint8)
    first = inspect(ArraySource(pixels[:4], np.array([0, 1, 0, 1])), name="train")
    second = inspect(ArraySource(pixels[[4, 2, 5, 2]], np.array([0, 1, 0, 1])), name="test")
    assert duplicates(first, second) == [(2, 1), (2, 3)]
    assert duplicates(second, first) == [(1, 2)]
    assert first.counts.tolist() == [2, 2]
    assert first.extents.tolist() == [[3, 3]] * 4


def test_an_empty_file_is_called_empty():
    source = Encoded(
        tf.constant(["", ""]), [0, 1], class_names=["cat", "dog"], channels=3, sizes=[0, 0], locate="image {}".format
    )
    assert inspect(source, name="train").unreadable == {0: "empty file", 1: "empty file"}


@pytest.mark.parametrize(("mode", "remark"), [("L", "grey"), ("LA", "grey with transparency"), ("P", "palette")])
def test_colour_modes_are_remarked(mode, remark, tmp_path):
    (tmp_path / "cat").mkdir()
    PIL.Image.new(mode, (5, 4)).save(tmp_path / "cat" / "1.png")
    assert inspect(ImageFolder(tmp_path), name="train").remarks == {remark: 1}
