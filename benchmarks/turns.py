"""Steps of several programs in turns, so that noise meets all alike: in one process, or each in one of its own."""

import dataclasses
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence


def median_ratio(ones: Sequence[float], others: Sequence[float]) -> float:
    """The median over the rounds of the one's seconds over the other's."""
    return statistics.median(one / other for one, other in zip(ones, others, strict=True))


def timed_here(programs: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, list[float]]:
    """Seconds of each program in each round, all in this process, after one call that traces."""
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(rounds + 1):
        for name, program in programs.items():
            start = time.perf_counter()
            program()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


@dataclasses.dataclass
class Timed:
    """Attributes:
    seconds: of each step.
    peak_memory: of the process, in MiB.
    """

    seconds: list[float]
    peak_memory: int

    def times_as_slow_as(self, other: "Timed") -> float:
        """The median over the rounds of one step's time over the other's."""
        return median_ratio(self.seconds, other.seconds)


def take_turns(programs: Mapping[str, tuple[Callable, tuple]], *, rounds: int) -> dict[str, Timed]:
    """Runs `make_step(*arguments)()` of each program `rounds` times, round by round, after one step that traces.

    Each program is in a process of its own, so that peak memory is each one's.
    """
    spawn = multiprocessing.get_context("spawn")
    workers, seconds, results = {}, {name: [] for name in programs}, {}
    for name, (make_step, arguments) in programs.items():
        pipe, theirs = spawn.Pipe()
        process = spawn.Process(target=_work, args=(theirs, make_step, arguments), daemon=True)
        process.start()
        workers[name] = pipe, process
        _receive(pipe, process)
    for _ in range(rounds):
        for name, (pipe, process) in workers.items():
            pipe.send("step")
            seconds[name].append(_receive(pipe, process))
    for name, (pipe, process) in workers.items():
        pipe.send("stop")
        results[name] = Timed(seconds[name], _receive(pipe, process))
        process.join()
    return results


def _work(pipe, make_step, arguments) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    step = make_step(*arguments)
    step()
    pipe.send("ready")
    while pipe.recv() == "step":
        start = time.perf_counter()
        step()
        pipe.send(time.perf_counter() - start)
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def _receive(pipe, process):
    """What a worker sends; a RuntimeError if it dies (of too little memory, say)."""
    while not pipe.poll(1):
        if not process.is_alive():
            raise RuntimeError(
                f"A worker ended with exit code {process.exitcode}; -9 is too little memory: fewer images"
            )
    return pipe.recv()
