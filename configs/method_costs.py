"""What each method costs on a machine: the step that was timed there, times what the method takes over another."""

import json
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import rich.table

from configs import cskd_paper, followers, pskd_paper
from configs.evidence import RESULTS
from configs.tables import LABELS
from cskd_tf.methods.cost import over_cross_entropy
from cskd_tf.runs import printing
from cskd_tf.runs.doctor import Findings

SHOWN = (
    "cross_entropy", "label_smoothing", "zipf", "max_entropy", "adacos", "virtual_softmax", "mixup", "cutmix", "cutout",
    "byot", "uskd", "pskd", "tfkd_reg", "tfkd", "cskd", "mixup_cskd", "kd", "cskd_e", "kd_cskd", "dlb", "ddgsd",
)  # fmt: skip
# As benchmarks/method_cost.py calls those that are not their methods' names with a plus between.
CASES = {"cskd_e": "CSKD-E", "tfkd": "TFKD, self", "tfkd_reg": "TFKD, reg"}


def methods() -> dict[str, Sequence[Mapping[str, Any]]]:
    """The methods of both papers that are compared, and those that followed."""
    known = {
        **pskd_paper.methods("preact_resnet18"),
        **cskd_paper.methods("cifar100"),
        **followers.methods("cifar100_pad_crop"),
    }
    return {name: known[name] for name in SHOWN}


def measured(network: str, *, path: pathlib.Path = RESULTS / "method_cost.json") -> dict[str, float]:
    """Measured steps over those of cross-entropy, by method: of this network, or else of any; none without the file."""
    lines = json.loads(path.read_text()) if path.is_file() else []
    found = {}
    for name, listed in methods().items():
        case = CASES.get(name, " + ".join(method["name"] for method in listed))
        of = [line for line in lines if line["method"] == case]
        of = [line for line in of if line["network"] == network] or of
        if of:
            found[name] = statistics.median(line["over_cross_entropy"] for line in of)
    return found


def table(findings: Findings, *, step: float, ratios: Mapping[str, float]) -> rich.table.Table:
    """One row per method: minutes of an epoch and hours of the run, by its measured ratio or else by the counted one.

    Args:
        findings: of the doctor.
        step: seconds of one, as it timed it.
        ratios: what `measured` returned.
    """
    config, known = findings.config, methods()
    counted = {name: over_cross_entropy(listed) for name, listed in known.items()}
    own = over_cross_entropy(config.methods)
    same = (name for name, listed in known.items() if _names(listed) == _names(config.methods) and counted[name] == own)
    timed_as = next(same, "")
    plain = step / ratios.get(timed_as, own)
    headings = ["counted", *(["measured"] if ratios else []), "minutes an epoch", f"hours, {config.epochs} epochs"]
    result = printing.table(f"what each method takes here, from a step of {step:.3f} s", ["", *headings])
    for name, factor in counted.items():
        seconds = ratios.get(name, factor) * plain * findings.steps
        row = [f"{factor:.2f}"] + ([f"{ratios[name]:.2f}" if name in ratios else "-"] if ratios else [])
        result.add_row(LABELS[name], *row, _rounded(seconds / 60), _rounded(seconds * config.epochs / 3600))
    return result


def _rounded(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def _names(listed: Sequence[Mapping[str, Any]]) -> list[str]:
    return [method["name"] for method in listed]


NOTE = (
    "counted: passes through the network over those of cross-entropy, one with a gradient as three; KD's teacher is "
    "one of the same network, whose own training is left out."
)
MEASURED = "measured: steps in results/method_cost.json, on another machine."
