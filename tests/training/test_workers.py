"""Several real processes train as one does, through `fit`: the last batch smaller, and evaluation exact."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers import ROOT
from tests.training.worker import ALL


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start(folder, arguments, *, workers, **environment):
    """The processes of one command, their output in `folder`."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    processes = []
    for index in range(workers):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        told = {"TF_CONFIG": json.dumps(task)} if workers > 1 else {}
        command = [sys.executable, "-m", *(argument.format(index=index) for argument in arguments)]
        with open(folder / f"output-{workers}-{index}.txt", "w") as output:
            processes.append(
                subprocess.Popen(
                    command, cwd=ROOT, env={**os.environ, **told, **environment}, stdout=output, stderr=output
                )
            )
    return processes


def results(folder, cases, *, workers):
    """What each of the workers wrote."""
    arguments = ("tests.training.worker", f"{folder}/{workers}-{{index}}.npz", *cases)
    processes = start(folder, arguments, workers=workers)
    codes = [process.wait() for process in processes]
    assert not any(codes), (folder / f"output-{workers}-{np.argmax(np.abs(codes))}.txt").read_text()[-3000:]
    return [dict(np.load(folder / f"{workers}-{index}.npz")) for index in range(workers)]


def tolerance(name):
    # PS-KD's table has half precision, of which the last digit may round the other way.
    return 5e-4 if "table" in name else 1e-6


def check_equal(found, expected):
    assert found.keys() == expected.keys()
    far = {
        name: float(np.abs(found[name] - values).max())
        for name, values in expected.items()
        if not np.allclose(found[name], values, rtol=tolerance(name), atol=tolerance(name))
    }
    assert not far


def test_two_workers_train_as_one_process_does(tmp_path):
    cases = ("CSKD in the batch", "AdaCos", "PSKD stored", "synchronised batch norm")
    (alone,) = results(tmp_path, cases, workers=1)
    for of_worker in results(tmp_path, cases, workers=2):
        check_equal(of_worker, alone)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return results(tmp_path_factory.mktemp("alone"), ALL, workers=1)[0]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3, 4])
def test_workers_train_with_every_method_as_one_process_does(tmp_path, alone, workers):
    for of_worker in results(tmp_path, ALL, workers=workers):
        check_equal(of_worker, alone)
