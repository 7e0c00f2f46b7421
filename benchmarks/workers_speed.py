"""What two workers lose by talking to each other: `python -m benchmarks.workers_speed`.

Runs of `train_main.py` on two cores, in turns: two workers, one core each, that train one model together
(MultiWorkerMirroredStrategy, by TF_CONFIG); two runs, one core each, that know nothing of each other; and one run on
both cores. All train CS-KD with the same number of images per core and step, on digits of 32 pixels; images per second
are of the epochs behind the first, as log.jsonl has their seconds. Needs Linux, and `taskset`.
"""

import json
import math
import os
import pathlib
import shutil
import statistics
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cskd_tf  # before TensorFlow, whose kernels it chooses

# isort: split
from absl import app, flags

from benchmarks import processes
from benchmarks.arithmetic import FORWARD, WITH_GRADIENT, MatrixProduct, forward_flops
from benchmarks.results import ROOT, record
from benchmarks.turns import median_ratio, timed_here
from configs import launch

NETWORK = flags.DEFINE_string("network", "preact_resnet18", "One of cskd_tf.networks.")
WIDTH = flags.DEFINE_integer("width", 64, "Channels of the first stage.")
BATCH = flags.DEFINE_integer("batch", 32, "Images per step on each core.")
IMAGES = flags.DEFINE_integer("images", 640, "Images per epoch: a multiple of the ten classes.")
SIZE = flags.DEFINE_integer("size", 32, "Pixels.")
EPOCHS = flags.DEFINE_integer("epochs", 4, "Of each run; the first does not count.")
ROUNDS = flags.DEFINE_integer("rounds", 2, "Runs of each kind.")
AT_MOST = flags.DEFINE_float("at_most", 1800.0, "Seconds of a run, after which it has failed.")


def start(workdir: pathlib.Path, *, batch: int, cores: set[int], strategy: str = "single", variables=None):
    config = {
        "strategy": strategy,
        "epochs": EPOCHS.value,
        "batch_size": batch,
        "network.name": NETWORK.value,
        "network.width": WIDTH.value,
        "schedule.learning_rate": 0.001,  # nothing may diverge
        "data.augment.image_size": SIZE.value,
        "data.split.test_fraction": 0.1,
        "data.split.validation_fraction": 0.02,  # the time of an epoch has an evaluation in it
        "data.split.train_per_class": IMAGES.value // 10,
        "baseline": False,
        "export.enabled": False,
        "verbose": 0,
    }
    options = [f"--config.{key}={value}" for key, value in config.items()]
    script = str(ROOT / "train_main.py")
    return processes.start(script, f"--workdir={workdir}", *options, cores=cores, variables=variables)


def images_per_second(workdir: pathlib.Path) -> float:
    """The median of the epochs behind the first one, which traces."""
    seconds = [json.loads(line)["seconds"] for line in (workdir / "log.jsonl").read_text().splitlines()]
    return IMAGES.value / statistics.median(seconds[1:])


def together(folder: pathlib.Path, cores: list[int]) -> float:
    options = {"batch": 2 * BATCH.value, "strategy": "multi_worker"}
    started = [
        start(folder / "run", cores={core}, variables={"TF_CONFIG": task}, **options)
        for core, task in zip(cores, launch.task_configs(2), strict=True)
    ]
    processes.outputs(started, at_most=AT_MOST.value)
    return images_per_second(folder / "run")


def apart(folder: pathlib.Path, cores: list[int]) -> float:
    workdirs = [folder / str(core) for core in cores]
    started = [start(workdir, batch=BATCH.value, cores={core}) for core, workdir in zip(cores, workdirs, strict=True)]
    processes.outputs(started, at_most=AT_MOST.value)
    return sum(map(images_per_second, workdirs))


def one(folder: pathlib.Path, cores: list[int]) -> float:
    processes.outputs([start(folder / "run", batch=2 * BATCH.value, cores=set(cores))], at_most=AT_MOST.value)
    return images_per_second(folder / "run")


def main(argv):
    del argv
    cores = sorted(os.sched_getaffinity(0))[:2] if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2 or shutil.which("taskset") is None:
        raise app.UsageError(f"Expected two cores, and taskset on the PATH. Received: {len(cores)} cores")
    product = MatrixProduct("float32")
    speeds: dict = {together: [], apart: [], one: []}
    matrix_seconds = []
    for _ in range(ROUNDS.value):
        for run, values in speeds.items():
            with tempfile.TemporaryDirectory() as folder:
                values.append(run(pathlib.Path(folder), cores))
        matrix_seconds += timed_here({"product": product}, rounds=1)["product"]
    network = cskd_tf.networks.build(
        NETWORK.value, num_classes=10, input_shape=(SIZE.value, SIZE.value, 1), width=WIDTH.value
    )
    operations = (WITH_GRADIENT + FORWARD) * forward_flops(network)
    seconds_per_image = [1 / speed for speed in speeds[one]]
    record(
        "workers_speed",
        {
            "benchmark": "workers_speed",
            "network": NETWORK.value,
            "width": WIDTH.value,
            "images_per_core_and_step": BATCH.value,
            "gradient_mib": round(4 * sum(math.prod(each.shape) for each in network.trainable_variables) / 2**20, 1),
            "rounds": ROUNDS.value,
            **{f"{run.__name__}_images_per_second": round(statistics.median(speeds[run]), 2) for run in speeds},
            "together_over_one": round(median_ratio(speeds[together], speeds[one]), 3),
            "communication_share": round(1 - median_ratio(speeds[together], speeds[apart]), 3),
            "one_share_of_matrix_rate": product.share(operations, seconds_per_image, matrix_seconds),
        },
        per_cpu=True,
    )


if __name__ == "__main__":
    app.run(main)
