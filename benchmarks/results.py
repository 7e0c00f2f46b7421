"""What a command measured, where and on which code: a JSON line each on the screen, and all of a run in results/.

`record("network_speed", {"network": "resnet18", "images_per_second": 29.0})` prints
`{"network": "resnet18", "images_per_second": 29.0, "commit": "e27efc8", "cpu": "AMD EPYC", "onednn": "on"}` and writes
the list of this run's lines so far to results/network_speed.json.
"""

import contextlib
import functools
import json
import math
import os
import pathlib
import platform
import re
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "results"
INSTRUCTIONS = {  # by Linux' flag, from the widest on
    "amx_bf16": "AMX",
    "avx512_bf16": "AVX-512 with bfloat16",
    "avx512f": "AVX-512",
    "avx2": "AVX2",
}
_lines: dict[str, list[dict]] = {}


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


@functools.cache
def commit() -> str:
    """The checkout's commit, with "-dirty" where files other than results differ from it; "unknown" without git.

    Asked once per process: what is edited while a command runs is not what it runs.
    """
    try:
        changed = _git("status", "--porcelain", "--", ".", ":(exclude)results")
        return _git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _named(cpuinfo: str) -> str:
    r"""The model name of the first processor that Linux lists, with the widest of its `INSTRUCTIONS` in brackets.

    Virtual machines hide all but a family: one "AMD EPYC" has AVX2 alone, another AVX-512 and bfloat16.

    Example:
        >>> _named("model name : AMD EPYC\nflags : fpu fma avx avx2\n")
        'AMD EPYC (AVX2)'
    """
    fields = dict(re.findall(r"^([\w ]+?)\s*: (.*)$", cpuinfo.partition("\n\n")[0], re.MULTILINE))
    flags = fields.get("flags", "").split()
    widest = [said for flag, said in INSTRUCTIONS.items() if flag in flags][:1]
    return fields.get("model name", "") + "".join(f" ({said})" for said in widest)


@functools.cache
def cpu() -> str:
    """The CPU's model name, as the system has it, and on Linux the instructions that kernels are chosen by."""
    with contextlib.suppress(OSError):
        if found := _named(pathlib.Path("/proc/cpuinfo").read_text()):
            return found
    return platform.processor() or platform.machine()


def onednn() -> str:
    """Whether TensorFlow's convolutions run on oneDNN's kernels in this process, and on which of the CPU's.

    Example: "off"; "on"; "on, at most AVX2" with ONEDNN_MAX_CPU_ISA=AVX2; "unknown" without TensorFlow.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        from cskd_tf import kernels
    except ImportError:
        return "unknown"
    if not kernels.onednn_is_on():
        return "off"
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
    return f"on, at most {limit}" if limit else "on"


def go_on(name: str, keeps: Callable[[dict], bool]) -> list[dict]:
    """The lines of results/<name>.json that `keeps` says, behind which those stand that this process records."""
    written = RESULTS / f"{name}.json"
    _lines[name] = [line for line in json.loads(written.read_text()) if keeps(line)] if written.exists() else []
    return list(_lines[name])


def _without_nan(value: Any) -> Any:
    """A JSON value with None for each NaN, however deep.

    Example:
        >>> _without_nan({"aurc": 0.5, "test": [math.nan, {"coverage": math.nan}]})
        {'aurc': 0.5, 'test': [None, {'coverage': None}]}
    """
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def record(name: str, lines: list[dict] | dict, *, by: Sequence[str] = (), per_cpu: bool = False) -> None:
    """Prints each line with its commit, CPU and kernels, and writes all of this run's to results/<name>.json.

    What is undefined, a NaN, is null: JSON has no NaN, and readers other than Python's refuse it.

    A line's own `onednn` stays, for steps that ran in other processes. The file is replaced whole: whoever reads it
    never sees half a run's line, and a command that is interrupted leaves what it had measured.

    Args:
        name: of the file; lines of several calls in one process are one run.
        lines: JSON objects.
        by: keys that tell lines apart, of what takes too long for one run: lines of earlier runs stay in the file, but
            for those whose values of these keys a new line has, which takes their place.
        per_cpu: whether what earlier runs measured on another CPU stays, before this run's lines.

    Raises:
        ValueError: a line with an infinite number, which JSON cannot hold.
    """
    written = RESULTS / f"{name}.json"
    if name not in _lines:
        before = json.loads(written.read_text()) if written.exists() else []
        _lines[name] = [line for line in before if by or (per_cpu and line["cpu"] != cpu())]
    known = _lines[name]
    for line in [lines] if isinstance(lines, dict) else lines:
        where = {"commit": commit(), "cpu": cpu(), "onednn": line["onednn"] if "onednn" in line else onednn()}
        new = _without_nan({**line, **where})
        same = [place for place, old in enumerate(known) if by and all(old.get(key) == new.get(key) for key in by)]
        place = same[0] if same else len(known)
        known[place : place + 1] = [new]
        print(json.dumps(new, allow_nan=False), flush=True)
    RESULTS.mkdir(exist_ok=True)
    partial = RESULTS / f".{name}.{os.getpid()}"
    partial.write_text("[\n" + ",\n".join(json.dumps(line, allow_nan=False) for line in known) + "\n]\n")
    partial.replace(written)
