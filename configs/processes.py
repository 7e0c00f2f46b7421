"""Processes that a command starts and that none of them outlives; nothing here loads TensorFlow."""

import contextlib
import ctypes
import os
import pathlib
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence

STARTER = "CSKD_TF_STARTED_BY"  # in the environment: the process by which one of ours was started
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
LAST_LINES = 10  # of the log of a process that failed
PASSED_ON = {signal.SIGINT: signal.SIGINT, signal.SIGTERM: signal.SIGTERM, signal.SIGHUP: signal.SIGTERM}


def end_with_starter() -> None:
    """Sends this process SIGTERM when that ends which has started it as one of its `Processes`, even by SIGKILL.

    On Linux; elsewhere the process then goes on by itself.
    """
    starter = os.environ.pop(STARTER, None)  # not for what this process starts
    if starter and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(starter):  # it has ended already
            os.kill(os.getpid(), signal.SIGTERM)


class Processes:
    """Processes of which none outlives the block, in the order in which they are started.

    In the block, signals for this process are sent to all of them.

    Args:
        passed_on: which signals, and as which.
    """

    def __init__(self, passed_on: Mapping[signal.Signals, signal.Signals] = PASSED_ON) -> None:
        self._passed_on = passed_on
        self.stopped_by: signal.Signals | None = None  # what this process was sent
        self._processes: list[subprocess.Popen[bytes]] = []
        self._told: set[int] = set()  # who was sent a signal and is saving: another one would end it at once
        self._ended: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        self._deadline: float | None = None
        self._screen: list[threading.Thread] = []

    def __enter__(self) -> "Processes":
        heard = [number for number in self._passed_on if signal.getsignal(number) != signal.SIG_IGN]  # as under nohup
        self._before = {number: signal.signal(number, self._pass_on) for number in heard}
        return self

    def __exit__(self, *_: object) -> None:
        self._send(signal.SIGKILL)
        for thread in self._screen:
            thread.join(timeout=5)  # longer only where nobody reads this screen; the log is whole by itself
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def start(self, command: Sequence[str], *, environment: Mapping[str, str], log: pathlib.Path, shown: bool) -> None:
        """Starts one more, unless a signal has come. `shown`: its output goes to this one's too."""
        if self.stopped_by:
            return
        with open(log, "ab") as file:  # of the process, and not of this one, which may be killed
            start = file.tell()
            process = subprocess.Popen(
                command,
                env={**environment, STARTER: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                process_group=0,  # of its own, or Ctrl-C would reach it twice
            )
        index = len(self._processes)
        self._processes.append(process)
        threading.Thread(target=lambda: self._ended.put((index, process.wait())), daemon=True).start()
        if shown:
            self._screen.append(threading.Thread(target=_show, args=(log, start, process), daemon=True))
            self._screen[-1].start()

    def ends(self) -> Iterator[tuple[int, int]]:
        """`(which, exit code)` of each as it ends; the code is negative where a signal ended it."""
        for _ in self._processes:
            yield self._next_end()

    def _next_end(self) -> tuple[int, int]:
        try:
            return self._ended.get(timeout=self._deadline and max(0.0, self._deadline - time.monotonic()))
        except queue.Empty:
            say("error: the other workers did not end in time and are killed")
            self._send(signal.SIGKILL)
            self._deadline = None
            return self._ended.get()

    def stop(self, *, within: float) -> None:
        """SIGTERM for those that were sent no signal yet; after `within` seconds, `ends` kills all that still run."""
        self._deadline = time.monotonic() + within
        self._send(signal.SIGTERM, without=self._told)

    def _pass_on(self, number: int, _: object) -> None:
        self.stopped_by = signal.Signals(number)
        self._send(self._passed_on[self.stopped_by])

    def _send(self, number: signal.Signals, *, without: Collection[int] = ()) -> None:
        for index, process in enumerate(self._processes):
            if index not in without and process.poll() is None:
                self._told.add(index)
                if number == signal.SIGKILL:
                    with contextlib.suppress(ProcessLookupError):  # it has ended in between
                        os.killpg(process.pid, number)  # what it has started too; others it passes on itself
                else:
                    process.send_signal(number)


def _show(log: pathlib.Path, start: int, process: subprocess.Popen[bytes]) -> None:
    """Shows what a process writes to its log from a place on, as it comes, until it has ended or the screen is gone."""
    with open(log, "rb") as file:
        file.seek(start)
        ended = False
        while not ended:
            ended = process.poll() is not None  # before the last look
            while part := file.read(65536):
                try:
                    sys.stdout.buffer.write(part)
                    sys.stdout.buffer.flush()
                except OSError:  # the screen is gone; the log is whole by itself
                    return
            if not ended:
                time.sleep(0.1)


def last_lines(log: pathlib.Path, *, start: int) -> str:
    with open(log, "rb") as file:
        file.seek(start)
        return b"".join(file.readlines()[-LAST_LINES:]).decode(errors="replace").rstrip()


def how_ended(code: int) -> str:
    return f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
