import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from cskd_tf.data.images.transforms import (
    CentreCrop,
    Compose,
    Flip,
    Normalize,
    PadCrop,
    RandomResizedCrop,
)
from cskd_tf.errors import UserError
from tests.data.helpers import seeds


def test_centre_crop_by_hand():
    columns = np.tile(np.arange(40, dtype="float32"), (20, 1))[None, :, :, None]
    measured = CentreCrop(size=4, short_side=10)(tf.constant(columns))[0, :, :, 0]
    # At half size: 10 x 20, of which columns 8 to 11; column 8 is centred between pixels 16 and 17.
    np.testing.assert_allclose(measured[2], [16.5, 18.5, 20.5, 22.5], atol=1e-4)
    image = tf.random.stateless_uniform((2, 7, 7, 1), [0, 0])
    np.testing.assert_array_equal(CentreCrop(size=7, short_side=7)(image), image)


@pytest.mark.parametrize("shape", [(70, 51), (51, 70), (64, 64)])
def test_centre_crop_equals_pils_resize_and_crop(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    height, width = (32 * extent // min(shape) for extent in shape)
    resized = PIL.Image.fromarray(pixels).resize((width, height), PIL.Image.Resampling.BILINEAR)
    top, left = round((height - 28) / 2), round((width - 28) / 2)
    expected = np.asarray(resized, np.float32)[top : top + 28, left : left + 28]
    measured = CentreCrop(size=28, short_side=32)(tf.constant(pixels[None], tf.float32))[0]
    assert np.abs(measured - expected).max() <= 1.0


def test_pad_crop_shifts_by_at_most_the_padding_and_reaches_every_place():
    image = np.arange(1, 26, dtype="float32").reshape(1, 5, 5, 1)
    crops = PadCrop(2)(tf.constant(np.repeat(image, 500, axis=0)), seeds(500)).numpy()[..., 0]
    padded = np.pad(image[0, :, :, 0], 2)
    windows = {(top, left): padded[top : top + 5, left : left + 5] for top in range(5) for left in range(5)}
    places = []
    for crop in crops:
        (place,) = [place for place, window in windows.items() if np.array_equal(window, crop)]
        places.append(place)
    counts = [places.count(place) for place in windows]
    assert min(counts) >= 5  # 20 expected
    assert max(counts) <= 42


def test_random_resized_crop_stays_within_its_ranges():
    boxes = RandomResizedCrop(8).boxes(tf.constant([[48.0, 64.0]] * 2000), seeds(2000)).numpy()
    tops, lefts, heights, widths = boxes.T
    assert (tops >= 0).all()
    assert (lefts >= 0).all()
    assert (tops + heights <= 48).all()
    assert (lefts + widths <= 64).all()
    areas, ratios = heights * widths / (48 * 64), widths / heights
    assert areas.min() > 0.06  # whole pixels
    assert areas.max() > 0.9
    assert ratios.min() > 0.7
    assert ratios.max() < 1.43
    # Over all tries that fit, the area is close to uniform below one half.
    small = areas[areas < 0.5]
    assert np.histogram(small, bins=4, range=(0.08, 0.5))[0].min() > 0.2 * len(small)
    np.testing.assert_array_equal(boxes, np.round(boxes))


def test_random_resized_crop_falls_back_to_the_centre():
    boxes = RandomResizedCrop(8).boxes(tf.constant([[4.0, 400.0]] * 50), seeds(50)).numpy()
    fallback = boxes[boxes[:, 2] == 4]
    assert len(fallback) > 0
    np.testing.assert_array_equal(fallback[0], [0, 197, 4, 5])


def test_flip_mirrors_or_keeps():
    images = tf.random.stateless_uniform((200, 3, 4, 2), [1, 2])
    flipped = Flip()(images, seeds(200)).numpy()
    mirrored = (flipped == images.numpy()[:, :, ::-1]).all(axis=(1, 2, 3))
    kept = (flipped == images.numpy()).all(axis=(1, 2, 3))
    assert (mirrored ^ kept).all()
    assert 70 < mirrored.sum() < 130


def test_normalize_by_hand():
    np.testing.assert_allclose(
        Normalize((0.5,), (0.25,))(tf.constant([[[[255.0]]], [[[0.0]]]]))[:, 0, 0, 0], [2.0, -2.0]
    )


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_images_of_other_channels_are_refused(channels):
    """A number of rows that three divides would be taken for colours."""
    with pytest.raises(UserError, match=f"Expected images of 3 channels, as mean and std. Received: .*, {channels}"):
        Normalize((0.1, 0.5, 0.9), (1.0,) * 3)(tf.zeros((3, 2, 2, channels)))
    one = Normalize((0.5,), (1.0,))(tf.zeros((3, 2, 2, channels)))  # for all
    np.testing.assert_array_equal(one, np.full((3, 2, 2, channels), -0.5))


def test_the_same_seeds_give_the_same_images_whatever_the_batch():
    images = tf.random.stateless_uniform((6, 9, 9, 3), [0, 1], maxval=255.0)
    transform = Compose((RandomResizedCrop(9), PadCrop(2), Flip(), Normalize((0.5,) * 3, (0.2,) * 3)))
    whole = transform(images, seeds(6))
    np.testing.assert_allclose(transform(images[2:4], seeds(6)[2:4]), whole[2:4], atol=1e-5)
    assert np.abs(transform(images, seeds(6, start=1)) - whole).max() > 0.1


@pytest.mark.parametrize("crop", [PadCrop(8), RandomResizedCrop(size=64)])
def test_an_image_is_not_mirrored_because_of_how_it_was_cropped(crop):
    """Of a picture whose pixels say where they are."""
    rows, columns = np.meshgrid(np.arange(64.0), np.arange(64.0), indexing="ij")
    images = tf.constant(np.repeat(np.stack([rows, columns], axis=-1)[None], 1000, axis=0), tf.float32)
    mirrored = Flip()(images, seeds(1000)).numpy()[:, 0, 0, 1] > 0
    crops = crop(images, seeds(1000)).numpy()
    drawn = [
        crops[:, 32, 32, 0],
        crops[:, 32, 32, 1],
        np.ptp(crops[:, :, 32, 0], axis=1),
        np.ptp(crops[:, 32, :, 1], axis=1),
    ]
    assert all(values.std() > 1 for values in drawn)
    assert np.abs(np.corrcoef([mirrored, *drawn])[0, 1:]).max() < 0.1


def test_random_resized_crops_reach_every_edge_and_are_as_often_wide_as_high():
    rows, columns = np.meshgrid(np.arange(48.0), np.arange(64.0), indexing="ij")
    images = tf.constant(np.repeat(np.stack([rows, columns], axis=-1)[None], 2000, axis=0), tf.float32)
    crops = RandomResizedCrop(size=32, area=(0.1, 0.2))(images, seeds(2000)).numpy()
    assert (crops[..., 0].max(axis=(1, 2)) > 46.5).any()
    assert (crops[..., 1].max(axis=(1, 2)) > 62.5).any()
    assert (crops[..., 0].min(axis=(1, 2)) < 0.5).any()
    assert (crops[..., 1].min(axis=(1, 2)) < 0.5).any()
    heights, widths = (np.ptp(crops[..., axis], axis=(1, 2)) for axis in (0, 1))
    assert abs(np.log((widths + 1) / (heights + 1)).mean()) < 0.015


def test_no_crop_is_without_a_pixel():
    for size in ((1.0, 1.0), (2.0, 1.0), (1.0, 3.0)):
        assert (RandomResizedCrop(4).boxes(tf.constant([size] * 200), seeds(200)).numpy()[:, 2:] >= 1).all()


def test_crops_are_of_8_percent_of_an_image_and_more():
    boxes = RandomResizedCrop(8).boxes(tf.constant([[1000.0, 1000.0]] * 2000), seeds(2000)).numpy()
    assert 0.079 < (boxes[:, 2] * boxes[:, 3]).min() / 1e6 < 0.085
