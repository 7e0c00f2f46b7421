"""What each method of configs/few_images.py costs over cross-entropy: `python -m benchmarks.equal_time`.

As `benchmarks.method_cost`, with the network, the batch and the methods of `configs.few_images.COMPARED`. What a sweep
of `equal_time` trains follows from it.
"""

import functools
import pathlib

from absl import app, flags

from benchmarks import arithmetic, method_cost
from benchmarks.results import record
from configs import few_images

METHODS = flags.DEFINE_multi_enum("compared", list(few_images.COMPARED[1:]), few_images.COMPARED[1:], "Which methods.")
ROUNDS = flags.DEFINE_integer("rounds", 20, "Steps of each kind that are timed.", lower_bound=1)


def _teacher_of(method: dict) -> dict:
    """The network of the run that a method learns from, by its folder."""
    if "teacher" not in method:
        return {}
    return {"teacher": few_images.get_config(pathlib.PurePath(method["teacher"]).name).network.name}


@functools.cache
def _flops(network: str) -> int:
    from cskd_tf import networks

    width = few_images.get_config().network.width
    return arithmetic.forward_flops(networks.build(network, num_classes=100, input_shape=(32, 32, 3), width=width))


def measure(experiment: str) -> dict:
    config = few_images.get_config(f"tiny_imagenet_20,{experiment}")
    described = [
        (method["name"], {key: value for key, value in method.items() if key != "name"} | _teacher_of(method))
        for method in config.methods
    ]
    in_theory = method_cost.theory(described) + sum(
        # Counted there as a forward pass of the student's size.
        arithmetic.FORWARD / arithmetic.WITH_GRADIENT * (_flops(arguments["teacher"]) / _flops(config.network.name) - 1)
        for _, arguments in described
        if "teacher" in arguments
    )
    step = {"network": config.network.name, "width": config.network.width, "images": config.batch_size}
    plain, method = method_cost.compared(described, **step, rounds=ROUNDS.value)
    return {
        "benchmark": "equal_time",
        "experiment": experiment,
        **step,
        "over_cross_entropy": round(method.times_as_slow_as(plain), 3),
        "theory": round(in_theory, 3),
    }


def main(argv):
    del argv
    for experiment in METHODS.value:
        record("equal_time", measure(experiment))


if __name__ == "__main__":
    app.run(main)
