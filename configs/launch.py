"""`launch`: the workers of one run as processes of this machine, each with a TF_CONFIG; nothing here loads TensorFlow.

    python train_main.py launch --workers=2

Several machines need another launcher, one that starts the same command on each: docs/distributed.md.
"""

import contextlib
import json
import os
import pathlib
import re
import socket
import sys
from collections.abc import Sequence

from configs.processes import Processes, how_ended, last_lines, say

GRACE = 60.0  # seconds from the end of the first worker that fails to the killing of those that still run
PORT_TAKEN = re.compile("Could not start gRPC server|Expected the port of .* to be free")  # as workers say it
MODES = ("train", "evaluate")  # those that all workers do together
STRATEGIES = ("auto", "multi_worker")  # and the strategies that they do it on


def run(words: Sequence[str], *, workers: int | None, mode: str, workdir: str, strategy: str) -> int:
    """What `train_main.py launch` does: the same command line in every worker.

    Args:
        words: what stands between the flags: `launch`, which is the first of the command line.
        workers: number of processes.
        mode: of `train_main.py`.
        workdir: folder of the run. The logs are beside it, in `WORKDIR.logs`.
        strategy: `config.strategy`.

    Returns:
        The exit code, as `launch`.

    Raises:
        ValueError: a command line that starts no workers, or an environment that belongs to another launcher.
    """
    if list(words) != sys.argv[1:2] or workers is None:
        raise ValueError(f"Expected launch --workers=N before other flags. Received: {' '.join(sys.argv[1:])}")
    if mode not in MODES:
        raise ValueError(f"Expected a mode for several workers, of {MODES}. Received: --mode={mode}")
    if strategy not in STRATEGIES:
        raise ValueError(f"Expected a strategy for several workers, of {STRATEGIES}. Received: strategy={strategy!r}")
    if "TF_CONFIG" in os.environ:
        raise ValueError(f"Expected no TF_CONFIG, as launch sets it. Received: TF_CONFIG={os.environ['TF_CONFIG']}")
    command = [sys.executable, sys.argv[0], *_without_workers(sys.argv[2:])]
    folder = pathlib.Path(workdir).resolve()
    return launch(command, workers=workers, logs=folder.with_name(f"{folder.name}.logs"))


def _without_workers(arguments: Sequence[str]) -> list[str]:
    """The flags of a worker: all of `launch`'s but the number of workers."""
    kept, rest = [], iter(arguments)
    for word in rest:
        if re.fullmatch("--?workers", word):
            next(rest)  # its value
        elif not re.match("--?workers=", word):
            kept.append(word)
    return kept


def launch(command: Sequence[str], *, workers: int, logs: pathlib.Path, grace: float = GRACE) -> int:
    """Runs a command once for each worker, until all have ended.

    Each has its place in TF_CONFIG, and a log of its own, `worker-0.log` and so on, to which it appends; what worker 0
    prints is shown here too. When one fails, the others are sent SIGTERM, and SIGKILL after `grace`. SIGINT and SIGTERM
    are passed on to all of them, SIGHUP as SIGTERM.

    Args:
        command: program and arguments.
        workers: how often it is run, at least 1.
        logs: folder of the logs, made where there is none.
        grace: seconds.

    Returns:
        0 where all ended with 0, else the exit code of the first that did not; 128 + n where signal n ended it.

    Raises:
        ValueError: CUDA_VISIBLE_DEVICES cannot be shared out evenly.
        OSError: the command cannot be started, or the logs cannot be written.
    """
    environments = _environments(workers)
    logs.mkdir(parents=True, exist_ok=True)
    paths = [logs / f"worker-{index}.log" for index in range(workers)]
    old = [path.stat().st_size if path.exists() else 0 for path in paths]
    say(f"Workers: {workers}; their logs: {logs}")
    codes: dict[int, int] = {}
    failed = None  # the first of them
    with Processes() as processes:
        for index, environment in enumerate(environments):
            processes.start(command, environment=environment, log=paths[index], shown=index == 0)
        if processes.stopped_by:  # before all were started: those that were can have missed it, and wait for the others
            processes.stop(within=grace)
        for index, code in processes.ends():
            codes[index] = code if code >= 0 else 128 - code
            if code and failed is None:
                failed = index
                if not processes.stopped_by:
                    say(f"error: worker {index} failed {how_ended(code)}; its log: {paths[index]}")
                    lines = last_lines(paths[index], start=old[index])
                    if index:  # what worker 0 prints is on the screen
                        say(lines)
                    if PORT_TAKEN.search(lines):
                        say("Another process has taken the port; the same command tries others.")
                processes.stop(within=grace)
    code = 0 if failed is None else codes[failed]
    if processes.stopped_by and (code or len(codes) < workers):
        ends = ", ".join(str(codes[index]) for index in sorted(codes))
        say(f"Stopped by {processes.stopped_by.name}; exit codes of the workers: {ends}")
        return code or 128 + processes.stopped_by
    return code


def task_configs(workers: int) -> list[str]:
    """TF_CONFIG of each of several workers on this machine, at ports that are free now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(workers)]
        for each in sockets:  # all at once, so that no port is given twice; each is free again when its worker takes it
            each.bind(("", 0))
        addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    cluster = {"worker": addresses}
    return [json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}) for index in range(workers)]


def _environments(workers: int) -> list[dict[str, str]]:
    """What each worker finds in its environment: which it is, where the others are, and its share of the GPUs."""
    return [
        # Unbuffered: a log is read while it is written.
        {**os.environ, "TF_CONFIG": task, "PYTHONUNBUFFERED": "1", **share}
        for task, share in zip(task_configs(workers), _shares_of_gpus(workers), strict=True)
    ]


def _shares_of_gpus(workers: int) -> list[dict[str, str]]:
    """CUDA_VISIBLE_DEVICES of each worker, where it is set: TensorFlow takes all the memory of every GPU it sees."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    gpus = [] if listed == "-1" else listed.split(",") if listed else []
    if not gpus:
        return [{}] * workers
    share, rest = divmod(len(gpus), workers)
    if rest:
        raise ValueError(f"Expected GPUs for each of {workers} workers. Received: CUDA_VISIBLE_DEVICES={listed}")
    return [{"CUDA_VISIBLE_DEVICES": ",".join(gpus[at : at + share])} for at in range(0, len(gpus), share)]
