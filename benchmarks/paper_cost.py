"""What the papers' tables would take: `python -m benchmarks.paper_cost [--sweep=cskd_paper:table1,mit67 ...]`.

A line per sweep: its runs with the teachers, and the hours of their arithmetic at a rate that a device holds. A pass
with gradient counts as three forward passes, one without as one, a teacher as one of its own; evaluation and whatever
waits are left out. It is arithmetic, not a measurement: `--mode=doctor` times an epoch where you are. Written to
`results/paper_cost.json`.
"""

import functools
import pathlib

from absl import app, flags

from benchmarks.results import record

SWEEPS = flags.DEFINE_multi_string("sweep", [], "FILE:SWEEP of configs; by default every table's.")
RATE = flags.DEFINE_float("teraflops", 10.0, "Floating-point operations per second that the device holds, in 10^12.")


@functools.cache
def flops(network: str, size: int) -> int:
    """Of a forward pass of an image, for 100 classes."""
    import cskd_tf
    from benchmarks.arithmetic import forward_flops

    return forward_flops(cskd_tf.networks.build(network, num_classes=100, input_shape=(size, size, 3)))


def run_flops(run, runs) -> float:
    """Floating-point operations of a run's training."""
    from configs.published import SIZES
    from cskd_tf.methods.cost import FORWARD, passes

    config = run.config
    size = config["data"]["augment"]["image_size"]
    teachers = sum(flops(runs[name].config["network"]["name"], size) for name in run.teachers)
    images = SIZES[config["data"]["source"]["name"]][0] * config["epochs"]
    images *= 1 - config["data"]["split"]["validation_fraction"]
    return images * (passes(config["methods"]) * flops(config["network"]["name"], size) + FORWARD * teachers)


def every_sweep() -> list[str]:
    from configs import tables

    names = {}
    for name, form in tables.FORMS.items():
        module = "pskd_paper" if name.startswith("pskd") else "cskd_paper"
        for part, _ in tables.parts(name):
            for column in form.columns:
                names[f"{module}:{form.sweep.format(part=part.removesuffix('_shakedrop'), column=column)}"] = None
    return list(names)


def main(argv):
    from configs import cskd_paper, pskd_paper
    from configs.asked import load_from
    from cskd_tf.runs import grid

    for name in SWEEPS.value or every_sweep():
        file, _, sweep = name.partition(":")
        module = {"cskd_paper": cskd_paper, "pskd_paper": pskd_paper}[file]
        given = module.get_config(sweep).sweep
        home = pathlib.Path("workdirs", file)
        plan = grid.Plan(load_from(module.__file__), folder=home, home=home, overrides={})
        for experiment in given.experiments:
            plan.add(experiment, grid.parse_grid([], defaults=given.grid))
        hours = sum(run_flops(run, plan.runs) for run in plan.runs.values()) / (RATE.value * 1e12 * 3600)
        line = {"sweep": name, "runs": len(plan.runs), "teraflops": RATE.value, "hours": round(hours, 1)}
        record("paper_cost", line)


if __name__ == "__main__":
    app.run(main)
