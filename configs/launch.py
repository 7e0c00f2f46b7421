"""`launch`: the workers of one run as processes of this machine, each with a TF_CONFIG; nothing here loads TensorFlow.

    python train_main.py launch --workers=2

Several machines need another launcher, one that starts the same command on each: docs/distributed.md.
"""

import contextlib
import json
import os
import pathlib
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import IO

GRACE = 60.0  # seconds from the end of the first worker that fails to the killing of those that still run
LAST_LINES = 10  # of the log of the worker that failed
PORT_TAKEN = "Could not start gRPC server"  # as TensorFlow says it
MODES = ("train", "evaluate")  # those that all workers do together
STRATEGIES = ("auto", "multi_worker")  # and the strategies that they do it on
PASSED_ON = {signal.SIGINT: signal.SIGINT, signal.SIGTERM: signal.SIGTERM, signal.SIGHUP: signal.SIGTERM}


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
    _say(f"Workers: {workers}; their logs: {logs}")
    codes: dict[int, int] = {}
    failed = None  # the first of them
    with _Processes() as processes:
        for index, environment in enumerate(environments):
            processes.start(command, environment=environment, log=paths[index], shown=index == 0)
        if processes.stopped_by:  # before all were started: those that were can have missed it, and wait for the others
            processes.stop(within=grace)
        for index, code in processes.ends():
            codes[index] = code if code >= 0 else 128 - code
            if code and failed is None:
                failed = index
                if not processes.stopped_by:
                    _say(f"error: worker {index} failed {_how(code)}; its log: {paths[index]}")
                    lines = _last_lines(paths[index], start=old[index])
                    if index:  # what worker 0 prints is on the screen
                        _say(lines)
                    if PORT_TAKEN in lines:
                        _say("Another process has taken the port; the same command tries others.")
                processes.stop(within=grace)
    code = 0 if failed is None else codes[failed]
    if processes.stopped_by and (code or len(codes) < workers):
        ends = ", ".join(str(codes[index]) for index in sorted(codes))
        _say(f"Stopped by {processes.stopped_by.name}; exit codes of the workers: {ends}")
        return code or 128 + processes.stopped_by
    return code


class _Processes:
    """Processes of which none outlives the block, in the order in which they are started.

    In the block, signals for this process are sent to all of them.
    """

    def __init__(self) -> None:
        self.stopped_by: signal.Signals | None = None  # what this process was sent
        self._processes: list[subprocess.Popen[bytes]] = []
        self._told: set[int] = set()  # who was sent a signal and is saving: another one would end it at once
        self._ended: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        self._deadline: float | None = None
        self._screen: list[threading.Thread] = []

    def __enter__(self) -> "_Processes":
        heard = [number for number in PASSED_ON if signal.getsignal(number) != signal.SIG_IGN]  # as under nohup
        self._before = {number: signal.signal(number, self._pass_on) for number in heard}
        return self

    def __exit__(self, *_: object) -> None:
        self._send(signal.SIGKILL)
        for thread in self._screen:
            thread.join(timeout=5)  # longer only where a process that a worker has left behind keeps its output open
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def start(self, command: Sequence[str], *, environment: Mapping[str, str], log: pathlib.Path, shown: bool) -> None:
        """Starts one more, unless a signal has come. `shown`: its output goes to this one's too."""
        if self.stopped_by:
            return
        with open(log, "ab") as file:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if shown else file,
                stderr=subprocess.STDOUT,
                process_group=0,  # of its own, or Ctrl-C would reach it twice
            )
        index = len(self._processes)
        self._processes.append(process)
        threading.Thread(target=lambda: self._ended.put((index, process.wait())), daemon=True).start()
        if process.stdout:
            self._screen.append(threading.Thread(target=_show, args=(process.stdout, log), daemon=True))
            self._screen[-1].start()

    def ends(self) -> Iterator[tuple[int, int]]:
        """`(which, exit code)` of each as it ends; the code is negative where a signal ended it."""
        for _ in self._processes:
            yield self._next_end()

    def _next_end(self) -> tuple[int, int]:
        try:
            return self._ended.get(timeout=self._deadline and max(0.0, self._deadline - time.monotonic()))
        except queue.Empty:
            _say("error: the other workers did not end in time and are killed")
            self._send(signal.SIGKILL)
            self._deadline = None
            return self._ended.get()

    def stop(self, *, within: float) -> None:
        """SIGTERM for those that were sent no signal yet; after `within` seconds, `ends` kills all that still run."""
        self._deadline = time.monotonic() + within
        self._send(signal.SIGTERM, without=self._told)

    def _pass_on(self, number: int, _: object) -> None:
        self.stopped_by = signal.Signals(number)
        self._send(PASSED_ON[self.stopped_by])

    def _send(self, number: signal.Signals, *, without: Collection[int] = ()) -> None:
        for index, process in enumerate(self._processes):
            if index not in without and process.poll() is None:
                self._told.add(index)
                if number == signal.SIGKILL:
                    os.killpg(process.pid, number)  # what it has started too; of other signals it tells them itself
                else:
                    process.send_signal(number)


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


def _show(output: IO[bytes], log: pathlib.Path) -> None:
    """Copies what a process prints to its log and to the screen as it comes; to the log alone if the screen is gone."""
    with output, open(log, "ab", buffering=0) as file:
        while part := os.read(output.fileno(), 65536):
            file.write(part)
            with contextlib.suppress(OSError):
                sys.stdout.buffer.write(part)
                sys.stdout.buffer.flush()


def _last_lines(log: pathlib.Path, *, start: int) -> str:
    with open(log, "rb") as file:
        file.seek(start)
        return b"".join(file.readlines()[-LAST_LINES:]).decode(errors="replace").rstrip()


def _how(code: int) -> str:
    return f"with exit code {code}" if code > 0 else f"by {signal.Signals(-code).name}"


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
