"""What a header says is believed only as far as the file can keep it."""

import struct

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data.images import headers
from cskd_tf.data.images.decode import decode, decode_batch, reason
from cskd_tf.data.images.transforms import CentreCrop
from tests.data.helpers import encoded, photo

JPEG, PROGRESSIVE = encoded(photo()), encoded(photo(), progressive=True)
TOO_MANY = "Expected at most 268,435,456 pixels, and of a JPEG 512 per byte; its size may be wrong, or its end missing."


def with_size(content, height, width):
    """A JPEG or PNG with another size in its header, and PNG's checksum left wrong, which comes later."""
    if content.startswith(b"\x89PNG"):
        return content[:16] + struct.pack(">II", width, height) + content[24:]
    place = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2")) + 5
    return content[:place] + struct.pack(">HH", height, width) + content[place + 4 :]


@pytest.mark.parametrize("content", [JPEG, PROGRESSIVE])
def test_a_jpeg_that_declares_more_pixels_than_its_bytes_can_hold_is_refused_at_every_door(content):
    # TensorFlow would decode it, grey to the end, in 507 MB; in a small file eight at a time.
    large = with_size(content, 13_000, 13_000)
    assert len(large) < 2**14
    batch = tf.constant([JPEG, large])
    for work in (
        lambda: headers.extent(large),
        lambda: decode(large, channels=3),
        lambda: decode_batch(batch, tf.zeros([2, 2], tf.int32), transform=CentreCrop(8, 8), channels=3),
        lambda: decode_batch(batch, tf.zeros([2, 2], tf.int32), transform=None, channels=3),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError) as error:
            work()
        assert reason(error.value) == TOO_MANY


def test_as_many_pixels_as_a_jpeg_can_hold_are_believed():
    most = 512 * len(JPEG)
    assert headers.extent(with_size(JPEG, 512, len(JPEG))).numpy().prod() == most
    with pytest.raises(tf.errors.InvalidArgumentError):
        headers.extent(with_size(JPEG, 513, len(JPEG)))


@pytest.mark.parametrize(
    ("size", "refused"), [((2**14, 2**14), False), ((2**14, 2**14 + 1), True), ((70_000,) * 2, True)]
)
def test_a_png_is_of_at_most_2_28_pixels(size, refused):
    content = with_size(encoded(photo(), "PNG"), *size)
    if not refused:
        assert tuple(headers.extent(content)) == size
        return
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        headers.extent(content)
    assert reason(error.value) == TOO_MANY


@pytest.mark.parametrize(
    ("contents", "most", "expected"),
    [
        ([JPEG, JPEG], 2 * 45 * 61, True),
        ([JPEG, JPEG], 2 * 45 * 61 - 1, False),
        ([JPEG, encoded(photo(), "PNG")], 2**30, False),
        ([JPEG, with_size(JPEG, 13_000, 13_000)], 2**30, False),
    ],
)
def test_jpeg_of_few_pixels(contents, most, expected):
    assert bool(headers.are_jpeg_of_few_pixels(tf.constant(contents), most=most)) == expected


def test_small_files_of_many_pixels_are_decoded_in_turns_to_the_same_pixels(monkeypatch):
    contents = tf.constant([encoded(photo(60 + number, 80, seed=number)) for number in range(5)])
    arguments = {"transform": CentreCrop(16, 20), "channels": 3}
    at_once = decode_batch(contents, tf.zeros([5, 2], tf.int32), **arguments)
    monkeypatch.setattr("cskd_tf.data.images.decode._FEW_PIXELS", 0)
    np.testing.assert_array_equal(decode_batch(contents, tf.zeros([5, 2], tf.int32), **arguments), at_once)
