"""Several real processes train as one does, through `fit`: the last batch smaller, and evaluation exact."""

import numpy as np
import pytest

from tests.processes import finish, start
from tests.training.worker import ALL


def results(folder, cases, *, workers):
    """What each of the workers wrote."""
    arguments = ("-m", "tests.training.worker", f"{folder}/{workers}-{{index}}.npz", *cases)
    finish(folder, start(folder, arguments, workers=workers))
    return [dict(np.load(folder / f"{workers}-{index}.npz")) for index in range(workers)]


def tolerance(name):
    """Of a value, relative to the largest of its kind, or absolute where that is below 1."""
    if "table" in name:
        return 5e-4  # of half precision, whose last digit may round the other way
    # BYOT's exits divide by the deviations of few images, which makes rounding larger: XLA does it to one process too.
    return 5e-6 if name.startswith("BYOT") else 1e-6


def check_equal(found, expected):
    assert found.keys() == expected.keys()
    sizes = {name: max(1.0, float(np.abs(values).max())) for name, values in expected.items()}
    far = {name: float(np.abs(found[name] - values).max()) / sizes[name] for name, values in expected.items()}
    assert not {name: distance for name, distance in far.items() if not distance <= tolerance(name)}


@pytest.mark.slow
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
