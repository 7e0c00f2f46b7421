"""Commands in processes of their own, several at once: on cores of their own, with what they printed."""

import os
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from concurrent import futures

from benchmarks.results import ROOT


def start(
    *arguments: str,
    cores: Collection[int] | None = None,
    variables: Mapping[str, str] | None = None,
    cwd: str | None = None,
) -> subprocess.Popen:
    """Starts Python with `arguments`, where modules of the checkout are found.

    Args:
        arguments: a script or `-m` and a module, and what they take.
        cores: on which alone the process runs, where the system can tell it so (Linux); TensorFlow then starts as many
            threads.
        variables: of the environment, beside those that are there.
        cwd: folder to start in.
    """
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": paths, **(variables or {})}
    command = [sys.executable, *arguments]
    if cores is not None:
        # taskset and not os.sched_setaffinity: in a process that has threads, preexec_fn may hang.
        command = ["taskset", "--cpu-list", ",".join(map(str, sorted(cores))), *command]
    return subprocess.Popen(
        command, env=environment, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def outputs(processes: Sequence[subprocess.Popen], *, at_most: float) -> list[str]:
    """What processes that run at once have printed, when all have ended; none is left behind.

    Raises:
        ChildProcessError: one failed, for which the others may wait for ever, or `at_most` seconds have passed.
    """
    with futures.ThreadPoolExecutor(len(processes)) as pool:
        printed = [pool.submit(_output, process) for process in processes]
        try:
            done, late = futures.wait(printed, timeout=at_most, return_when=futures.FIRST_EXCEPTION)
            for each in done:
                each.result()
            if late:
                raise ChildProcessError(f"{len(late)} of {len(printed)} processes did not end in {at_most} seconds")
        finally:
            for process in processes:
                process.kill()
    return [each.result() for each in printed]


def _output(process: subprocess.Popen) -> str:
    stdout, stderr = process.communicate()
    if process.returncode:
        raise ChildProcessError(f"{process.args} ended with exit code {process.returncode}:\n{stderr[-2000:]}")
    return stdout
