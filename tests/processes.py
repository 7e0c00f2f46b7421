"""Real processes that train together on this machine."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence

from tests.helpers import ROOT


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def output(folder: pathlib.Path, index: int) -> str:
    """What a worker printed."""
    return (folder / f"worker-{index}.txt").read_text()


def start(folder: pathlib.Path, arguments: Sequence[str], *, workers: int, cwd=ROOT) -> list[subprocess.Popen]:
    """The processes of one Python command, where {index} stands for the worker's; their output goes to `folder`."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    processes = []
    for index in range(workers):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, **({"TF_CONFIG": json.dumps(task)} if workers > 1 else {})}
        command = [sys.executable, *(argument.format(index=index) for argument in arguments)]
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
