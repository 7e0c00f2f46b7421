import time

import pytest

from benchmarks.turns import Timed, take_turns


def sleeping(seconds):
    return lambda: time.sleep(seconds)


def dying():
    raise SystemExit(3)


def test_programs_take_turns_in_processes_of_their_own():
    timed = take_turns({"slow": (sleeping, (0.03,)), "quick": (sleeping, (0.01,))}, rounds=2)
    assert [len(each.seconds) for each in timed.values()] == [2, 2]
    assert min(timed["slow"].seconds) >= 0.03
    assert min(timed["quick"].seconds) >= 0.01
    assert all(each.peak_memory > 1 for each in timed.values())


def test_a_ratio_is_the_median_over_the_rounds():
    assert Timed([3.0, 2.0, 8.0], 1).times_as_slow_as(Timed([1.0, 2.0, 2.0], 1)) == 3.0


def test_a_program_that_dies_is_no_wait():
    with pytest.raises(RuntimeError, match="A worker ended with exit code 3; -9 is too little memory"):
        take_turns({"dying": (dying, ())}, rounds=1)
