"""`--mode=sweep`: many runs, each in a process of its own.

    python train_main.py --config=configs/digits.py --mode=sweep --grid=seed=0,1,2 --grid=methods.0.weight=1,2,3,4

docs/runs.md says what it does and how it goes on.
"""

import contextlib
import dataclasses
import os
import pathlib
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import rich.console
import rich.progress

from configs.asked import Asked, asked_for
from configs.processes import Processes, how_ended, last_lines
from cskd_tf.errors import UserError
from cskd_tf.runs import choice, printing, sweep
from cskd_tf.runs import grid as grids
from cskd_tf.runs.lock import is_locked

PASSED_ON = dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.SIGTERM)  # at which a run saves
LOGS = "logs"  # below the sweep's folder: of each run its log, and the config by which it is started
SAVED = pathlib.Path(__file__).with_name("saved.py")
MAIN = pathlib.Path(__file__).parents[1] / "train_main.py"
ELSEWHERE = "another process trains it"
GRACE = 600.0  # seconds for a run that is told to stop while it starts
HELD_OUT = "data.split.validation_fraction"


def run(config: Any, *, workdir: str, mode: str, grid: Sequence[str], choose: str | None, jobs: int) -> int:
    """What `train_main.py --mode=sweep` does.

    Args:
        config: the flag, whose config may have a key `sweep`: names of experiments, a grid, a metric to choose by.
        workdir: the folder of the sweep.
        mode: of the command line, which has to be `sweep`.
        grid: as `--grid` has them.
        choose: metric of the validation split by which the best point is trained on everything; None: the config's.
        jobs: how many runs at a time.

    Returns:
        The exit code: 0 where all runs have finished.

    Raises:
        ValueError: what cannot be trained, before anything starts.
    """
    if mode != "sweep":
        raise ValueError(f"Expected --mode=sweep beside --grid and --choose. Received: --mode={mode}")
    if "TF_CONFIG" in os.environ:
        raise ValueError(f"Expected one process for --mode=sweep. Received: TF_CONFIG={os.environ['TF_CONFIG']}")
    sweep.leave_gpus_alone()
    asked = asked_for(config, workdir=workdir, grid=grid, choose=choose)
    plan = asked.plan()
    runs = {name: plan.add(name, asked.axes) for name in asked.names}
    if asked.metric:
        sweep.check_choice([each for found in runs.values() for each in found], metric=asked.metric)
    sweep.check(list(plan.runs.values()), asked.folder)
    console = printing.Console(markup=False, highlight=False, soft_wrap=True)
    if not asked.exports:
        console.print("SavedModels are not exported; --config.export.enabled=True does, and --mode=export afterwards.")
    runner = _Runner(asked.folder, console=console, jobs=jobs, metric=asked.metric or "top1_error")
    runner.train(list(plan.runs.values()))
    if asked.metric and not runner.stopped_by:
        _train_chosen(asked, runs, metric=asked.metric, runner=runner, console=console)
    return runner.report()


def _train_chosen(
    asked: Asked,
    runs: Mapping[str, Sequence[grids.Run]],
    *,
    metric: str,
    runner: "_Runner",
    console: rich.console.Console,
) -> None:
    """Trains the best point of each experiment on everything, its validation images too."""
    final = asked.plan(prefix=sweep.CHOSEN, **{HELD_OUT: 0.0})
    earlier: list[pathlib.Path] = []
    for name, tried in runs.items():
        best = runner.choose(name, tried, metric=metric)
        if best is not None:
            console.print(f"Chosen by the mean val {metric}, {best.mean:.4f}: {best.point or 'the only one'}")
            chosen = final.add(name, [axis for axis in map(best.on, asked.axes) if HELD_OUT not in axis.keys])
            earlier += sweep.note_chosen(name, asked.folder, point=chosen[0].point)
    planned = {run.point for run in final.runs.values()}  # teachers too
    if folders := ", ".join(str(each) for each in earlier if each.name not in planned):
        console.print(f"Of an earlier choice, which --table leaves out, and yours to remove: {folders}")
    sweep.check(list(final.runs.values()), asked.folder)
    whole = [each for each in final.runs.values() if not sweep.brings_validation(each)]
    if len(whole) < len(final.runs):
        console.print("Its data have validation images of their own: its runs had all training images, and stay.")
    runner.train(whole)


