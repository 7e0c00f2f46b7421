"""Kills training runs at system calls that change their files, and compares what the same command makes of them.

    python -m benchmarks.kills [--calls=rename,unlink] [--first=1] [--every=1] [--at_most=20]
    python -m benchmarks.kills --random=100 --seed=0 [--case=cskd,pskd] [--chain=3] [--signal=SIGTERM] [--go_on]

A run of the digits is made once under `strace`, which tells the calls that touch its files. Each time, a run is killed
as it enters one of those calls, begun again by the same command, and its files are compared with those of the run that
nobody killed: all to the byte, but for the seconds of the log and the times in TensorBoard's files, whose scalars are
compared by their values; of a SavedModel, whose graph is another each time, the names; and no file or folder more or
fewer. Where the signal reached a process that the run had started, such as the one that loads an export again, the run
ends with an error: that is a line too, and no kill of the run. The first command takes every call in order, the second
takes kinds of calls and calls at random, and with `--chain` kills a run as often, once as it tidies up, before it lets
it end. Calls are counted in each thread, as `strace` does: where threads take turns otherwise than before, the kill is
at another call. The second of two workers, which writes no file, is killed at what it sends to the first. A JSON line
per kill, and one that counts them, behind those of other cases that results/ holds already; with `--go_on` also behind
those of the same cases, which count among `--random`. Needs Linux, and `strace`.
"""

import collections
import dataclasses
import itertools
import pathlib
import random
import re
import shutil
import sys
import tempfile
import zipfile

from absl import app, flags

from benchmarks import forked
from benchmarks.results import go_on, record
from configs import launch

FILES = ("rename", "unlink", "mkdir", "rmdir", "ftruncate", "openat", "write")
REMOVES = "unlinkat"  # of whole folders: what a killed process left, which no other run has
SENDS = "sendmsg"  # to another worker


@dataclasses.dataclass(frozen=True)
class Case:
    """A run to kill, by the methods of its config; of several workers `killed` is, of which only the first writes.

    With a `baseline`, as runs have it by default, that is trained first, in a folder of its own.
    """

    methods: str
    network: str = "benchmarks.small_networks:with_stages"
    workers: int = 1
    killed: int = 0
    baseline: bool = False

    @property
    def arguments(self) -> tuple[str, ...]:
        return (
            f"--config.methods=({self.methods},)",
            f"--config.network.name={self.network}",
            f"--config.baseline={self.baseline}",
        )

    @property
    def calls(self) -> tuple[str, ...]:
        """The system calls at which to kill."""
        return (SENDS,) if self.killed else FILES


CASES = {
    "cskd": Case("{'name': 'CSKD'}", network="preact_resnet18"),
    "pskd": Case("{'name': 'PSKD'}"),
    "adacos": Case("{'name': 'AdaCos'}"),
    "byot": Case("{'name': 'BYOT'}"),
    "mixup": Case("{'name': 'Mixup'}"),
    "dropout": Case("{'name': 'CSKD'}", network="benchmarks.small_networks:with_dropout"),
    "baseline": Case("{'name': 'CSKD'}", baseline=True),
    "workers": Case("{'name': 'AdaCos'}, {'name': 'PSKD'}", workers=2),
    "second_worker": Case("{'name': 'AdaCos'}, {'name': 'PSKD'}", workers=2, killed=1),
}
CASE = flags.DEFINE_list("case", ["cskd"], f"Which runs to kill, of {', '.join(CASES)}.")
CHOSEN = flags.DEFINE_list("calls", [*FILES, SENDS], "System calls at which to kill.")
FIRST = flags.DEFINE_integer("first", 1, "The first call to kill at.")
EVERY = flags.DEFINE_integer("every", 1, "Kill at every n-th of them.")
AT_MOST = flags.DEFINE_integer("at_most", 20, "How many kills per call.")
RANDOM = flags.DEFINE_integer("random", 0, "How many kills at random calls, in place of those in order.")
SEED = flags.DEFINE_integer("seed", 0, "Of the random ones.")
CHAIN = flags.DEFINE_integer("chain", 1, "How often a run is killed, at random calls, before it may end.")
GO_ON = flags.DEFINE_bool("go_on", False, "Whether random kills are added to those of an interrupted command.")
SIGNAL = flags.DEFINE_enum("signal", "SIGKILL", ["SIGKILL", "SIGTERM"], "What is sent.")

