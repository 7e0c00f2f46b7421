"""launchers/slurm.sh: what it does, with stand-ins for Slurm's commands, and on a Slurm of two nodes."""

import json
import os
import re
import subprocess
import sys

import pytest

from tests.helpers import ALONE, ROOT, SMALL
from tests.launchers import slurm_cluster
from tests.processes import wait_for
from tests.same_runs import check_same, epochs_done

SCRIPT = ROOT / "launchers" / "slurm.sh"
HOSTS = ["node3", "node7", "node8"]

# As Slurm's own: https://slurm.schedmd.com/scontrol.html and srun.html
SCONTROL = """
if [ "$1 $2" = "show hostnames" ] && [ "$3" = "node[3,7-8]" ]; then printf '%s\\n' node3 node7 node8
else echo "$@" >> scontrol.log; fi
"""
SRUN = """
while [ "${1:0:2}" = -- ]; do echo "$1" >> srun.log; shift; done
code=0
for node in 0 1 2; do SLURM_NODEID=$node "$@" || code=$?; done
exit $code
"""
WORKER = """
printf '%s' "$TF_CONFIG" > config-$SLURM_NODEID.json
printf '%s\\n' "$@" > arguments-$SLURM_NODEID.txt
exit ${CODE:-0}
"""


@pytest.fixture
def slurm(tmp_path):
    """Runs the script as a job of three nodes; returns its exit code."""
    for name, text in {"scontrol": SCONTROL, "srun": SRUN, "cskd-tf": WORKER}.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}")
        (tmp_path / name).chmod(0o755)

    def run(*arguments, **environment):
        job = {"SLURM_JOB_NODELIST": "node[3,7-8]", "SLURM_JOB_ID": "4711", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        command = ["bash", str(SCRIPT), *arguments]
        return subprocess.run(command, cwd=tmp_path, env={**os.environ, **job, **environment}, check=False).returncode

    return run


def test_each_node_knows_its_place(slurm, tmp_path):
    assert slurm("--workdir=/shared/my run", "--config.epochs=2") == 0
    for index in range(3):
        assert json.loads((tmp_path / f"config-{index}.json").read_text()) == {
            "cluster": {"worker": [f"{host}:24711" for host in HOSTS]},
            "task": {"type": "worker", "index": index},
        }
        arguments = (tmp_path / f"arguments-{index}.txt").read_text().splitlines()
        assert arguments == ["--workdir=/shared/my run", "--config.epochs=2"]
    assert not (tmp_path / "scontrol.log").exists()


def test_a_job_that_has_saved_is_queued_again(slurm, tmp_path):
    assert slurm(CODE="1") == 1
    assert not (tmp_path / "scontrol.log").exists()
    assert slurm(CODE="143") == 143
    assert (tmp_path / "scontrol.log").read_text() == "requeue 4711\n"


def test_options_stand_before_the_first_command():
    lines = SCRIPT.read_text().splitlines()
    options = [number for number, line in enumerate(lines) if line.startswith("#SBATCH ")]
    commands = [number for number, line in enumerate(lines) if line and not line.startswith("#")]
    assert options
    assert max(options) < min(commands)
    assert "--ntasks-per-node=1" in "".join(lines[: min(commands)])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if reason := slurm_cluster.missing():
        pytest.skip(reason)
    cluster = slurm_cluster.Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


class Job:
    """A run that is a job of two nodes: `train_main.py`, where the script says `cskd-tf`."""

    def __init__(self, cluster, folder, *arguments):
        folder.mkdir()
        (folder / "cskd-tf").write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT / "train_main.py"} "$@"\n')
        (folder / "cskd-tf").chmod(0o755)
        options = ["--parsable", "--nodes=2", f"--chdir={folder}", "--output=output.txt"]
        path = f"{folder}:{os.environ['PATH']}"
        self.cluster, self.folder = cluster, folder
        self.number = cluster.run("node1", "sbatch", *options, SCRIPT, "--workdir=run", *arguments, PATH=path)

    def says(self, field):
        """What Slurm knows of it: JobState, Restarts, ..."""
        shown = self.cluster.run("node1", "scontrol", "show", "--oneliner", "job", self.number)
        return dict(word.partition("=")[::2] for word in shown.split())[field]

    def update(self, setting):
        self.cluster.run("node1", "scontrol", "update", f"JobId={self.number}", setting)

    def output(self):
        return (self.folder / "output.txt").read_text()

    def has_ended(self):
        return self.says("JobState") in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")


LONG = (f"--config={ROOT / 'configs' / 'digits.py'}", *SMALL, *ALONE, "--config.epochs=40")


@pytest.mark.clusters
def test_a_job_saves_whenever_slurm_ends_it_and_goes_on(cluster, tmp_path):
    whole = Job(cluster, tmp_path / "whole", *LONG)
    wait_for(whole.has_ended, 900)
    assert (whole.says("JobState"), whole.says("Restarts")) == ("COMPLETED", "0"), whole.output()

    def by_hand(job):
        cluster.run("node1", "scancel", "--signal=TERM", job.number)

    def for_another(job):
        cluster.run("node1", "srun", "--partition=first", "--nodes=2", "hostname")

    def in_time(job):
        job.update("TimeLimit=2")  # within the two minutes that the script has asked for

    job = Job(cluster, tmp_path / "interrupted", *LONG)
    for restarts, interrupt in enumerate((by_hand, for_another, in_time)):
        begun = epochs_done(job.folder)
        wait_for(lambda begun=begun: epochs_done(job.folder) >= begun + 3, 600)
        interrupt(job)
        wait_for(lambda restarts=restarts: job.says("Restarts") == str(restarts + 1))
        job.update("TimeLimit=UNLIMITED")
        for worker in range(2):
            assert job.output().count(f"{worker}: WARNING: run: terminated ") == restarts + 1, job.output()
        assert job.output().count("Exited with exit code 143") == 2 * (restarts + 1)
    wait_for(job.has_ended, 900)
    assert (job.says("JobState"), job.says("Restarts")) == ("COMPLETED", "3"), job.output()
    assert job.output().count("1: INFO: worker 1 of 2 workers: waiting for the others") == 4
    check_same(job.folder, whole.folder, exactly=True, starts=4)


@pytest.mark.clusters
def test_a_job_that_fails_is_not_queued_again(cluster, tmp_path):
    job = Job(cluster, tmp_path / "failed", *LONG, "--config.batch_size=0")
    wait_for(lambda: job.has_ended() or job.says("Restarts") != "0")
    assert (job.says("JobState"), job.says("Restarts"), job.says("ExitCode")) == ("FAILED", "0", "1:0")
    for worker in range(2):
        assert re.search(rf"^{worker}: .*Received: .*batch_size=0", job.output(), re.MULTILINE)
