"""Pairs a second of our pipeline against a loader written the usual way: `python -m benchmarks.pipeline_speed`.

`--case=folder64` and `--case=folder500` read JPEG files: of `--folder=PATH` with `train/<class>/`, or else files made
for the occasion. Both loaders give batches of image, partner and label from the same files, in turns, so that whatever
else the machine does meets both. The usual one (`benchmarks/usual_loader.py`) is given the kind and number of workers
that suit it best. `--baseline=torch`, where torch is installed, takes PyTorch's DataLoader in its place.
"""

import dataclasses
import os
import pathlib
import resource
import statistics
import tempfile
import time

import numpy as np
import PIL.Image
from absl import app, flags

from benchmarks import usual_loader
from benchmarks.results import record

# TensorFlow is imported where it is used: worker processes of the usual loader import this file too.

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Case:
    """What is read, and how many times the usual loader's speed is expected.

    Attributes:
        limit: of the ratio.
        size: pixels of the batches' images.
        batch: pairs a batch.
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


CASES = {
    "arrays32": Case(limit=8.0, size=32, batch=128, seconds=2, sides=(32, 32), images=50_000, classes=100),
    "folder64": Case(limit=3.0, size=32, batch=128, seconds=3, sides=(64, 64), images=10_000, classes=100),
    "folder500": Case(limit=1.5, size=224, batch=64, seconds=6, sides=(375, 500), images=1_000, classes=20),
}
CASE = flags.DEFINE_enum("case", "arrays32", list(CASES), "What is read.")
FOLDER = flags.DEFINE_string("folder", None, "Holds train/<class>/ with images; made where left out.")
ROUNDS = flags.DEFINE_integer("rounds", 5, "Turns of each loader.")
BASELINE = flags.DEFINE_enum("baseline", "plain", ["plain", "torch"], "Usual loader: plain Python, or PyTorch's.")
SECONDS = flags.DEFINE_float("seconds", None, "Of each turn; the case's where left out.")


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


def usual_images(case: Case, folder: pathlib.Path):
    if CASE.value != "arrays32":
        return usual_loader.FolderImages(pathlib.Path(FOLDER.value or folder) / "train")
    random = np.random.default_rng(0)
    path = folder / "images.npy"
    np.save(path, random.integers(0, 256, (case.images, *case.sides, 3), np.uint8))
    return usual_loader.ArrayImages(str(path), random.permutation(np.arange(case.images) % case.classes).tolist())


def usual_transform(case: Case) -> usual_loader.Compose:
    array = CASE.value == "arrays32"
    crop = usual_loader.PadCrop(4) if array else usual_loader.RandomResizedCrop(case.size)
    if BASELINE.value == "torch":
        from benchmarks import torch_loader

        last = (torch_loader.ToTensor(), torch_loader.Normalize(MEAN, STD))
    else:
        last = (usual_loader.ToArray(), usual_loader.Normalize(MEAN, STD))
    return usual_loader.Compose(crop, usual_loader.Flip(), *last)


def best_usual_loader(case: Case, images) -> tuple[usual_loader.UsualLoader, dict[str, float]]:
    """The fastest of its kinds and numbers of workers, and the pairs a second that each showed (median of three)."""
    transform, shape = usual_transform(case), (3, case.size, case.size)
    if BASELINE.value == "torch":
        from benchmarks.torch_loader import TorchLoader

        loaders = [TorchLoader(images, transform, batch_size=case.batch, workers=workers) for workers in (2, 4)]
    else:
        loaders = [
            usual_loader.UsualLoader(images, transform, batch_size=case.batch, shape=shape, kind=kind, workers=workers)
            for kind in ("processes", "threads")
            for workers in (2, 4)
        ]
    turns = [[_turn(loader, case, loader) for loader in loaders] for _ in range(3)]
    speeds = dict(zip(loaders, map(statistics.median, zip(*turns, strict=True)), strict=True))
    best = max(speeds, key=speeds.get)
    for loader in loaders:
        if loader is not best:
            loader.close()
    return best, {loader.name: speed for loader, speed in speeds.items()}


def our_datasets(case: Case, images) -> dict:
    """Ours: from the arrays, or from files and from memory."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import cskd_tf.data
    from cskd_tf.data.images.transforms import Compose, Flip, Normalize, PadCrop, RandomResizedCrop

    if isinstance(images, usual_loader.ArrayImages):
        crop = PadCrop(4)
        sources = {"": cskd_tf.data.ArraySource(np.load(images.path), np.asarray(images.labels))}
    else:
        crop = RandomResizedCrop(case.size)
        files = cskd_tf.data.ImageFolder(pathlib.Path(images.paths[0]).parents[1])
        # Photographs of many sizes can only be held encoded; so the budget is what that takes.
        budget = int(files.sizes.sum()) if CASE.value == "folder500" else 2**40
        held, _ = cskd_tf.data.in_memory(files, budget=budget, name="train")
        sources = {"": files, "in_memory_": held}
    return {
        name: cskd_tf.data.paired_dataset(
            source,
            batch_size=case.batch,
            seed=0,
            epochs=100_000,
            augment=Compose([crop, Flip(), Normalize(MEAN, STD)]),
            distribution=cskd_tf.data.Distribution(static_shapes=True),
        )
        for name, source in sources.items()
    }


def _turn(loader, case: Case, usual: usual_loader.UsualLoader) -> float:
    """Pairs a second, with nothing left running behind the next one's back."""
    # An iterator of ours ends here with its turn; kept, it would go on filling gigabytes.
    speed = pairs_per_second(iter(loader), case)
    usual.rest()
    return speed


def pairs_per_second(batches, case: Case) -> float:
    # What was made ahead before the clock started does not count; TensorFlow also finds out how parallel to be.
    start = time.perf_counter()
    warm_up = 0
    while time.perf_counter() < start + 1.5 or warm_up < 5 * usual_loader.PREFETCH:
        next(batches)
        warm_up += 1
    count, seconds = 0, SECONDS.value or case.seconds
    start = time.perf_counter()
    while time.perf_counter() < start + seconds:
        next(batches)
        count += 1
    return count * case.batch / (time.perf_counter() - start)


def main(argv):
    del argv
    case = CASES[CASE.value]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        if CASE.value != "arrays32" and not FOLDER.value:
            make_folder(folder, case)
        images = usual_images(case, folder)
        usual, tried = best_usual_loader(case, images)
        loaders = {"usual_": usual, **our_datasets(case, images)}
        speeds = {name: [] for name in loaders}
        for _ in range(ROUNDS.value):
            for name, loader in loaders.items():
                speeds[name].append(_turn(loader, case, usual))
        usual.close()
    result = {"benchmark": "pipeline_speed", "case": CASE.value, "images": len(images.labels), "batch": case.batch}
    for name, values in speeds.items():
        result[f"{name}pairs_per_second"] = round(statistics.median(values))
        if name != "usual_":
            ratios = [ours / theirs for ours, theirs in zip(values, speeds["usual_"], strict=True)]
            result[f"{name}ratio"] = round(statistics.median(ratios), 2)
    result |= {
        "limit": case.limit,
        "usual_workers": usual.name,
        "usual_workers_tried": {name: round(speed) for name, speed in tried.items()},
        "rounds": ROUNDS.value,
        "cores": os.cpu_count(),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    record(f"pipeline_speed_{CASE.value}_{BASELINE.value}", result)


if __name__ == "__main__":
    app.run(main)
