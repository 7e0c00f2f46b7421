"""From a file's bytes to pixels, as PIL sees them: whole images, and the parts of them that a crop needs."""

import dataclasses
import io
import itertools
from typing import ClassVar

import cykooz_resizer
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from cskd_tf.data import ImageFolder
from cskd_tf.data.images.decode import decode, decode_batch, transform_batch
from cskd_tf.data.images.headers import extent
from cskd_tf.data.images.transforms import CentreCrop, Compose, Normalize, RandomResizedCrop, Resize
from tests.data.helpers import as_pil, encoded, photo, seeds, write
from tests.data.image_files import CUT_JPEG, GREY, SEPARATIONS, WHOLE
from tests.selection import few, quick


@pytest.mark.parametrize("kind", WHOLE)
def test_images_are_decoded_as_pil_does(kind, two_classes):
    path = write(two_classes / "cat" / "1.jpg", WHOLE[kind])  # whatever the suffix says
    expected = as_pil(WHOLE[kind])
    pixels = ImageFolder(two_classes).decode_one(0)
    assert extent(path.read_bytes()).numpy().tolist() == list(pixels.shape[:2]) == [45, 61]  # rotated or not
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("kind", GREY)
def test_grey_images_are_decoded_as_one_channel_as_pil_does(kind):
    np.testing.assert_array_equal(decode(GREY[kind], channels=1)[..., 0], as_pil(GREY[kind], "L"))


def test_separations_with_black_differ_from_pil_by_rounding():
    content = encoded(SEPARATIONS)
    difference = np.abs(decode(content, channels=3).numpy().astype(int) - as_pil(content))
    assert difference.max() == 1


def test_of_16_bits_of_grey_the_upper_8_are_kept():
    # PIL clips at 255 instead, which makes such images white.
    levels = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    content = encoded(PIL.Image.fromarray(levels), "PNG")
    np.testing.assert_array_equal(decode(content, channels=1)[..., 0], levels >> 8)
    np.testing.assert_array_equal(as_pil(content, "L"), np.minimum(levels, 255))


def test_colours_become_greys():
    # PIL computes greys from the colours; a JPEG has its own, for which PIL has to be asked.
    for kind, tolerance in (("png", 1), ("jpeg 4:2:0", 3)):
        grey = decode(WHOLE[kind], channels=1)[..., 0].numpy().astype(int)
        assert np.abs(grey - as_pil(WHOLE[kind], "L")).max() <= tolerance
    own = PIL.Image.open(io.BytesIO(WHOLE["jpeg 4:2:0"]))
    own.draft("L", own.size)
    np.testing.assert_array_equal(grey, np.asarray(own))