KILLED = {"SIGKILL": -9, "SIGTERM": 143}  # exit codes
CHILD = "in a process of its own"  # of what a run says when a process that it has started ends by a signal
RESULTS = {"SIGKILL": "kills", "SIGTERM": "kills_sigterm"}  # names of their files
SMALL = (
    "--config.epochs=3", "--config.network.width=2", "--config.batch_size=16",
    "--config.data.split.train_per_class=4", "--config.verbose=0",
)  # fmt: skip
OURS = r"(?:run|saved_models)"  # folders, in the scratch folder
LINE = re.compile(r"^(\d+) +(\w+)\((.*)")
# Of a SavedModel what is another each time that TensorFlow writes it, and the card's data, which have the time.
OF_TENSORFLOW = re.compile(r"saved_models/.*/(fingerprint\.pb|saved_model\.pb|variables\.[^/]*|run\.json)$")
# What touches a file of ours, by its name or by a descriptor that is open for it.
TOUCHES = re.compile(rf'"(?:[^"]*/)?{OURS}[/"]|<[^>]*/{OURS}/')


def train(folder: pathlib.Path, case: str, *strace: str) -> list[forked.Finished]:
    """Trains in `folder`, or goes on there, in processes of which the case's is killed as `strace` says.

    Returns:
        How each of them ended.
    """
    workers = CASES[case].workers
    configs = launch.task_configs(workers) if workers > 1 else [None]
    processes = [
        forked.start(
            ("--workdir=run", *SMALL, *CASES[case].arguments),
            folder=folder,
            strace=strace if index == CASES[case].killed else (),
            log=folder.with_name(f"{folder.name}.printed{index}"),
            variables={"TF_CONFIG": task} if task else {},
        )
        for index, task in enumerate(configs)
    ]
    return [process.wait() for process in processes]


def trace(calls, *options: str) -> tuple[str, ...]:
    return ("-f", "-qq", "-e", f"trace={','.join(calls)}", *options)


