"""Real processes that train together on this machine."""

import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from configs.launch import task_configs
from tests.helpers import ROOT


def output(folder: pathlib.Path, index: int) -> str:
    """What a worker printed."""
    return (folder / f"worker-{index}.txt").read_text()


def start(
    folder: pathlib.Path,
    arguments: Sequence[str],
    *,
    workers: int,
    cwd=ROOT,
    before: Mapping[int, Sequence[str]] | None = None,
) -> list[subprocess.Popen]:
    """The processes of one Python command, where {index} stands for the worker's; their output goes to `folder`.

    `before` is what runs that of a worker, such as `strace` with its arguments.
    """
    processes = []
    for index, task in enumerate(task_configs(workers)):
        environment = {**os.environ, **({"TF_CONFIG": task} if workers > 1 else {})}
        command = [
            *(before or {}).get(index, ()),
            sys.executable,
            *(argument.format(index=index) for argument in arguments),
        ]
        with open(folder / f"worker-{index}.txt", "w") as file:
            processes.append(subprocess.Popen(command, cwd=cwd, env=environment, stdout=file, stderr=file))
    return processes


def finish(folder: pathlib.Path, processes: Sequence[subprocess.Popen]) -> None:
    """Waits for all, none of which may fail."""
    codes = [process.wait() for process in processes]
    assert not any(codes), "\n".join(output(folder, index)[-3000:] for index, code in enumerate(codes) if code)


def kill(process: subprocess.Popen, number: int = signal.SIGKILL) -> None:
    process.send_signal(number)
    process.wait()
