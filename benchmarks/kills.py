"""Kills a training run at system calls that change files, and compares what the next run makes of it.

    python -m benchmarks.kills [--calls=rename,unlink] [--first=1] [--every=1] [--at_most=20]

Each time, a run of the digits is killed (SIGKILL) by `strace` as it enters the n-th such call, begun again by the same
command, and its files are compared with those of a run that nobody killed: weights, metrics and predictions to the
byte, the log but for the seconds, the names of all files but TensorBoard's, which hold times. A JSON line per kill.
Needs Linux, and `strace`.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from absl import app, flags

from benchmarks.results import record

CALLS = flags.DEFINE_list("calls", ["rename", "unlink"], "System calls at which to kill.")
FIRST = flags.DEFINE_integer("first", 1, "The first call to kill at.")
EVERY = flags.DEFINE_integer("every", 1, "Kill at every n-th of them.")
AT_MOST = flags.DEFINE_integer("at_most", 20, "How many kills per call.")

SMALL = (
    "--config.baseline=False", "--config.epochs=2", "--config.network.width=2", "--config.batch_size=16",
    "--config.data.split.train_per_class=4", "--config.verbose=0",
)  # fmt: skip
ROOT = pathlib.Path(__file__).resolve().parent.parent


def command() -> list[str]:
    return [sys.executable, str(ROOT / "train_main.py"), "--workdir=run", *SMALL]


def train(folder: pathlib.Path, *before: str) -> subprocess.CompletedProcess:
    """Trains in `folder`, or goes on there; `before` stands in front of the command."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [*before, *command()], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def state(folder: pathlib.Path) -> dict[str, bytes | str]:
    """What has to be the same after any kill: the files, and what is in them but for times."""
    files = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or "tensorboard" in name or ("saved_models" in name and not name.endswith(".json")):
            continue
        content = path.read_bytes()
        if path.name == "log.jsonl":
            content = re.sub(rb'"seconds": [0-9.]+', b"", content)
        files[name] = b"" if path.suffix in (".keras", ".png") or path.name == "run.json" else content
    return files


def kill_and_go_on(call: str, number: int, expected: dict[str, bytes | str]) -> dict | None:
    """What became of one kill; None where the run ended before its `number`-th such call."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        inject = f"inject={call}:signal=SIGKILL:when={number}"
        killed = train(folder, "strace", "-f", "-qq", "-e", f"trace={call}", "-e", inject, "-o", "/dev/null")
        if killed.returncode == 0:
            return None
        going_on = train(folder)
        found = state(folder)
        differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        return {
            "benchmark": "kills", "call": call, "number": number, "same": not differing and not going_on.returncode,
            "exit_code": going_on.returncode, "differing": differing[:5],
            "error": going_on.stderr.strip().splitlines()[-2:] if going_on.returncode else [],
        }  # fmt: skip


def main(argv):
    del argv
    if shutil.which("strace") is None:
        raise app.UsageError("Expected strace on the PATH.")
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        whole = train(folder)
        if whole.returncode:
            sys.exit(whole.stderr)
        expected = state(folder)
    for call in CALLS.value:
        for number in range(FIRST.value, FIRST.value + EVERY.value * AT_MOST.value, EVERY.value):
            line = kill_and_go_on(call, number, expected)
            if line is None:
                break
            record(f"kills_{call}", line)


if __name__ == "__main__":
    app.run(main)
