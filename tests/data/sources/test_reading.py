"""Images read one by one and all at once: their sizes, and why some of them cannot be used."""

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import ArraySource
from cskd_tf.data.sources import reading
from cskd_tf.data.sources.encoded import Encoded
from tests.data.helpers import encoded, photo


def source_of(*contents):
    """Encoded images of one class, called by their numbers."""
    sizes = [len(content) for content in contents]
    return Encoded(
        tf.constant(contents),
        [0] * len(contents),
        class_names=["one"],
        channels=3,
        sizes=sizes,
        locate="image {}".format,
    )


def test_reasons_are_one_line():
    def checked(content):
        return reading.read_and_decode(lambda: tf.constant(content), channels=3)[1:]

    assert checked(b"\xff\xd8\xff") == ((0, 0), "Invalid JPEG data, size 3")
    assert checked(encoded(photo(), "GIF")) == ((0, 0), "Expected JPEG or PNG.")
    assert checked(b"") == ((0, 0), "empty file")
    assert checked(encoded(photo(12, 17))) == ((12, 17), "")


def test_a_file_that_cannot_be_read_is_a_problem_and_no_failure():
    missing = reading.read_and_decode(lambda: tf.io.read_file("nowhere/1.jpg"), channels=3)
    assert missing.contents == b""
    assert "nowhere/1.jpg; No such file or directory" in missing.problem


def test_unreadable_images_are_named():
    source = source_of(encoded(photo()), b"no image", encoded(photo()), b"")
    assert reading.unreadable_images(source, name="train") == {1: "Expected JPEG or PNG.", 3: "empty file"}
    with pytest.raises(ValueError, match=r"Received: 2 of train that cannot be decoded: \['image 1', 'image 3'\]"):
        reading.refuse_unreadable(source, name="train")
    reading.refuse_unreadable(source_of(encoded(photo())), name="train")
    reading.refuse_unreadable(ArraySource(np.zeros([1, 2, 2, 3]), [0]), name="train")  # which has no files


def test_contents_come_in_their_order_in_batches_of_64():
    source = source_of(*(f"{number:03d}".encode() for number in range(150)))
    batches = reading.map_contents(source, tf.strings.to_number, name="train", verb="Reading")
    assert [len(batch) for batch in batches] == [64, 64, 22]
    assert np.concatenate(batches).tolist() == list(range(150))


def test_sizes_come_from_the_headers():
    photos = [photo(12, 17), photo(9, 5).convert("L"), photo(12, 17)]
    images = [encoded(image, kind) for image, kind in zip(photos, ("JPEG", "PNG", "PNG"), strict=True)]
    assert reading.extents(source_of(*images), name="train").tolist() == [[12, 17], [9, 5], [12, 17]]
    assert reading.common_shape(source_of(images[0], images[2]), name="train") == (12, 17, 3)
    assert reading.common_shape(source_of(*images), name="train") is None
    late = source_of(images[0], images[2], images[1])
    assert reading.common_shape(late, name="train", probes=2) is None  # found only among those that were not probed
    with pytest.raises(ValueError, match=r"1 of test that cannot be decoded: \['image 1'\]"):
        reading.extents(source_of(images[0], b"no image"), name="test")
