"""Which images are held in memory, decoded or encoded, that nothing changes by it, and what cannot be decoded."""

import itertools
import os

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import Augmentation, ImageFolder, build_transforms, in_memory, paired_dataset
from tests.data.helpers import HALVES, encoded, paths, photo, write
from tests.data.image_files import WHOLE
from tests.helpers import load_splits
from tests.selection import few


@pytest.mark.thorough
def test_separations_among_greys_are_refused_by_name(two_classes):
    write(two_classes / "dog" / "3.jpg", WHOLE["jpeg cmyk"])  # TensorFlow's decoder makes them colours alone
    source = ImageFolder(two_classes, channels=1)
    with pytest.raises(ValueError, match=r"1 of train that cannot be decoded: \['.*dog/3.jpg'\]"):
        in_memory(source, budget=2**20, name="train")


def damaged_in_the_middle(content):
    middle = len(content) // 2
    return content[:middle] + bytes(50) + content[middle + 50 :]


@pytest.mark.parametrize("content", [WHOLE["png"], pytest.param(WHOLE["png palette"], marks=pytest.mark.thorough)])
@pytest.mark.parametrize("memory", few(["decoded", "encoded"], 1))
def test_an_image_damaged_in_the_middle_is_named_when_it_is_decoded(content, memory, two_classes):
    write(two_classes / "dog" / "damaged.jpg", damaged_in_the_middle(content))
    source = ImageFolder(two_classes)  # which looks at beginnings and ends
    if memory == "decoded":
        with pytest.raises(ValueError, match=r"1 of train that cannot be decoded: \['.*dog/damaged.jpg'\]"):
            in_memory(source, budget=2**20, name="train")
    else:
        source, _ = in_memory(source, budget=0, name="train")
        with pytest.raises(tf.errors.InvalidArgumentError):
            source.decode_one(4)


@pytest.fixture
def same_sizes(tmp_path):
    """8 images of 16 x 16, JPEG and PNG: 6,144 bytes decoded, fewer encoded."""
    for label, number in itertools.product(range(2), range(4)):
        image = photo(16, 16, seed=number + 4 * label).quantize(4 + number).convert("RGB")
        content = encoded(image, "PNG") if number % 2 else encoded(image, quality=40, optimize=True)
        write(tmp_path / "same" / f"class {label}" / f"{number}.png", content)
    return tmp_path / "same"


@pytest.mark.thorough
def test_what_is_held_follows_from_the_budget(same_sizes, caplog):
    source = ImageFolder(same_sizes)
    bytes_encoded = sum(map(os.path.getsize, paths(source)))
    assert bytes_encoded < 6144
    for budget, held, message in (
        (6144, 6144, "train: 8 images decoded in memory, 0.00 GiB"),
        (6143, bytes_encoded, "train: 8 images encoded in memory, 0.00 GiB"),
        (
            bytes_encoded - 1,
            0,
            "train: 8 images read as they are needed; they take 0.00 GiB, and 0.00 of data.source.memory",
        ),
    ):
        caplog.clear()
        with caplog.at_level("INFO", logger="absl"):
            chosen, taken = in_memory(source, budget=budget, name="train")
        assert (taken, chosen is source) == (held, held == 0)
        assert message in caplog.text
        assert paths(chosen) == paths(source)
        assert chosen.class_names == source.class_names
        np.testing.assert_array_equal(chosen.labels, source.labels)


def test_images_of_several_sizes_stay_encoded(same_sizes, caplog):
    write(same_sizes / "class 1" / "4.jpg", encoded(photo(16, 17)))
    with caplog.at_level("INFO", logger="absl"):
        in_memory(ImageFolder(same_sizes), budget=2**20, name="test")
    assert "test: 9 images encoded in memory" in caplog.text


def test_memory_is_shared_among_the_splits(image_folder, caplog):
    with caplog.at_level("INFO", logger="absl"):
        load_splits("image_folder", path=str(image_folder), **HALVES, memory=1e-5)  # 10,737 bytes
    assert [line.split(" images ")[1].split(";")[0] for line in caplog.messages if " images " in line] == [
        "encoded in memory, 0.00 GiB",
        "read as they are needed",
        "read as they are needed",
    ]


def batches(source, augment):
    dataset = paired_dataset(source, batch_size=3, seed=1, augment=augment)
    return [{**batch, "label": label} for batch, label in dataset.as_numpy_iterator()]


@pytest.mark.slow
@pytest.mark.parametrize("crop", ["pad_crop", "random_resized_crop"])
def test_batches_are_the_same_wherever_the_images_are(crop, same_sizes):
    settings = {"image_size": 16, "short_side": 0, "padding": 2, "flip": True, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    augment, _ = build_transforms(Augmentation(crop=crop, **settings))
    source = ImageFolder(same_sizes)
    files = batches(source, augment)
    assert len(files) == 3
    # Encoded, and decoded: small images are resized in a batch then, without PIL's rounding, by up to 1 of 255 apart.
    apart = 1.001 / 255 / 0.25 if crop == "random_resized_crop" else 0
    for budget, tolerance in ((6143, 0), (6144, apart)):
        held = batches(in_memory(source, budget=budget, name="train")[0], augment)
        for batch, expected in zip(held, files, strict=True):
            assert set(batch) == {"image", "partner", "label"}
            for key, value in batch.items():
                np.testing.assert_allclose(value, expected[key], rtol=0, atol=tolerance)
