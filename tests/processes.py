"""Real processes on this machine, such as those of workers that train together."""

import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

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


def wait_for(
    condition: Callable[[], object],
    seconds: float = 240,
    *,
    every: float = 0.1,
    running: subprocess.Popen | None = None,
) -> None:
    """Waits until the condition is true, which is looked at `every` so many seconds.

    It fails after `seconds`, and where the process that is to be `running` has ended, with what that printed.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert running is None or running.poll() is None, running.stdout.read()
        assert time.monotonic() < end, f"not within {seconds} seconds"
        time.sleep(every)