def test_a_jpeg_damaged_in_the_middle_is_decoded_as_pil_does():
    # A JPEG has no checksum; the decoder goes on at the next code that it understands.
    content = CUT_JPEG[: len(CUT_JPEG) // 2] + CUT_JPEG[len(CUT_JPEG) // 2 + 60 :]
    pixels = decode(content, channels=3)
    np.testing.assert_array_equal(pixels, as_pil(content))
    assert (pixels != as_pil(CUT_JPEG)).numpy().any()


def resized(image, box, size):
    top, left, height, width = (int(value) for value in box)
    crop = image.crop((left, top, left + width, top + height))
    return np.asarray(crop.resize((size, size), PIL.Image.Resampling.BILINEAR), np.float32)


MIXED = [
    encoded(photo(70, 51), subsampling=2),
    encoded(photo(33, 90, seed=1), "PNG"),
    encoded(photo(48, 48, seed=2), progressive=True),
    encoded(photo(61, 40, seed=3).convert("L")),
]


def test_random_resized_crops_of_encoded_images_equal_pils():
    transform, contents = RandomResizedCrop(24), MIXED * 8
    extents = [as_pil(content).shape[:2] for content in contents]
    boxes = transform.boxes(tf.constant(extents, tf.float32), seeds(32)).numpy()
    measured = decode_batch(tf.constant(contents), seeds(32), transform=transform, channels=3)
    for content, box, pixels in zip(contents, boxes, measured, strict=True):
        # PIL too rounds after each axis, but takes the width first.
        assert np.abs(pixels - resized(PIL.Image.fromarray(as_pil(content)), box, 24)).max() <= 1


@pytest.mark.parametrize(("size", "short_side"), few([(24, 24), (24, 28), (64, 80)], 2))
def test_centre_crops_of_encoded_images_equal_pils(size, short_side):
    measured = decode_batch(tf.constant(MIXED), seeds(4), transform=CentreCrop(size, short_side), channels=3)
    for content, pixels in zip(MIXED, measured, strict=True):
        image = PIL.Image.fromarray(as_pil(content))
        width, height = (short_side * length // min(image.size) for length in image.size)
        top, left = round((height - size) / 2), round((width - size) / 2)
        whole = np.asarray(image.resize((width, height), PIL.Image.Resampling.BILINEAR), np.float32)
        assert np.abs(pixels - whole[top : top + size, left : left + size]).max() <= 1


@dataclasses.dataclass(frozen=True)
class Cut(Resize):
    """Given squares at their own size, so that nothing is resized."""

    size: int
    corners: np.ndarray
    confine: ClassVar[bool] = True

    def boxes(self, extents, seeds):
        return tf.constant(np.hstack([self.corners, np.full_like(self.corners, self.size)]), tf.float32)


@pytest.mark.parametrize("size", quick([1, 16, 33, 45], 45))
def test_a_part_decoded_alone_equals_the_part_of_the_whole(size):
    last = np.array([45, 61]) - size
    edges = np.array(list(itertools.product((0, 1, last[0]), (0, 1, last[1])))).clip(0, last)
    corners = np.concatenate([edges, np.random.default_rng(size).integers(0, last + 1, (8, 2))])
    contents = tf.repeat(tf.constant(list(WHOLE.values())), len(corners))
    transform = Cut(size, np.tile(corners, (len(WHOLE), 1)))
    measured = decode_batch(contents, seeds(len(contents)), transform=transform, channels=3)
    parts = measured.numpy().reshape(len(WHOLE), len(corners), size, size, 3)
    for content, parts_of_one in zip(WHOLE.values(), parts, strict=True):
        whole = as_pil(content)
        for (top, left), part in zip(corners, parts_of_one, strict=True):
            np.testing.assert_array_equal(part, whole[top : top + size, left : left + size])


@pytest.mark.parametrize("transform", [RandomResizedCrop(24), CentreCrop(24, 28)])
def test_pixels_do_not_depend_on_what_else_is_in_the_batch(transform, monkeypatch):
    jpegs = [content for content in MIXED if content[:2] == b"\xff\xd8"] * 3
    decoded = lambda contents: decode_batch(  # noqa: E731
        tf.constant(contents), seeds(len(contents)), transform=transform, channels=3
    ).numpy()
    small = decoded(jpegs)  # decoded whole
    assert small.shape == (9, 24, 24, 3)
    np.testing.assert_array_equal(decoded([*jpegs, MIXED[1]])[:9], small)  # in part, for there is a PNG
    np.testing.assert_array_equal(decoded(jpegs[:1]), small[:1])
    large = encoded(photo(700, 600), quality=100, subsampling=0)
    assert len(large) > 10 * 2**14
    beside = decoded([*jpegs, large])
    np.testing.assert_array_equal(beside[:9], small)
    monkeypatch.setattr("cskd_tf.data.images.decode._GROUP_BYTES", 20_000)  # a few at a time, and the large one alone
    np.testing.assert_array_equal(decoded([*jpegs, large]), beside)


def test_a_batch_is_the_same_with_every_kind_of_instructions(monkeypatch):
    contents, transform = tf.constant(MIXED), RandomResizedCrop(24)
    expected = decode_batch(contents, seeds(4), transform=transform, channels=3)
    resizers = []

    class Plain(cykooz_resizer.Resizer):
        def __init__(self):
            super().__init__()
            self.cpu_extensions = cykooz_resizer.CpuExtensions.none
            resizers.append(self)

    monkeypatch.setattr(cykooz_resizer, "Resizer", Plain)
    np.testing.assert_array_equal(decode_batch(contents, seeds(4), transform=transform, channels=3), expected)
    assert resizers


def test_transforms_that_do_not_begin_with_a_crop_see_whole_images():
    contents = tf.constant([encoded(photo(12, 12, seed=seed)) for seed in range(2)])
    measured = decode_batch(contents, seeds(2), transform=lambda images, _: images[:, ::2], channels=3)
    assert measured.shape == (2, 6, 12, 3)
    for content, pixels in zip(contents.numpy(), measured, strict=True):
        np.testing.assert_array_equal(pixels, as_pil(content)[::2])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "resize", [CentreCrop(size=20, short_side=24), RandomResizedCrop(20)], ids=["centre", "random"]
)
def test_large_images_of_any_channels_are_resized_as_small_ones(channels, resize):
    """The last channel is one among others, and no transparency, which PIL would multiply the others with."""
    images = np.random.default_rng(0).integers(0, 256, (3, 130, 140, channels), np.uint8)
    transform = Compose([resize, Normalize((0.5,) * channels, (1 / 255,) * channels)])
    quick = transform_batch(tf.constant(images), seeds(3), transform=transform)
    exact = transform(tf.constant(images), seeds(3))
    np.testing.assert_allclose(quick, exact, atol=1.01)
