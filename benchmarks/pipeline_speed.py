"""Pairs per second of our pipeline against a loader written the usual way: `python -m benchmarks.pipeline_speed`.

`--case=folder64` and `--case=folder500` read JPEG files: of `--folder=PATH` with `train/<class>/`, or else files made
for the occasion. Both loaders give batches of image, partner and label from the same files, in turns, so that whatever
else the machine does meets both. The usual one (`benchmarks/usual_loader.py`) is given the kind and number of workers
that suit it best. `--baseline=torch`, where torch is installed, takes PyTorch's DataLoader in its place.
"""

import os
import pathlib
import resource
import statistics
import tempfile
import time

import numpy as np
from absl import app, flags

from benchmarks import usual_loader
from benchmarks.cases import CASES, MEAN, STD, Case, augmentation, chosen_case, made_arrays, make_folder, our_sources
from benchmarks.results import record

# TensorFlow is imported where it is used: worker processes of the usual loader import this file too.

CASE = flags.DEFINE_enum("case", "arrays32", list(CASES), "What is read.")
FOLDER = flags.DEFINE_string("folder", None, "Holds train/<class>/ with images; made where left out.")
ROUNDS = flags.DEFINE_integer("rounds", 5, "Turns of each loader.")
BASELINE = flags.DEFINE_enum("baseline", "plain", ["plain", "torch"], "Usual loader: plain Python, or PyTorch's.")
SECONDS = flags.DEFINE_float("seconds", None, "Of each turn; the case's where left out.")
WARM_UP = flags.DEFINE_float("warm_up", 1.5, "Seconds before each turn that do not count.")
IMAGES = flags.DEFINE_integer("images", None, "How many are made, of at most half as many classes; else the case's.")
BATCH = flags.DEFINE_integer("batch", None, "Pairs per batch; the case's where left out.")


def usual_images(case: Case, folder: pathlib.Path):
    if not case.is_array:
        return usual_loader.FolderImages(pathlib.Path(FOLDER.value or folder) / "train")
    images, labels = made_arrays(case)
    path = folder / "images.npy"
    np.save(path, images)
    return usual_loader.ArrayImages(str(path), labels.tolist())


def usual_transform(case: Case) -> usual_loader.Compose:
    crop = usual_loader.PadCrop(4) if case.is_array else usual_loader.RandomResizedCrop(case.size)
    if BASELINE.value == "torch":
        from benchmarks import torch_loader

        last = (torch_loader.ToTensor(), torch_loader.Normalize(MEAN, STD))
    else:
        last = (usual_loader.ToArray(), usual_loader.Normalize(MEAN, STD))
    return usual_loader.Compose(crop, usual_loader.Flip(), *last)


def best_usual_loader(case: Case, images) -> tuple[usual_loader.UsualLoader, dict[str, float]]:
    """The fastest of its kinds and numbers of workers, and the pairs per second that each showed (median of three)."""
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

    if isinstance(images, usual_loader.ArrayImages):
        sources = our_sources(case, np.load(images.path), np.asarray(images.labels))
    else:
        sources = our_sources(case, pathlib.Path(images.paths[0]).parents[1])
    return {
        name: cskd_tf.data.paired_dataset(
            source,
            batch_size=case.batch,
            seed=0,
            epochs=100_000,
            augment=augmentation(case),
            distribution=cskd_tf.data.Distribution(static_shapes=True),
        )
        for name, source in sources.items()
    }


def _turn(loader, case: Case, usual: usual_loader.UsualLoader) -> float:
    """Pairs per second, with nothing left running behind the next one's back."""
    # An iterator of ours ends here with its turn; kept, it would go on filling gigabytes.
    speed = pairs_per_second(iter(loader), case)
    usual.rest()
    return speed


def pairs_per_second(batches, case: Case) -> float:
    # What was made ahead before the clock started does not count; TensorFlow also finds out how parallel to be.
    start = time.perf_counter()
    warm_up = 0
    while time.perf_counter() < start + WARM_UP.value or warm_up < 5 * usual_loader.PREFETCH:
        next(batches)
        warm_up += 1
    count, start = 0, time.perf_counter()
    while time.perf_counter() < start + case.seconds:
        next(batches)
        count += 1
    return count * case.batch / (time.perf_counter() - start)


def main(argv):
    del argv
    case = chosen_case(CASE.value, images=IMAGES.value, batch=BATCH.value, seconds=SECONDS.value)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        if not case.is_array and not FOLDER.value:
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
