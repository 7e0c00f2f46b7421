"""A long run with an evaluation, a checkpoint and TensorBoard every few steps: does its process grow?

    python -m benchmarks.soak --steps=5000 [--epoch=10] [--every=500]

Trains CS-KD on the digits with the callbacks of a run, in epochs of `--epoch` steps, and writes a JSON line every
`--every` steps from a warm-up on: the process' memory (resident, in MiB), its threads, its open files, and the objects
that Python's garbage collector knows. The last line has what they grew by in 1,000 steps, as a line fitted to what was
measured after the warm-up; what of it is beyond its limit, in which case the exit code is 1; and what the run was too
short to judge.
"""

import gc
import os
import pathlib
import sys
import tempfile

import keras
import numpy as np
from absl import app, flags

from benchmarks.results import record

STEPS = flags.DEFINE_integer("steps", 5000, "How many to train.")
EPOCH = flags.DEFINE_integer("epoch", 10, "Steps after which there is an evaluation, a checkpoint and so on.")
EVERY = flags.DEFINE_integer("every", 500, "Steps between two measurements; the first is the end of the warm-up.")
WIDTH = flags.DEFINE_integer("width", 4, "Of the network.")
MEASURED = ("rss_mib", "threads", "open_files", "python_objects")
# What they may grow by in 1,000 steps, with an evaluation, a checkpoint and TensorBoard's files every 10. A thread or a
# file that is left behind stays for good. What the allocator holds went up and down by 17 MiB in 5,000 steps of a run
# that keeps nothing, which tilts the line by 1.2 MiB per 1,000 steps (its standard error): 4 is three times that, and
# less than the 5.1 that the logits and embeddings of one evaluation, kept each epoch, would add.
LIMITS = {"rss_mib": 4.0, "threads": 0.0, "open_files": 0.0}
FEWEST_STEPS = {"rss_mib": 4000}  # between the first and the last measurement: over fewer the allocator tilts it more


def _numbers_of_files() -> list[str]:
    """Without that of the folder that they are listed in."""
    return [number for number in os.listdir("/proc/self/fd") if os.path.islink(f"/proc/self/fd/{number}")]


def measure() -> dict[str, float]:
    """What this process holds now; Linux only.

    Fonts are not among its files: Matplotlib opens each once, when a picture first needs it, and keeps it.
    """
    gc.collect()
    opened = [os.readlink(f"/proc/self/fd/{number}") for number in _numbers_of_files()]
    status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
    return {
        "rss_mib": round(int(status["VmRSS"].split()[0]) / 1024, 1),
        "threads": int(status["Threads"]),
        "open_files": len([file for file in opened if not file.endswith(".ttf")]),
        "python_objects": len(gc.get_objects()),
    }


class Measure(keras.callbacks.Callback):
    """Records a line every so many steps, at an epoch's end."""

    def __init__(self, *, every: int):
        super().__init__()
        self.every = every
        self.lines: list[dict[str, float]] = []

    def on_epoch_end(self, epoch, logs=None):
        step = int(self.model.step.numpy())
        if step % self.every == 0:
            self.lines.append({"step": step, **measure()})
            record("soak", {"benchmark": "soak", **self.lines[-1]})


def growth(lines: list[dict[str, float]]) -> dict[str, float]:
    """By how much each figure grew in 1,000 steps.

    Example:
        `growth([{"step": 0, "threads": 5}, {"step": 500, "threads": 6}])["threads_per_1000_steps"]` is 2.
    """
    steps = [line["step"] for line in lines]
    return {
        f"{name}_per_1000_steps": round(1000 * float(np.polyfit(steps, [line[name] for line in lines], 1)[0]), 2)
        for name in MEASURED
        if name in lines[0]
    }


def judged(grown: dict[str, float], *, steps: int) -> dict[str, dict | list]:
    """What is beyond its limit, and what cannot be said after so few steps.

    Example:
        >>> grown = {"rss_mib_per_1000_steps": 9.0, "threads_per_1000_steps": 0.1, "open_files_per_1000_steps": 0.0}
        >>> judged(grown, steps=1000)
        {'limits_per_1000_steps': {'rss_mib': 4.0, 'threads': 0.0, 'open_files': 0.0}, 'beyond': ['threads'],
        'too_short_for': ['rss_mib']}

    Args:
        grown: of `growth`.
        steps: between the first and the last measurement.
    """
    too_short = [name for name in LIMITS if steps < FEWEST_STEPS.get(name, 0)]
    judged_here = {name: limit for name, limit in LIMITS.items() if name not in too_short}
    beyond = [name for name, limit in judged_here.items() if grown[f"{name}_per_1000_steps"] > limit]
    return {"limits_per_1000_steps": LIMITS, "beyond": beyond, "too_short_for": too_short}


def main(argv):
    del argv
    if STEPS.value % EPOCH.value or EVERY.value % EPOCH.value or STEPS.value < 2 * EVERY.value:
        raise app.UsageError("Expected whole epochs in --steps and in --every, and two measurements or more.")
    from configs import digits
    from cskd_tf.runs import train
    from cskd_tf.runs.config import Config
    from cskd_tf.runs.experiment import prepare
    from cskd_tf.runs.workdir import Workdir

    config = digits.get_config()
    config.baseline, config.verbose, config.network.width = False, 0, WIDTH.value
    config.batch_size, config.epochs = 4, STEPS.value // EPOCH.value
    config.data.split.train_per_class = 4 * EPOCH.value // 10 or 1
    measuring = Measure(every=EVERY.value)
    with tempfile.TemporaryDirectory() as folder:
        workdir, config = Workdir(pathlib.Path(folder) / "run"), Config.read(config)
        experiment = prepare(config)
        if experiment.steps_per_epoch != EPOCH.value:
            sys.exit(f"Expected --epoch of a multiple of 5. Received: {EPOCH.value}")
        workdir.claim(config)
        train.fit(experiment, workdir, more=(measuring,))
    grown = growth(measuring.lines)
    verdict = judged(grown, steps=measuring.lines[-1]["step"] - measuring.lines[0]["step"])
    record("soak", {"benchmark": "soak", "steps": STEPS.value, "epoch": EPOCH.value, **grown, **verdict})
    if verdict["beyond"]:
        sys.exit(1)


if __name__ == "__main__":
    app.run(main)
