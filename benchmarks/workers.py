"""Cases that may crash, hang or take all memory, each tried in a process that may be lost."""

import multiprocessing
import os
import pathlib
import resource
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from typing import Any

STATUS = pathlib.Path("/proc/self/status")


def memory(key: str) -> int:
    """Bytes of memory of this process, by its key in /proc/self/status: `VmRSS` now, `VmHWM` at most so far."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024


def try_all(
    make_tester: Callable[[], Callable[[Any], dict]],
    cases: Iterable[Any],
    *,
    seconds: float,
    most_bytes: int,
) -> Iterator[dict]:
    """What comes of each case, one after the other in one process, or in a new one after a crash.

    Linux only, for the memory that a case takes is asked of /proc.

    Args:
        make_tester: makes, in the process, the function that tries a case; a function of a module.
        cases: what that function takes; can be pickled.
        seconds: after which a case counts as hung, and its process is killed.
        most_bytes: of address space beyond what the process has taken when it is ready; more is a MemoryError, or a
            crash.

    Yields:
        The function's result with `bytes`, the most memory that it took; or `{"crash": why}`.
    """
    context = multiprocessing.get_context("spawn")
    process = ours = errors = None
    try:
        for case in cases:
            if process is None:
                ours, theirs = context.Pipe()
                errors = tempfile.NamedTemporaryFile()  # noqa: SIM115, closed with its process
                process = context.Process(
                    target=_work, args=(make_tester, theirs, errors.name, most_bytes), daemon=True
                )
                process.start()
                theirs.close()
                ours.recv()  # when it is ready
            try:
                ours.send(case)
                result = ours.recv() if ours.poll(seconds) else {"crash": f"took more than {seconds:g} s"}
            except (EOFError, OSError):
                process.join()
                said = pathlib.Path(errors.name).read_text(errors="replace").strip().splitlines()
                result = {"crash": f"{_exit(process.exitcode)}: {said[-1] if said else ''}"}
            if "crash" in result:
                process.kill()
                process.join()
                errors.close()
                process = None
            yield result
    finally:
        if process is not None:
            process.kill()
            process.join()
            errors.close()


def _exit(code: int | None) -> str:
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def _work(
    make_tester: Callable[[], Callable[[Any], dict]], connection: Connection, errors: str, most_bytes: int
) -> None:
    """Tries what comes until the connection is closed; what C++ parts print goes to a file, whose end may be needed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    file = os.open(errors, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    test = make_tester()
    limit = memory("VmSize") + most_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    connection.send("ready")
    while True:
        try:
            case = connection.recv()
        except EOFError:
            return
        os.truncate(errors, 0)
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = memory("VmRSS")
        result = test(case)
        connection.send({**result, "bytes": max(memory("VmHWM") - before, 0)})