class _Runner:
    """Trains runs and keeps account of them.

    Args:
        folder: of the sweep.
        console: where a line per run is printed.
        jobs: how many runs at a time.
        metric: of the validation split, of which the best so far is shown.
    """

    def __init__(self, folder: pathlib.Path, *, console: rich.console.Console, jobs: int, metric: str):
        self.stopped_by: signal.Signals | None = None
        self._folder, self._console, self._jobs, self._metric = folder, console, jobs, metric
        self._failed: dict[str, str] = {}  # why runs have not finished
        self._unchosen: list[str] = []
        self._finished: dict[str, Mapping[str, Any]] = {}  # their metrics
        self._seconds: list[float] = []  # of each run that has finished here
        self._planned: list[grids.Run] = []
        self._compared: list[grids.Run] = []  # of the plan that is under way

    def train(self, runs: Sequence[grids.Run]) -> None:
        """Trains what has not finished, teachers first; what fails is noted."""
        there = sweep.finished(runs, self._folder)
        self._finished |= there
        self._planned += runs
        self._compared = list(runs)
        waiting = [each for each in runs if each.name not in there]
        self._console.print(
            f"Runs in {self._folder}: {len(runs)}, finished before: {len(there)}; logs in {self._folder / LOGS}"
        )
        with self._bar(len(runs), done=len(there)) as show, Processes(passed_on=PASSED_ON) as processes:
            started: list[_Started] = []
            show(self._start_more(waiting, processes, started), 0)
            for index, code in processes.ends():
                self._note(started[index], code, processes=processes)
                show(self._start_more(waiting, processes, started), 1)
            self.stopped_by = processes.stopped_by
        for each in waiting if not self.stopped_by else ():
            missing = ", ".join(name for name in each.teachers if name not in self._finished)
            self._failed[each.name] = f"not started, as its teacher has not finished: {missing}"

    def choose(self, experiment: str, runs: Sequence[grids.Run], *, metric: str) -> choice.Candidate | None:
        """The best point of an experiment; None where not all seeds of one have finished, or they lack the metric."""
        try:
            return sweep.choose(experiment, runs, self._folder, metric=metric)
        except UserError as error:  # which ends no other experiment's choice
            self._unchosen.append(f"failed: no choice of {experiment or 'a point'}: {error}")
            return None

    def report(self) -> int:
        """Says what has failed; returns the exit code."""
        for line in self._unchosen:
            self._console.print(line)
        for name, why in self._failed.items():
            self._console.print(_unfinished(name, why.partition("; error: ")[0]))
        if self.stopped_by:
            self._console.print(
                f"Stopped by {self.stopped_by.name} after {len(self._finished)} of {len(self._planned)} runs; "
                "the same command goes on."
            )
            return 128 + self.stopped_by
        if self._failed:
            self._console.print(
                f"{len(self._failed)} of {len(self._planned)} runs have not finished; the same command tries again."
            )
            return 1
        self._console.print(
            f"All {len(self._planned)} runs have finished: --mode=report --workdir={shlex.quote(str(self._folder))}"
        )
        return 1 if self._unchosen else 0

    def _start_more(self, waiting: list[grids.Run], processes: Processes, started: list["_Started"]) -> str:
        """Starts runs whose teachers have finished, in their order, until `jobs` are under way; says which are."""
        for each in list(waiting):
            ended = self._finished.keys() | self._failed.keys()
            if sum(one.run.name not in ended for one in started) >= self._jobs or processes.stopped_by:
                break
            if set(each.teachers) <= self._finished.keys():
                waiting.remove(each)
                if is_locked(self._folder / each.name):  # by another sweep, or by hand
                    self._failed[each.name] = ELSEWHERE
                    self._console.print(_unfinished(each.name, ELSEWHERE))
                else:
                    self._start(each, processes, started)
        if processes.stopped_by:  # before the last one was started, which may have missed the signal
            processes.stop(within=GRACE)
        ended = self._finished.keys() | self._failed.keys()
        under_way = [one.run.name for one in started if one.run.name not in ended]
        return ", ".join(filter(None, [*under_way, self._left()]))

    def _start(self, each: grids.Run, processes: Processes, started: list["_Started"]) -> None:
        config, log = (self._folder / LOGS / f"{each.name}{suffix}" for suffix in (".json", ".log"))
        sweep.write_config(config, each)
        started.append(_Started(each, log, time.monotonic(), log.stat().st_size if log.exists() else 0))
        arguments = [f"--config={SAVED}:{config}", f"--workdir={self._folder / each.name}"]
        processes.start(
            [sys.executable, str(MAIN), *arguments],
            environment={**os.environ, "PYTHONUNBUFFERED": "1"},  # a log is read while it is written
            log=log,
            shown=False,
        )

    def _note(self, one: "_Started", code: int, *, processes: Processes) -> None:
        """Notes and prints how a run ended."""
        name, seconds = one.run.name, time.monotonic() - one.begun
        metrics = sweep.finished([one.run], self._folder).get(name)
        if metrics and not code:
            self._finished[name] = metrics
            self._seconds.append(seconds)
            self._console.print(self._line(name, seconds=seconds))
        elif not processes.stopped_by:
            lines = last_lines(one.log, start=one.log_start).splitlines()
            said = next((line for line in reversed(lines) if line.startswith("error:")), lines[-1] if lines else "")
            self._failed[name] = f"{how_ended(code)}; its log: {one.log}; {said}"
            self._console.print(_unfinished(name, self._failed[name]))

    def _line(self, name: str, *, seconds: float) -> str:
        """What is printed of a finished run."""
        metrics = self._finished[name]
        split = "val" if "val" in metrics else "test"
        parts = [f"[{len(self._finished) + len(self._failed)}/{len(self._planned)}] {name}"]
        if (value := metrics[split].get(self._metric)) is not None:
            parts[0] += f": {split} {self._metric} {value:.4f}"
        if split == "val" and (best := self._best(name)):  # by the test split nothing is the best
            parts.append(f"best so far {best.point} with {best.mean:.4f}")
        return ", ".join(filter(None, [*parts, _duration(seconds), self._left()]))

    def _best(self, name: str) -> choice.Candidate | None:
        """The best point of a run's experiment, by the mean of its seeds; None where there is but one to choose."""
        experiment = next(run.experiment for run in self._compared if run.name == name)
        runs = [run for run in self._compared if run.experiment == experiment]
        if len({run.point for run in runs}) == 1:
            return None
        there = {key: each for key, each in self._finished.items() if choice.is_defined(each, self._metric)}
        return choice.best(choice.candidates(runs, there, metric=self._metric), metric=self._metric)

    def _left(self) -> str:
        """How long the runs that are left will take, as those that have finished here did on average."""
        left = len(self._planned) - len(self._finished) - len(self._failed)
        if not self._seconds or not left:
            return ""
        return f"about {_duration(sum(self._seconds) / len(self._seconds) * left / self._jobs)} left"

    @contextlib.contextmanager
    def _bar(self, total: int, *, done: int) -> Iterator[Callable[[str, int], None]]:
        """A bar where somebody watches; gives what writes beside it, and moves it on by a number of runs."""
        if not self._console.is_terminal:
            yield lambda words, runs: None
            return
        columns = (
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("{task.description}", markup=False),
        )
        with rich.progress.Progress(*columns, console=self._console) as progress:
            task = progress.add_task("", total=total, completed=done)
            yield lambda words, runs: progress.update(task, description=words, advance=runs, refresh=True)


@dataclasses.dataclass(frozen=True)
class _Started:
    """A run whose process was started: when, in seconds of the monotonic clock, and how long its log was then."""

    run: grids.Run
    log: pathlib.Path
    begun: float
    log_start: int


def _unfinished(name: str, why: str) -> str:
    return f"{'left out' if why == ELSEWHERE else 'failed'}: {name}: {why}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min" if minutes else "< 1 min"
