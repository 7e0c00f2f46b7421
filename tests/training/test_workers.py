"""Several real processes train as one does, through `fit`: the last batch smaller, and evaluation exact."""

import concurrent.futures
import sys
import threading
import unittest.mock

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.errors import UserError
from cskd_tf.runs.sharing import check_alike
from cskd_tf.training.workers import Workers
from tests.processes import finish, start
from tests.training import worker
from tests.training.worker import ALL, COMPILED


def results(folder, cases, *, workers):
    """What each of the workers wrote."""
    arguments = ("-m", "tests.training.worker", f"{folder}/{workers}-{{index}}.npz", *cases)
    finish(folder, start(folder, arguments, workers=workers))
    found = []
    for index in range(workers):
        with np.load(folder / f"{workers}-{index}.npz") as arrays:
            found.append(dict(arrays))
    return found


def tolerance(name):
    """Of a value, relative to the largest of its kind, or absolute where that is below 1."""
    if "table" in name:
        return 5e-4  # of half precision, whose last digit may round the other way
    if name.startswith("float16"):
        return 1e-3  # a unit in the last place at 1
    # BYOT's exits divide by the deviations of few images, which makes rounding larger: XLA does it to one process too.
    return 5e-6 if name.startswith("BYOT") else 1e-6


def check_equal(found, expected):
    assert found.keys() == expected.keys()
    sizes = {name: max(1.0, float(np.abs(values).max())) for name, values in expected.items()}
    far = {name: float(np.abs(found[name] - values).max()) / sizes[name] for name, values in expected.items()}
    assert not {name: distance for name, distance in far.items() if not distance <= tolerance(name)}


@pytest.mark.slow
def test_two_workers_train_as_one_process_does(tmp_path):
    cases = ("CSKD in the batch", "AdaCos", "PSKD stored", "synchronised batch norm", f"{COMPILED}PSKD stored")
    (alone,) = results(tmp_path, cases, workers=1)
    for of_worker in results(tmp_path, cases, workers=2):
        check_equal(of_worker, alone)
        prefix = "float16: "
        check_skipped({name.removeprefix(prefix): of_worker[name] for name in of_worker if name.startswith(prefix)})


def check_skipped(trained):
    """Of `worker.train_in_float16`: of five steps in each epoch the second leaves the weights, and halves the scale."""
    moved = (np.diff(trained["weights"], axis=0) != 0).any(axis=1)
    assert moved.tolist() == [True, False, True, True, True] * 2
    assert np.isfinite(trained["weights"]).all()
    assert np.isfinite(trained["loss"]).all()
    assert np.ptp(trained["scales"], axis=1).tolist() == [0.0] * 10  # on all replicas
    assert np.log2(trained["scales"][:, 0]).tolist() == [12.0, 11.0, 11.0, 11.0, 11.0, 11.0, 10.0, 10.0, 10.0, 10.0]
    assert trained["counts"].tolist() == [10, 8, 2]  # to data and schedule, taken, skipped


@pytest.mark.thorough
def test_replicas_train_in_float16_as_one_does_and_skip_the_same_steps(replicas):
    alone, two = (worker.train_in_float16(replicas(count)) for count in (1, 2))
    for trained in (alone, two):
        check_skipped(trained)
    check_equal(*({f"float16: {name}": trained[name] for name in trained} for trained in (two, alone)))
    assert np.abs(np.diff(alone["weights"], axis=0)).max() > 0.05  # much more than that


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return results(tmp_path_factory.mktemp("alone"), ALL, workers=1)[0]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3, 4])
def test_workers_train_with_every_method_as_one_process_does(tmp_path, alone, workers):
    for of_worker in results(tmp_path, ALL, workers=workers):
        check_equal(of_worker, alone)


@pytest.mark.parametrize("error", [MemoryError(), ValueError("Expected a folder")])
def test_what_the_chief_raises_reaches_the_others_also_without_words(error, monkeypatch):
    board = []
    monkeypatch.setattr(Workers, "gather", lambda self, rows: board.append(rows) or np.concatenate(board))

    def action():
        raise error

    chief, other = (Workers(tf.distribute.get_strategy()) for _ in range(2))
    other.index = 1
    with pytest.raises(type(error)):
        chief.on_chief(action)
    with pytest.raises(UserError, match=str(error) or "MemoryError"):
        other.on_chief(action)


def test_all_leave_as_the_chief_does_that_is_told_to(monkeypatch):
    board = []
    monkeypatch.setattr(Workers, "gather", lambda self, rows: board.append(rows) or np.concatenate(board))
    chief, other = (Workers(tf.distribute.get_strategy()) for _ in range(2))
    other.index = 1
    for each in (chief, other):
        with pytest.raises(SystemExit) as raised:
            each.on_chief(lambda: sys.exit(143))
        assert raised.value.code == 143


@pytest.fixture
def in_threads(monkeypatch):
    """Calls a function with each of some workers, all at once, which gather as processes do."""

    def call(function, count):
        together, board = threading.Barrier(count), [None] * count

        def gather(self, rows):
            board[self.index] = rows
            together.wait(timeout=60)
            gathered = np.concatenate(board)
            together.wait(timeout=60)
            return gathered

        monkeypatch.setattr(Workers, "gather", gather)
        workers = [Workers(tf.distribute.get_strategy()) for _ in range(count)]
        for index, each in enumerate(workers):
            each.count, each.index = count, index
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            return list(pool.map(function, workers))

    return call


def test_texts_of_all_workers_are_gathered_whatever_their_length(in_threads):
    texts = ["one", "", "zwölf"]
    assert in_threads(lambda workers: workers.texts(texts[workers.index]), 3) == [texts] * 3


def test_workers_that_were_told_other_things_are_refused_and_say_what(in_threads):
    told = [{"seed": 0, "epochs": 3}, {"seed": 0, "epochs": 3}, {"seed": 7, "batch_size": 8}]

    def check(workers):
        try:
            check_alike(told[workers.index], workers, what="config")
        except UserError as error:
            return str(error)

    (said,) = set(in_threads(check, 3))
    assert said == (
        "Expected the same config of all workers. Received of workers 0 and 2: "
        "batch_size: None and 8, epochs: 3 and None, seed: 0 and 7"
    )
    assert in_threads(check, 2) == [None, None]
    assert check_alike({"seed": 0}, Workers(tf.distribute.get_strategy()), what="config") is None


CLUSTER = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}


def test_the_chief_of_a_cluster_that_names_one_is_alone_in_writing():
    found = []
    for job, number in (("chief", 0), ("worker", 0), ("worker", 1)):
        strategy = unittest.mock.Mock(spec=tf.distribute.MultiWorkerMirroredStrategy)
        strategy.cluster_resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec(CLUSTER), task_type=job, task_id=number
        )
        workers = Workers(strategy)
        found.append((workers.count, workers.index, workers.is_chief))
    assert found == [(3, 0, True), (3, 1, False), (3, 2, False)]


def test_a_condition_of_any_worker_is_one_of_all(monkeypatch):
    workers = Workers(tf.distribute.get_strategy())
    workers.count = 2
    for other in (0, 1):
        monkeypatch.setattr(Workers, "_gather", lambda self, rows, other=other: np.append(rows, np.int32(other)))
        assert [workers.any(own) for own in (False, True)] == [bool(other), True]
