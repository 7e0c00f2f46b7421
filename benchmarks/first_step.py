"""Seconds from `python train_main.py` to the end of its first training step: `python -m benchmarks.first_step`.

In turns, in new processes: the command, `import tensorflow, keras` alone, which every such program pays, and a plain
program in Keras (benchmarks/stamped.py). A JSON line with the medians, of the command part by part: imports; what is
built and loaded until the first step begins; what the first step takes more than the second, which is tracing; and
the second, beside what its operations take at the rate of a large matrix product, measured afterwards.
"""

import json
import statistics
import tempfile
import time
import timeit

from absl import app, flags

from benchmarks import processes
from benchmarks.results import record
from benchmarks.turns import median_ratio

ROUNDS = flags.DEFINE_integer("rounds", 5, "Processes of each kind that are timed.")
AT_MOST = 300.0  # seconds of a process


def seconds_of_imports() -> float:
    start = time.perf_counter()
    processes.outputs([processes.start("-c", "import tensorflow, keras")], at_most=AT_MOST)
    return time.perf_counter() - start


def parts_of(*arguments: str) -> dict[str, float]:
    """Seconds of each part of a stamped program, and of all until the first step's end."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.time()
        (printed,) = processes.outputs(
            [processes.start("-m", "benchmarks.stamped", *arguments, cwd=folder)], at_most=AT_MOST
        )
    at = json.loads(printed.splitlines()[-1])
    step = at["step_1_ends"] - at["step_1_begins"]
    return {
        "imports": at["imported"] - start,
        "building": at["step_0_begins"] - at["imported"],
        "tracing": at["step_0_ends"] - at["step_0_begins"] - step,
        "step": step,
        "all": at["step_0_ends"] - start,
    }


def seconds_of_arithmetic() -> float:
    """Of a step of the plain program, which the command's first run shares: its operations at the matrix rate."""
    from benchmarks.arithmetic import WITH_GRADIENT, MatrixProduct, forward_flops
    from benchmarks.stamped import BATCH, make_network

    product = MatrixProduct("float32")
    product()
    seconds = statistics.median(timeit.repeat(product, number=1, repeat=ROUNDS.value))
    return WITH_GRADIENT * BATCH * forward_flops(make_network()) / product.flops * seconds


def main(argv):
    imports, command, plain = [], [], []
    for number in range(ROUNDS.value + 1):
        measured = seconds_of_imports(), parts_of("command", "--config.verbose=0", *argv[1:]), parts_of("plain")
        if number:  # the first reads files from the disk
            for values, value in zip((imports, command, plain), measured, strict=True):
                values.append(value)
    result = {"benchmark": "first_step", "rounds": ROUNDS.value, "arguments": argv[1:]}
    for name, parts in {"command": command, "plain": plain}.items():
        for part in parts[0]:
            result[f"{name}_{part}_seconds"] = round(statistics.median(each[part] for each in parts), 3)
    result["tensorflow_and_keras_seconds"] = round(statistics.median(imports), 3)
    result["plain_step_at_matrix_rate_seconds"] = round(seconds_of_arithmetic(), 5)
    alls = [each["all"] for each in command]
    result["command_over_imports"] = round(median_ratio(alls, imports), 3)
    result["command_over_plain"] = round(median_ratio(alls, [each["all"] for each in plain]), 3)
    record("first_step", result, per_cpu=True)


if __name__ == "__main__":
    app.run(main)