def whole_run(case: str) -> tuple[dict, dict[str, list[int]]]:
    """The state after a run that nobody killed, and calls of each kind, by their number, at which to kill others."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, log = pathlib.Path(scratch) / "whole", pathlib.Path(scratch) / "calls"
        folder.mkdir()
        for finished in train(folder, case, *trace(CASES[case].calls, "-y", "-o", str(log))):
            if finished.returncode:
                sys.exit(finished.printed)
        counts, moments = collections.Counter(), {call: [] for call in CASES[case].calls}
        for line in log.read_text(errors="replace").splitlines():
            if match := LINE.match(line):
                thread, call, rest = match.groups()
                counts[thread, call] += 1
                reads = call == "openat" and not re.search("O_CREAT|O_WRONLY|O_RDWR", rest)
                if call == SENDS or (TOUCHES.search(rest) and not reads):
                    moments[call].append(counts[thread, call])
        return state(folder), moments


def state(folder: pathlib.Path) -> dict:
    """What has to be the same after any kill: the files and folders, and what is in them but for times."""
    files = {"tensorboard": scalars(folder / "run" / "tensorboard")}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir():
            files[f"{name}/"] = b""
        elif path.name == "log.jsonl":
            files[name] = re.sub(rb'"seconds": [0-9.]+', b"", path.read_bytes())
        elif path.suffix == ".keras":  # what is beside the weights has the time, and numbers of Python's
            files[name] = zipfile.ZipFile(path).read("model.weights.h5")
        elif "tfevents" not in name:  # whose names have the time, and of which each process writes its own
            files[name] = b"" if OF_TENSORFLOW.search(name) else path.read_bytes()
    return files


def scalars(folder: pathlib.Path) -> list[tuple[str, int, str, bytes]]:
    """The run, epoch, name and value of everything that TensorBoard shows, in its order; a value of scalars alone."""
    from tensorboard.compat.proto import event_pb2

    found = []
    for file in sorted(folder.rglob("*tfevents*"), key=lambda path: (path.parent, path.name)):
        content = file.read_bytes()
        while content:  # records of TensorFlow: length, checksum of 4 bytes, content, checksum
            length = int.from_bytes(content[:8], "little")
            event = event_pb2.Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            for value in event.summary.value:
                is_scalar = value.metadata.plugin_data.plugin_name == "scalars"
                content_of_value = value.tensor.SerializeToString() if is_scalar else b""
                run = str(file.parent.relative_to(folder))
                found.append((run, event.step, value.tag, content_of_value))
    return found


def kill_and_go_on(case: str, moments, expected: dict) -> list[dict]:
    """A line for each kill of one run, at `(call, number)` after another, and what became of it."""
    lines, refused = [], None
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / "killed"
        folder.mkdir()
        for call, number in moments:
            inject = f"inject={call}:signal={SIGNAL.value}:when={number}"
            killed = train(folder, case, *trace([call], "-e", inject, "-o", "/dev/null"))[CASES[case].killed]
            if killed.returncode == 0:
                break  # it ended before, as a run does that has little left to do
            lines.append({"benchmark": "kills", "case": case, "signal": SIGNAL.value, "call": call, "number": number})
            lines[-1] |= {"killed_with": killed.returncode, "of_the_run": killed.returncode == KILLED[SIGNAL.value]}
            if not lines[-1]["of_the_run"] and CHILD not in killed.printed:
                refused = killed
                break
        ended = train(folder, case)
        failed = [each for each in (refused, *ended) if each is not None and each.returncode]
        found = state(folder)
        differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        verdict = {
            "same": not differing and not failed,
            "kills_of_this_run": len(lines), "exit_code": failed[0].returncode if failed else 0,
            "differing": differing[:5],
            "error": [line for each in failed for line in each.printed.strip().splitlines()[-2:]],
        }  # fmt: skip
    return [{**line, **verdict} for line in lines]


def in_order(case: str, moments: dict[str, list[int]]):
    """Runs that are killed once, at the chosen calls in their order."""
    for call in (call for call in CHOSEN.value if call in moments):
        for number in moments[call][FIRST.value - 1 :: EVERY.value][: AT_MOST.value]:
            yield case, [(call, number)]


def at_random(case: str, moments: dict[str, list[int]], first: int):
    """Runs without end, numbered from `first`; each is killed at as many calls as `--chain` says."""
    calls = [call for call in CHOSEN.value if moments.get(call)]
    for number in itertools.count(first):
        generator = random.Random(f"{SEED.value} {case} {number}")
        chosen = [(call, generator.choice(moments[call])) for call in generator.choices(calls, k=CHAIN.value)]
        if CHAIN.value > 1 and not CASES[case].killed:  # where a run goes on, and tidies up
            chosen[generator.randrange(1, CHAIN.value)] = (REMOVES, generator.randint(1, 12))
        yield case, chosen


def main(argv):
    del argv
    if shutil.which("strace") is None:
        raise app.UsageError("Expected strace on the PATH.")
    if unknown := sorted((set(CASE.value) - set(CASES)) | (set(CHOSEN.value) - {*FILES, SENDS})):
        expected = f"cases of {sorted(CASES)} and calls of {sorted((*FILES, SENDS))}"
        raise app.UsageError(f"Expected {expected}. Received: {unknown}")
    whole = {case: whole_run(case) for case in CASE.value}
    # Kills take hours: what earlier commands had of other cases stays.
    kept = go_on(RESULTS[SIGNAL.value], lambda line: "call" in line and (GO_ON.value or line["case"] not in whole))
    lines = [line for line in kept if line["case"] in whole]
    others = [line for line in kept if line["case"] not in whole]
    if RANDOM.value:
        # In turns: what has been killed at any time is of all cases alike.
        first = {case: sum(line["case"] == case for line in lines) for case in whole}  # beyond all runs there were
        of_cases = [at_random(case, moments, first[case]) for case, (_, moments) in whole.items()]
        runs = itertools.chain.from_iterable(zip(*of_cases, strict=True))
    else:
        runs = itertools.chain.from_iterable(in_order(case, moments) for case, (_, moments) in whole.items())
    for case, moments in runs:
        left = RANDOM.value - sum(line["of_the_run"] for line in lines)
        if RANDOM.value and left <= 0:
            break
        new = kill_and_go_on(case, moments[:left] if RANDOM.value else moments, whole[case][0])
        lines += new
        record(RESULTS[SIGNAL.value], new)
    lines += others
    killed = [line for line in lines if line["of_the_run"]]
    differing = sum(not line["same"] for line in lines)
    record(
        RESULTS[SIGNAL.value],
        {
            "benchmark": "kills",
            "killed": len(killed),
            "same": sum(line["same"] for line in killed),
            "differing": differing,
            "of_processes_it_started": len(lines) - len(killed),
        },
    )
    if differing:
        sys.exit(1)


if __name__ == "__main__":
    app.run(main)
