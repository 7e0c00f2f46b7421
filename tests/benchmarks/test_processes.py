import os
import shutil
import time

import pytest

from benchmarks import processes


@pytest.mark.skipif(shutil.which("taskset") is None, reason="taskset is not installed")
def test_processes_run_at_once_and_on_their_cores():
    core = min(os.sched_getaffinity(0))
    program = "import os; print(os.environ['NAME'], sorted(os.sched_getaffinity(0)))"
    started = [processes.start("-c", program, cores={core}, variables={"NAME": name}) for name in "ab"]
    assert processes.outputs(started, at_most=60) == [f"a [{core}]\n", f"b [{core}]\n"]


def test_modules_of_the_checkout_are_found_from_anywhere(tmp_path):
    (printed,) = processes.outputs([processes.start("-c", "import benchmarks", cwd=str(tmp_path))], at_most=60)
    assert printed == ""


def test_where_one_fails_or_lasts_nobody_is_left():
    waiting = ["-c", "import time; time.sleep(600)"]
    start = time.monotonic()
    started = [processes.start(*waiting), processes.start("-c", "raise SystemExit('broken')")]
    with pytest.raises(ChildProcessError, match="exit code 1:\nbroken"):
        processes.outputs(started, at_most=60)
    lasting = [processes.start(*waiting)]
    with pytest.raises(ChildProcessError, match="1 of 1 processes did not end in 0.2 seconds"):
        processes.outputs(lasting, at_most=0.2)
    assert all(process.returncode is not None for process in started + lasting)
    assert time.monotonic() - start < 60
