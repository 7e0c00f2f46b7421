"""Folders of images, good and bad, and what becomes of the files: pixels as PIL sees them, in memory or not."""

import dataclasses
import io
import itertools
import os
import shutil
import unicodedata
from typing import ClassVar

import cykooz_resizer
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from cskd_tf.data import Augmentation, ImageFolder, build_transforms, in_memory, paired_dataset
from cskd_tf.data.batches.pairing import ClassBuckets
from cskd_tf.data.catalogue.splits import first_of_each_class, split_by_class
from cskd_tf.data.images.decode import decode, decode_batch, extent
from cskd_tf.data.images.transforms import CentreCrop, RandomResizedCrop, Resize
from tests.helpers import load_splits

HALVES = {"test_fraction": 0.5, "validation_fraction": 0.5}


def photo(height=45, width=61, seed=0):
    """A smooth image of strong colours, uint8 `[height, width, 3]`, so that JPEG has something to do."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), np.uint8)
    return PIL.Image.fromarray(coarse).resize((width, height), PIL.Image.Resampling.BICUBIC)


def encoded(image, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def as_pil(content, mode="RGB"):
    return np.asarray(PIL.Image.open(io.BytesIO(content)).convert(mode))


def write(path, content=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(photo()) if content is None else content)
    return path


def paths(source):
    return [source.locate(index) for index in range(len(source.labels))]


@pytest.fixture
def two_classes(tmp_path):
    """A folder of two classes, two images each."""
    for name, number in itertools.product(("cat", "dog"), (1, 2)):
        write(tmp_path / "two" / name / f"{number}.jpg")
    return tmp_path / "two"


# --- Folders ---


def test_a_folder_gives_sorted_classes_and_decoded_images(image_folder):
    source = ImageFolder(image_folder / "train")
    assert source.class_names == ["cat", "dog"]
    assert source.class_groups is None
    assert source.labels.tolist() == [0] * 6 + [1] * 6
    assert source.sizes.tolist() == [os.path.getsize(path) for path in paths(source)]
    image = source.decode_one(8)
    assert image.shape == (22, 22, 3)
    assert image.dtype == tf.uint8
    assert ImageFolder(image_folder / "train", channels=1).decode_one(0).shape == (20, 24, 1)


def test_folders_that_cannot_be_used_are_refused(image_folder):
    train = image_folder / "train"
    with pytest.raises(ValueError, match="no folder .*nowhere"):
        ImageFolder(image_folder / "nowhere")
    with pytest.raises(ValueError, match="cat, without folders"):
        ImageFolder(train / "cat")
    with pytest.raises(ValueError, match="train, without 2 levels of folders"):
        ImageFolder(train, levels=2)
    with pytest.raises(ValueError, match=r"\['bird'\] differ"):
        ImageFolder(train, class_names=["bird", "cat", "dog"])
    (train / "empty").mkdir()
    with pytest.raises(ValueError, match="Received: none in .*train/empty"):
        ImageFolder(train)


def test_a_folder_brings_its_splits(image_folder):
    load = lambda **more: load_splits("image_folder", path=str(image_folder), **HALVES, **more)  # noqa: E731
    assert {name: len(source.labels) for name, source in load().items()} == {"train": 6, "test": 6, "val": 6}
    (image_folder / "test").rename(image_folder / "val")
    assert {name: len(source.labels) for name, source in load().items()} == {"train": 6, "test": 6, "val": 6}
    splits = load(train="val", val="train", test="train")
    assert {name: len(source.labels) for name, source in splits.items()} == {"train": 6, "test": 12, "val": 12}
    with pytest.raises(ValueError, match=r"data.split.test to name a folder in .*photos. Received: 'held_out'"):
        load(test="held_out")


def test_a_folder_of_classes_is_split(two_classes):
    for number in range(3, 9):
        write(two_classes / "cat" / f"{number}.jpg")
        write(two_classes / ("dog" if number < 5 else "cat") / f"more_{number}.jpg")
    splits = load_splits("image_folder", path=str(two_classes), **HALVES, memory=0)
    # Of 12 cats and 4 dogs, half are for testing; of the 6 and 2 left, half for validation.
    assert {name: np.bincount(source.labels).tolist() for name, source in splits.items()} == {
        "train": [3, 1],
        "val": [3, 1],
        "test": [6, 2],
    }


def test_one_class_is_refused(two_classes):
    for path in (two_classes / "dog").iterdir():
        path.rename(two_classes / "cat" / f"dog_{path.name}")
    (two_classes / "dog").rmdir()
    with pytest.raises(ValueError, match=r"at least two classes. Received: \['cat'\]"):
        load_splits("image_folder", path=str(two_classes), **HALVES)


def test_a_split_of_one_image_is_refused(image_folder):
    for path in sorted((image_folder / "train" / "cat").iterdir())[1:]:
        path.unlink()
    with pytest.raises(ValueError, match="at least two images in each split.*Received: one in val"):
        load_splits("image_folder", path=str(image_folder))


def test_levels_of_folders_and_their_groups(tmp_path):
    for name in ("greek/beta", "greek/alpha", "latin/a"):
        for number in range(4):
            write(tmp_path / name / "deeper" / f"{number}.jpg")
    one, two = (ImageFolder(tmp_path, levels=levels) for levels in (1, 2))
    assert (one.class_names, one.class_groups, one.labels.tolist()) == (["greek", "latin"], None, [0] * 8 + [1] * 4)
    assert two.class_names == ["greek/alpha", "greek/beta", "latin/a"]
    assert two.class_groups == ["greek", "greek", "latin"]
    assert np.bincount(two.labels).tolist() == [4, 4, 4]
    splits = load_splits("image_folder", path=str(tmp_path), class_levels=2, **HALVES)
    assert splits["test"].class_groups == ["greek", "greek", "latin"]


def test_unicode_and_spaces_in_names(tmp_path):
    files = [write(tmp_path / name / file) for name in ("Ärger 猫", "two  words") for file in ("a b.JPG", "Ünï 1.jpeg")]
    source = ImageFolder(tmp_path)
    assert source.class_names == ["two  words", "Ärger 猫"]
    assert sorted(paths(source)) == sorted(map(str, files))
    assert source.decode_one(3).shape == (45, 61, 3)


@pytest.mark.parametrize(
    "names",
    [("cat", "Cat"), ("straße", "STRASSE"), tuple(unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))],
)
def test_classes_that_would_be_one_on_other_systems_are_refused(names, tmp_path):
    for name in (*names, "other"):
        write(tmp_path / name / "1.jpg")
    with pytest.raises(ValueError, match="differ by more than case.*Received: ") as error:
        ImageFolder(tmp_path)
    assert str(sorted(names)) in str(error.value)


def test_hidden_files_and_other_kinds_are_left_out(two_classes, caplog):
    for name in (
        "cat/.hidden.jpg",
        "cat/notes.txt",
        "cat/more.TXT",
        "dog/3.txt",
        "dog/1.gif",
        "dog/2.gif",
        "dog/README",
        ".git/a.jpg",
    ):
        write(two_classes / name)
    with caplog.at_level("WARNING"):
        source = ImageFolder(two_classes)
    assert source.class_names == ["cat", "dog"]
    assert [os.path.basename(path) for path in paths(source)] == ["1.jpg", "2.jpg"] * 2
    assert "neither JPEG nor PNG are left out: 1 without a suffix, 2 .gif, 3 .txt" in caplog.text


def test_links_are_followed_once(two_classes, tmp_path):
    outside = write(tmp_path / "elsewhere" / "bird" / "1.jpg")
    (two_classes / "bird").symlink_to(outside.parent)
    (two_classes / "cat" / "linked.jpg").symlink_to(outside)
    (two_classes / "cat" / "again").symlink_to(two_classes / "cat")
    (two_classes / "dog" / "up").symlink_to(two_classes / "dog" / "down")
    (two_classes / "dog" / "down").symlink_to(two_classes / "dog" / "up")
    source = ImageFolder(two_classes)
    assert source.class_names == ["bird", "cat", "dog"]
    assert [os.path.basename(path) for path in paths(source)] == [
        "1.jpg",
        "1.jpg",
        "2.jpg",
        "linked.jpg",
        "1.jpg",
        "2.jpg",
    ]
    assert source.decode_one(0).shape == (45, 61, 3)


@pytest.mark.parametrize("target", ["loop", ".", ".."])
def test_class_folders_that_are_links_in_a_circle_are_refused(target, two_classes):
    (two_classes / "loop").symlink_to(target)  # itself, the folder of the classes, and the one above
    with pytest.raises(ValueError, match="two/loop"):
        ImageFolder(two_classes)


def test_a_link_within_a_class_to_what_holds_the_classes_is_refused(two_classes):
    (two_classes / "cat" / "up").symlink_to("..")
    with pytest.raises(ValueError, match="no link to a folder that holds it. Received: .*two/cat/up"):
        ImageFolder(two_classes)


def test_two_links_to_one_folder_count_once(two_classes, tmp_path):
    outside = write(tmp_path / "elsewhere" / "1.jpg").parent
    for name in ("one", "two"):
        (two_classes / "cat" / name).symlink_to(outside)
    assert np.bincount(ImageFolder(two_classes).labels).tolist() == [3, 2]


def test_names_in_another_encoding_than_unicode_are_read(two_classes):
    name = os.fsdecode(b"\xe9.png")
    shutil.copy(write(two_classes / "dog" / "a.png"), os.path.join(two_classes, "cat", name))
    source = ImageFolder(two_classes)
    index = len(os.listdir(two_classes / "cat")) - 1
    assert source.locate(index).endswith("cat/\\xe9.png")
    assert source.decode_one(index).shape[2] == 3


@pytest.mark.parametrize(
    ("folders", "received"),
    [
        (("train", "validation"), r"\['validation'\]"),
        (("training", "testing"), r"\['testing', 'training'\]"),
        (("Train", "Test"), r"\['Test', 'Train'\]"),
    ],
)
def test_splits_under_other_names_are_neither_overlooked_nor_classes(folders, received, tmp_path):
    for folder in folders:
        for name in ("cat", "dog"):
            write(tmp_path / folder / name / "1.jpg")
    with pytest.raises(ValueError, match=f"to be called .*data.split.train.*Received: {received}"):
        load_splits("image_folder", path=str(tmp_path))


@pytest.mark.parametrize("target", ["loop.jpg", "gone.jpg"])
def test_files_that_are_links_to_nothing_are_named(target, two_classes):
    (two_classes / "cat" / "loop.jpg").symlink_to(two_classes / "cat" / target)
    with pytest.raises(ValueError, match=r"1 that are not whole images: \['.*cat/loop.jpg'\]"):
        ImageFolder(two_classes)


# --- Files ---

COLOURS, GREYS = photo(), photo().convert("L")
EXIF = PIL.Image.Exif()
EXIF[0x0112] = 6  # to be turned by 90 degrees
SEPARATIONS = PIL.Image.merge("CMYK", [photo(seed=seed).convert("L") for seed in range(4)])
TRANSPARENT = COLOURS.copy()
TRANSPARENT.putalpha(GREYS)
WHOLE = {
    "jpeg": encoded(COLOURS, quality=95, subsampling=0),
    "jpeg 4:2:2": encoded(COLOURS, subsampling=1),
    "jpeg 4:2:0": encoded(COLOURS, subsampling=2),
    "jpeg progressive": encoded(COLOURS, progressive=True),
    "jpeg with restarts": encoded(COLOURS, restart_marker_rows=1),
    "jpeg grey": encoded(GREYS),
    "jpeg cmyk": encoded(COLOURS.convert("CMYK")),
    "jpeg rotated": encoded(COLOURS, exif=EXIF),
    "png": encoded(COLOURS, "PNG"),
    "png grey": encoded(GREYS, "PNG"),
    "png palette": encoded(COLOURS.quantize(16), "PNG"),
    "png palette transparent": encoded(COLOURS.quantize(16), "PNG", transparency=3),
    "png rgba": encoded(TRANSPARENT, "PNG"),
    "png grey and alpha": encoded(GREYS.convert("LA"), "PNG"),
    "png black and white": encoded(COLOURS.convert("1"), "PNG"),
    "png animated": encoded(COLOURS, "PNG", save_all=True, append_images=[COLOURS.rotate(180)]),
    "png 16 bits of colour": tf.io.encode_png(np.asarray(COLOURS).astype(np.uint16) * 257).numpy(),
}
GREY = [name for name in WHOLE if "grey" in name or "black" in name]
CUT_JPEG, CUT_PNG = WHOLE["jpeg 4:2:0"], WHOLE["png"]
BROKEN = {
    "empty": b"",
    "a text": b"no image",
    "gif": encoded(COLOURS, "GIF"),
    "animated gif": encoded(COLOURS, "GIF", save_all=True, append_images=[COLOURS.rotate(180)]),
    "bmp": encoded(COLOURS, "BMP"),
    "webp": encoded(COLOURS, "WEBP"),
    "jpeg magic": CUT_JPEG[:3],
    "jpeg header": CUT_JPEG[:150],
    "jpeg without its end": CUT_JPEG[:-2],
    "jpeg half": CUT_JPEG[: len(CUT_JPEG) // 2],
    "jpeg padded with zeros": CUT_JPEG[: len(CUT_JPEG) // 2] + bytes(len(CUT_JPEG) // 2),
    "progressive jpeg half": WHOLE["jpeg progressive"][: len(WHOLE["jpeg progressive"]) // 2],
    "png magic": CUT_PNG[:8],
    "png header": CUT_PNG[:20],
    "png without its end": CUT_PNG[:-12],
    "png half": CUT_PNG[: len(CUT_PNG) // 2],
}


@pytest.mark.parametrize("kind", WHOLE)
def test_images_are_decoded_as_pil_does(kind, two_classes):
    path = write(two_classes / "cat" / "1.jpg", WHOLE[kind])  # whatever the suffix says
    expected = as_pil(WHOLE[kind])
    pixels = ImageFolder(two_classes).decode_one(0)
    assert extent(path.read_bytes()).numpy().tolist() == list(pixels.shape[:2]) == [45, 61]  # rotated or not
    np.testing.assert_array_equal(pixels, expected)
    if kind in GREY:
        np.testing.assert_array_equal(decode(WHOLE[kind], channels=1)[..., 0], as_pil(WHOLE[kind], "L"))


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


def test_separations_among_greys_are_refused_by_name(two_classes):
    write(two_classes / "dog" / "3.jpg", WHOLE["jpeg cmyk"])  # TensorFlow's decoder makes them colours alone
    source = ImageFolder(two_classes, channels=1)
    with pytest.raises(ValueError, match=r"1 of train that cannot be decoded: \['.*dog/3.jpg'\]"):
        in_memory(source, budget=2**20, name="train")


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_broken_files_are_refused_by_name(kind, suffix, two_classes):
    write(two_classes / "dog" / f"broken.{suffix}", BROKEN[kind])
    with pytest.raises(ValueError, match=rf"1 that are not whole images: \['.*dog/broken.{suffix}'\]"):
        ImageFolder(two_classes)


def test_all_broken_files_are_counted(two_classes):
    for number, content in enumerate(BROKEN.values()):
        write(two_classes / "dog" / f"broken_{number:02d}.jpg", content)
    with pytest.raises(ValueError, match=rf"{len(BROKEN)} that are not whole images: \['.*_00.jpg', .*_09.jpg'\]"):
        ImageFolder(two_classes)


def damaged_in_the_middle(content):
    middle = len(content) // 2
    return content[:middle] + bytes(50) + content[middle + 50 :]


@pytest.mark.parametrize("content", [WHOLE["png"], WHOLE["png palette"]])
@pytest.mark.parametrize("memory", ["decoded", "encoded"])
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


def test_a_jpeg_damaged_in_the_middle_is_decoded_as_pil_does():
    # A JPEG has no checksum; the decoder goes on at the next code that it understands.
    content = CUT_JPEG[: len(CUT_JPEG) // 2] + CUT_JPEG[len(CUT_JPEG) // 2 + 60 :]
    pixels = decode(content, channels=3)
    np.testing.assert_array_equal(pixels, as_pil(content))
    assert (pixels != as_pil(CUT_JPEG)).numpy().any()


# --- In memory or not ---


@pytest.fixture
def same_sizes(tmp_path):
    """8 images of 16 x 16, JPEG and PNG: 6,144 bytes decoded, fewer encoded."""
    for label, number in itertools.product(range(2), range(4)):
        image = photo(16, 16, seed=number + 4 * label).quantize(4 + number).convert("RGB")
        content = encoded(image, "PNG") if number % 2 else encoded(image, quality=40, optimize=True)
        write(tmp_path / "same" / f"class {label}" / f"{number}.png", content)
    return tmp_path / "same"


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
            "train: 8 images read as they are needed; they take 0.00 GiB, and 0.00 of data.source.memory are left",
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


# --- Decoding in part ---


def seeds(count):
    return tf.constant(np.random.default_rng(0).integers(-(2**31), 2**31, (count, 2)), tf.int32)


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


@pytest.mark.parametrize(("size", "short_side"), [(24, 24), (24, 28), (64, 80)])
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


@pytest.mark.parametrize("size", [1, 16, 33, 45])
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
    monkeypatch.setattr("cskd_tf.data.images.decode._TOGETHER", 20_000)  # a few at a time, and the large one alone
    np.testing.assert_array_equal(decoded([*jpegs, large]), beside)


def test_a_batch_is_the_same_with_every_kind_of_instructions(monkeypatch):
    contents, transform = tf.constant(MIXED), RandomResizedCrop(24)
    expected = decode_batch(contents, seeds(4), transform=transform, channels=3)
    made = []

    class Plain(cykooz_resizer.Resizer):
        def __init__(self):
            super().__init__()
            self.cpu_extensions = cykooz_resizer.CpuExtensions.none
            made.append(self)

    monkeypatch.setattr(cykooz_resizer, "Resizer", Plain)
    np.testing.assert_array_equal(decode_batch(contents, seeds(4), transform=transform, channels=3), expected)
    assert made


def test_transforms_that_do_not_begin_with_a_crop_see_whole_images():
    contents = tf.constant([encoded(photo(12, 12, seed=seed)) for seed in range(2)])
    measured = decode_batch(contents, seeds(2), transform=lambda images, _: images[:, ::2], channels=3)
    assert measured.shape == (2, 6, 12, 3)
    for content, pixels in zip(contents.numpy(), measured, strict=True):
        np.testing.assert_array_equal(pixels, as_pil(content)[::2])


# --- Many classes ---


def naive_split(labels, *, fraction, seed):
    """Class by class: the first `fraction` of the images in a shuffled order go."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    gone = []
    for label in np.unique(labels):
        members = [index for index in shuffled if labels[index] == label]
        gone += members[: min(max(round(fraction * len(members)), 1), len(members) - 1)]
    return sorted(gone)


