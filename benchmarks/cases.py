"""The data that benchmarks of the pipeline read, made for the occasion, and how training images are changed."""

import dataclasses
import pathlib

import numpy as np
import PIL.Image

# TensorFlow is imported where it is used: worker processes of the usual loader import this file too.

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Case:
    """What is read, and how many times the usual loader's speed is expected.

    Attributes:
        limit: of the ratio.
        size: pixels of the batches' images.
        batch: pairs per batch.
        seconds: each loader is timed for, in each round.
        sides: of the images that are made, height and width.
        images: how many are made, in `classes` classes.
        classes: see `images`.
    """

    limit: float
    size: int
    batch: int
    seconds: float
    sides: tuple[int, int]
    images: int
    classes: int

    @property
    def is_array(self) -> bool:
        """Whether it is read from arrays, else from JPEG files."""
        return self.sides == (self.size, self.size)


CASES = {
    "arrays32": Case(limit=8.0, size=32, batch=128, seconds=2, sides=(32, 32), images=50_000, classes=100),
    "folder64": Case(limit=3.0, size=32, batch=128, seconds=3, sides=(64, 64), images=10_000, classes=100),
    "folder500": Case(limit=1.5, size=224, batch=64, seconds=6, sides=(375, 500), images=1_000, classes=20),
}


def chosen_case(name: str, *, images: int | None = None, **others: float | None) -> Case:
    """The case, with what was chosen otherwise, which is not None; `images` are of at most half as many classes."""
    case = CASES[name]
    chosen = {"images": images, "classes": min(case.classes, images // 2) if images else None, **others}
    return dataclasses.replace(case, **{key: value for key, value in chosen.items() if value})


def photograph(random: np.random.Generator, sides: tuple[int, int]) -> PIL.Image.Image:
    """Smooth textures of three scales and fine noise, which take about as many bytes as a photograph."""
    pixels = random.normal(0, 6, (*sides, 3))
    for cells, contrast in ((4, 50), (16, 25), (64, 12)):
        for channel in range(3):
            noise = random.normal(0, contrast, (cells, cells)).astype(np.float32)
            texture = PIL.Image.fromarray(noise).resize(sides[::-1], PIL.Image.Resampling.BICUBIC)
            pixels[..., channel] += np.asarray(texture)
    return PIL.Image.fromarray(np.clip(pixels + 128, 0, 255).astype(np.uint8))


def make_folder(folder: pathlib.Path, case: Case) -> None:
    """`train/<class>/<number>.jpg`, every other image upright where the sides differ."""
    random = np.random.default_rng(0)
    for label in range(case.classes):
        (folder / "train" / f"{label:03}").mkdir(parents=True)
    for index in range(case.images):
        sides = case.sides[:: 1 if index % 2 else -1]
        path = folder / "train" / f"{index % case.classes:03}" / f"{index}.jpg"
        photograph(random, sides).save(path, quality=90)


def made_arrays(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images of noise, and their labels."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (case.images, *case.sides, 3), np.uint8)
    return images, random.permutation(np.arange(case.images) % case.classes)


def our_sources(case: Case, *data) -> dict:
    """By the beginning of the names of their figures: of two arrays, or of a folder its files, and held in memory."""
    import cskd_tf.data

    if case.is_array:
        return {"": cskd_tf.data.ArraySource(*data)}
    files = cskd_tf.data.ImageFolder(*data)
    # Photographs of many sizes can only be held encoded; so the budget is what that takes.
    budget = 2**40 if len(set(case.sides)) == 1 else int(files.sizes.sum())
    held, _ = cskd_tf.data.in_memory(files, budget=budget, name="train")
    return {"": files, "in_memory_": held}


def augmentation(case: Case):
    """Pad and crop of arrays, crops of random sizes of files; then flip and normalise."""
    from cskd_tf.data.images.transforms import Compose, Flip, Normalize, PadCrop, RandomResizedCrop

    crop = PadCrop(4) if case.is_array else RandomResizedCrop(case.size)
    return Compose([crop, Flip(), Normalize(MEAN, STD)])
