"""Workers that wait for each other: threads of this process, on its own addresses."""

import concurrent.futures
import socket
import threading
import time

import pytest

from cskd_tf.errors import UserError
from cskd_tf.runs import rendezvous
from cskd_tf.runs.rendezvous import meet


@pytest.fixture
def cluster():
    """Makes what TF_CONFIG says of a chief and workers, on free ports, for one of them."""
    addresses = []
    for _ in range(3):
        with socket.create_server(("127.0.0.1", 0)) as server:
            addresses.append(f"127.0.0.1:{server.getsockname()[1]}")
    jobs = {"chief": addresses[:1], "worker": addresses[1:]}
    return lambda job, index: {"cluster": jobs, "task": {"type": job, "index": index}}


TASKS = [("chief", 0), ("worker", 0), ("worker", 1)]


@pytest.mark.parametrize("order", [TASKS, TASKS[::-1]])
def test_all_go_on_when_the_last_has_come(order, cluster):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = [pool.submit(meet, cluster(*task), wait=60) for task in order[:2]]
        assert not concurrent.futures.wait(first, timeout=1).done
        last = pool.submit(meet, cluster(*order[2]), wait=60)
        for each in (*first, last):
            assert each.result(timeout=30) is None
    host, port = cluster("chief", 0)["cluster"]["chief"][0].split(":")
    socket.create_server((host, int(port))).close()  # which TensorFlow's server takes now


@pytest.mark.thorough
def test_who_has_not_come_is_named(cluster):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        chief, worker = (pool.submit(meet, cluster(*TASKS[number]), wait=number + 1) for number in range(2))
        with pytest.raises(UserError, match=r"all 3 workers .* within 1 seconds\. Received: no word of worker 1 \(127"):
            chief.result(timeout=30)
        with pytest.raises(UserError, match=r"Received: no word of chief 0 \(127"):
            worker.result(timeout=30)


@pytest.mark.parametrize(
    "change", [lambda jobs: {**jobs, "worker": jobs["worker"][::-1]}, lambda jobs: {**jobs, "evaluator": ["other:1"]}]
)
def test_one_that_was_told_of_other_workers_ends_all(change, cluster):
    """As of a stale TF_CONFIG; of others than workers nobody need know."""
    told = cluster("worker", 0)
    other = {**told, "cluster": change(told["cluster"])}
    if same := "evaluator" in other["cluster"]:
        tasks = [cluster("chief", 0), other, cluster("worker", 1)]
    else:
        tasks = [cluster("chief", 0), {**other, "task": {"type": "worker", "index": 1}}]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        ends = [pool.submit(meet, task, wait=20) for task in tasks]
        if same:
            assert [end.result(timeout=30) for end in ends] == [None] * 3
            return
        for end, said in zip(ends, ("worker 1 was told of others", "not all were told of those"), strict=True):
            with pytest.raises(UserError, match=f"same addresses in the same order .* Received: {said}"):
                end.result(timeout=30)


def test_one_that_goes_while_it_waits_has_to_come_again(cluster):
    hello = rendezvous._hello(("worker", 1), rendezvous._addresses(cluster("worker", 1)))
    (address,) = cluster("chief", 0)["cluster"]["chief"]
    host, port = address.split(":")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        chief = pool.submit(meet, cluster("chief", 0), wait=60)
        gone = threading.Event()
        while not gone.is_set():
            try:
                with socket.create_connection((host, int(port))) as connection:
                    connection.sendall(hello)
                    gone.set()
            except ConnectionError:
                pass
        with socket.create_connection((host, int(port))) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n")
        # Not before: who goes the moment after the last has come is let go with the others.
        one = pool.submit(meet, cluster("worker", 0), wait=60)
        assert not concurrent.futures.wait([chief, one], timeout=1.5).done
        again = pool.submit(meet, cluster("worker", 1), wait=60)
        for each in (chief, one, again):
            assert each.result(timeout=30) is None


def test_one_that_is_slow_to_say_who_it_is_comes_again(cluster, monkeypatch):
    """A process that is not scheduled just then, or a packet that is lost."""
    monkeypatch.setattr(rendezvous, "_SPEAKS", 0.2)
    connect, slow = socket.create_connection, []

    class Slow(socket.socket):
        def sendall(self, data, *flags):
            if not slow:
                slow.append(time.sleep(1))
            return super().sendall(data, *flags)

    def create(*arguments, **options):
        made = connect(*arguments, **options)
        return Slow(made.family, made.type, made.proto, fileno=made.detach())

    monkeypatch.setattr(socket, "create_connection", create)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for each in [pool.submit(meet, cluster(*task), wait=20) for task in TASKS]:
            assert each.result(timeout=30) is None
    assert slow


def test_a_port_that_is_taken_and_an_address_that_is_none_are_named(cluster):
    (address,) = cluster("chief", 0)["cluster"]["chief"]
    host, port = address.split(":")
    with socket.create_server((host, int(port))), pytest.raises(UserError, match=f"port of {address}, .* to be free"):
        meet(cluster("chief", 0), wait=1)
    (address, _) = cluster("worker", 0)["cluster"]["worker"]
    host, port = address.split(":")
    with socket.create_server((host, int(port))), concurrent.futures.ThreadPoolExecutor() as pool:
        chief = pool.submit(meet, cluster("chief", 0), wait=2)
        with pytest.raises(UserError, match=f"port of {address}, .* to be free"):  # and does not let the chief go
            meet(cluster("worker", 0), wait=1)
        with pytest.raises(UserError, match=r"no word of worker 0 \(.*\), worker 1 "):
            chief.result(timeout=30)
    with pytest.raises(UserError, match=r'Expected "host:port" .*Received: \'nowhere\''):
        meet({"cluster": {"worker": ["nowhere", "there:1"]}, "task": {"type": "worker", "index": 0}}, wait=1)
