"""Runs train_main.py in copies of a process that has imported all it needs: seconds less for each start.

Linux only. What imports must not have started TensorFlow's threads, which no copy would have: this process imports the
package, and runs nothing of it.
"""

import dataclasses
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping

ROOT = pathlib.Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True)
class Finished:
    """A process that has ended: what it left with (as of `subprocess`: -9 where it was killed), and printed."""

    returncode: int
    printed: str


@dataclasses.dataclass(frozen=True)
class Started:
    """A process under way: `process` itself, the `strace` that sees it, and the file of what it prints."""

    process: int
    tracer: subprocess.Popen | None
    log: pathlib.Path

    def wait(self) -> Finished:
        _, code = os.waitpid(self.process, 0)
        if self.tracer:
            self.tracer.wait()
        return Finished(os.waitstatus_to_exitcode(code), self.log.read_text(errors="replace"))


def start(arguments, *, folder: pathlib.Path, strace=(), log: pathlib.Path, variables: Mapping[str, str]) -> Started:
    """Starts `train_main.py` with `arguments` in `folder`.

    Args:
        arguments: of the command line.
        folder: current folder of the process.
        strace: arguments of `strace`, which sees everything from the command's first line on; none: it is not traced.
        log: file for what is printed.
        variables: of its environment, beside those of this process.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import matplotlib.figure  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import tensorboard.summary  # noqa: F401

    import cskd_tf  # noqa: F401

    process = os.fork()
    if process == 0:
        os.environ.update(variables)
        _become(arguments, folder, log)
    os.waitpid(process, os.WUNTRACED)  # until it has stopped itself
    tracer = subprocess.Popen(["strace", *strace, "-p", str(process)], stderr=subprocess.DEVNULL) if strace else None
    status = pathlib.Path(f"/proc/{process}/status")
    while tracer and "TracerPid:\t0\n" in status.read_text():
        if tracer.poll() is not None:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            raise ChildProcessError(f"strace may not trace a process here: exit code {tracer.returncode}")
        time.sleep(0.01)
    os.kill(process, signal.SIGCONT)
    return Started(process, tracer, log)


def _become(arguments, folder: pathlib.Path, log: pathlib.Path) -> None:
    """Makes this process the command; does not return."""
    code: int | str | None = 1
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.chdir(folder)
        sys.argv = [str(ROOT / "train_main.py"), *arguments]
        os.kill(os.getpid(), signal.SIGSTOP)
        runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as leaving:
        code = leaving.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:  # as the interpreter does
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)