def test_splits_equal_the_naive_ones_class_by_class():
    labels = np.random.default_rng(3).permutation(np.repeat(np.arange(5), [10, 1, 2, 7, 30]))
    for fraction, seed in itertools.product((0.1, 0.5, 0.9), (0, 1)):
        kept, gone = split_by_class(labels, fraction=fraction, seed=seed, name="test")
        assert gone.tolist() == naive_split(labels, fraction=fraction, seed=seed)
        assert kept.tolist() == sorted(set(range(50)) - set(gone))
    shuffled = np.random.default_rng(0).permutation(50)
    firsts = [[index for index in shuffled if labels[index] == label][:3] for label in range(5)]
    assert first_of_each_class(labels, count=3, seed=0).tolist() == sorted(itertools.chain(*firsts))


def test_100_000_classes():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(100_000), 3))
    kept, gone = split_by_class(labels, fraction=0.1, seed=0, name="test")
    assert (np.bincount(labels[gone]) == 1).all()
    assert (np.bincount(labels[kept]) == 2).all()
    assert np.array_equal(
        np.sort(labels[first_of_each_class(labels, count=2, seed=0)]), np.repeat(np.arange(100_000), 2)
    )
    buckets = ClassBuckets(labels, num_classes=100_000)
    assert (buckets.counts.numpy() == 3).all()
    assert np.array_equal(labels[buckets.order], np.sort(labels))
    partners = buckets.partners(tf.range(300_000, dtype=tf.int64), draw_key=tf.constant([1, 2, 3], tf.uint32))
    assert np.array_equal(labels[partners], labels)
