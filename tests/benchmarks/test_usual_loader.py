"""The loaders that ours is compared with do the work: whole batches of pairs of one class, with the pixels of files."""

import itertools
import random

import numpy as np
import PIL.Image
import pytest

from benchmarks import usual_loader

SHAPE = (3, 4, 4)
LABELS = [number % 3 for number in range(12)]


@pytest.fixture
def images(tmp_path):
    """Every pixel of an image is its number."""
    pixels = np.broadcast_to(np.arange(12, dtype=np.uint8)[:, None, None, None], (12, 4, 4, 3))
    np.save(tmp_path / "images.npy", pixels)
    return usual_loader.ArrayImages(str(tmp_path / "images.npy"), LABELS)


def numbers(pixels):
    return np.round(255 * pixels[:, 0, 0, 0]).astype(int)


@pytest.mark.parametrize("kind", ["processes", "threads"])
def test_an_epoch_is_every_image_once_beside_one_of_its_class(kind, images):
    loader = usual_loader.UsualLoader(images, usual_loader.ToArray(), batch_size=4, shape=SHAPE, kind=kind, workers=2)
    shown = []
    for own, partners, labels in itertools.islice(loader, 3):
        assert own.shape == partners.shape == (4, *SHAPE)
        assert (numbers(own) % 3 == labels).all()
        assert (numbers(partners) % 3 == labels).all()
        shown += numbers(own).tolist()
    loader.rest()
    loader.close()
    assert sorted(shown) == list(range(12))


def test_pytorchs_loader_gives_the_same_batches(images):
    pytest.importorskip("torch")
    from benchmarks import torch_loader

    transform = usual_loader.Compose(torch_loader.ToTensor(), torch_loader.Normalize((0.5,) * 3, (0.25,) * 3))
    loader = torch_loader.TorchLoader(images, transform, batch_size=4, workers=1)
    shown = []
    for own, partners, labels in itertools.islice(loader, 3):
        own, partners = (0.25 * pixels.numpy() + 0.5 for pixels in (own, partners))
        assert own.shape == partners.shape == (4, *SHAPE)
        assert (numbers(own) % 3 == labels.numpy()).all()
        assert (numbers(partners) % 3 == labels.numpy()).all()
        shown += numbers(own).tolist()
    loader.close()
    assert sorted(shown) == list(range(12))


def test_files_are_found_by_class(image_folder):
    images = usual_loader.FolderImages(image_folder / "train")
    assert images.labels == [0] * 6 + [1] * 6
    assert images.open(0).size == (24, 20)
    assert np.asarray(images.open(6)).mean() > 100 > np.asarray(images.open(0)).mean()


def test_transforms_are_the_usual_ones():
    random.seed(0)
    pixels = np.arange(1, 17, dtype=np.uint8).reshape(4, 4, 1).repeat(3, axis=2)
    image = PIL.Image.fromarray(pixels)
    padded = np.pad(pixels, [(2, 2), (2, 2), (0, 0)])
    windows = [padded[top : top + 4, left : left + 4] for top in range(5) for left in range(5)]
    for _ in range(20):
        crop = np.asarray(usual_loader.PadCrop(2)(image))
        assert any(np.array_equal(crop, window) for window in windows)
        flipped = np.asarray(usual_loader.Flip()(image))
        assert np.array_equal(flipped, pixels) or np.array_equal(flipped, pixels[:, ::-1])
        left, top, right, bottom = usual_loader.RandomResizedCrop(8).box(40, 30)
        assert 0 <= left < right <= 40
        assert 0 <= top < bottom <= 30
    assert usual_loader.RandomResizedCrop(8).box(400, 4) == (197, 0, 202, 4)  # no try fits, so the centre
    assert usual_loader.RandomResizedCrop(8)(image).size == (8, 8)
    chain = usual_loader.Compose(usual_loader.ToArray(), usual_loader.Normalize((0.5,) * 3, (0.25,) * 3))
    np.testing.assert_allclose(chain(image), (pixels.transpose(2, 0, 1) / 255 - 0.5) / 0.25, rtol=1e-5)
