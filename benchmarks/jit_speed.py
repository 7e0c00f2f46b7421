"""What XLA gains or loses on this machine: `python -m benchmarks.jit_speed [--network=NAME ...]`.

A training step of each network with and without `jit_compile`, in turns, narrow and as published, of few small images;
a line per network, width and precision, which takes the place of an earlier one. Of all networks it takes an hour. What
the compiler takes before the first step is printed.
"""

import statistics
import time

from absl import app, flags

from benchmarks import network_speed, results
from benchmarks.turns import take_turns

flags.FLAGS.set_default("batch", 8)
flags.FLAGS.set_default("rounds", 10)
IMAGE = flags.DEFINE_integer("image", 32, "Pixels.")
WIDTHS = flags.DEFINE_multi_integer("widths", [16, 0], "Channels of the first stage; 0: as published.")


def jit_step(name: str, precision: str, setting: dict, jit: bool):
    """The step, once it has been traced and compiled; it says how long that took."""
    step = network_speed.keras_step(name, precision, setting, jit=jit)
    start = time.perf_counter()
    step()
    print(f"{name}, {precision}, {jit=}: first step after {time.perf_counter() - start:.1f} s", flush=True)
    return step


def measure(name: str, width: int, precision: str) -> dict:
    setting = {
        "image": IMAGE.value,
        "classes": network_speed.SETTINGS[name]["classes"],
        "batch": network_speed.BATCH.value,
    }
    if width:
        setting["width"] = width
    programs = {jit: (jit_step, (name, precision, setting, jit == "jit")) for jit in ("jit", "no_jit")}
    timed = take_turns(programs, rounds=network_speed.ROUNDS.value)
    result = {"benchmark": "jit_speed", "network": name, "precision": precision, **setting}
    for kind, each in timed.items():
        result[f"{kind}_images_per_second"] = round(setting["batch"] / statistics.median(each.seconds), 1)
        result[f"{kind}_peak_memory_mib"] = each.peak_memory
    return {**result, "times_as_fast_with_jit": round(timed["no_jit"].times_as_slow_as(timed["jit"]), 3)}


def main(argv):
    del argv
    for name in network_speed.NETWORK.value:
        for width in WIDTHS.value:
            for precision in network_speed.PRECISION.value:
                results.record(
                    "jit_speed", measure(name, width, precision), by=("network", "width", "precision", "cpu")
                )


if __name__ == "__main__":
    app.run(main)
