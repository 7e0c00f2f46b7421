"""Where workers wait for each other before TensorFlow connects them.

TensorFlow's own wait answers no signal, as it holds Python's lock, and has no end: a worker whose peer died as it
started would be left for good. Here all come to the first worker's address, which TensorFlow's server takes over.
"""

import contextlib
import hashlib
import math
import re
import socket
import time
from collections.abc import Mapping
from typing import Any

from cskd_tf.errors import UserError

WAIT = 30 * 60.0  # seconds: for a machine to be had, and a container's image to be fetched
_BETWEEN = 0.2  # seconds between two attempts
_SPEAKS = 2.0  # seconds within which one that has come says who it is, or comes again
_HELLO, _GO, _OTHERS, _LONGEST = b"cskd_tf %s %d of %s\n", b"all are here\n", b"others are told of others\n", 100


def meet(cluster: Mapping[str, Any], *, wait: float = WAIT) -> None:
    """Returns when all workers have called it, at most a moment apart.

    Args:
        cluster: what TF_CONFIG says, with several workers: `{"cluster": {job: [address]}, "task": {"type", "index"}}`.
        wait: seconds to wait at most.

    Raises:
        UserError: some have not come until then, which are named; this worker's port is taken: TensorFlow's server
            could not start there, and all others would wait for it without end; or one was told of other workers than
            the first.
    """
    addresses = _addresses(cluster)
    own, (first, *others) = (cluster["task"]["type"], cluster["task"]["index"]), addresses
    until = time.monotonic() + wait
    if own == first:
        missing = _gather(addresses[first], {_hello(task, addresses): task for task in others}, until=until)
    else:
        with _listening(addresses[own]):  # which is kept until all are here
            missing = [] if _come(addresses[first], _hello(own, addresses), until=until) else [first]
    if missing:
        names = ", ".join(f"{job} {index} ({addresses[job, index]})" for job, index in missing)
        raise UserError(
            f"Expected all {len(addresses)} workers that TF_CONFIG names within {wait:g} seconds. "
            f"Received: no word of {names}, or addresses that differ"
        )


def _addresses(cluster: Mapping[str, Any]) -> dict[tuple[str, int], str]:
    """Of all workers, the first one first."""
    jobs = cluster["cluster"]
    return {(job, index): jobs[job][index] for job in ("chief", "worker") for index in range(len(jobs.get(job, ())))}


def _hello(task: tuple[str, int], addresses: Mapping[tuple[str, int], str]) -> bytes:
    """What a worker says: who it is, and a checksum of the list that it was told of."""
    listed = hashlib.sha256(repr(list(addresses.items())).encode()).hexdigest()[:16]
    return _HELLO % (task[0].encode(), task[1], listed.encode())


def _gather(address: str, expected: Mapping[bytes, Any], *, until: float) -> list[Any]:
    """Lets those go who say what is expected, once all have; returns who have not come until then."""
    here: dict[Any, socket.socket] = {}
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(_listening(address))
        while left := [task for task in expected.values() if task not in here]:
            if time.monotonic() > until:
                return left
            with contextlib.suppress(TimeoutError):
                connection = server.accept()[0]
                connection.settimeout(_SPEAKS)
                said = _line(connection, until=min(until, time.monotonic() + _SPEAKS))
                if (task := expected.get(said)) is None:
                    with connection:  # which is closed, at which a worker that was too slow comes again
                        if told := re.fullmatch(rb"cskd_tf (\w+ \d+) of \w+\n", said):
                            for each in (connection, *here.values()):
                                _send(each, _OTHERS)
                            raise _other_list(f"{told[1].decode()} was told of others, or in another order")
                else:
                    here[task] = opened.enter_context(connection)
            here = {task: connection for task, connection in here.items() if not _is_gone(connection)}
        for connection in here.values():
            connection.settimeout(max(until - time.monotonic(), _BETWEEN))
            _send(connection, _GO)
            with contextlib.suppress(OSError):
                connection.recv(1)  # until it has gone: who closes first keeps the port for a while
    return []


def _come(address: str, hello: bytes, *, until: float) -> bool:
    """Says hello to the first worker, again and again while there is none; whether it has let this one go."""
    while (left := until - time.monotonic()) > 0:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(host_and_port(address), timeout=min(left, 5.0)) as first,
        ):
            first.sendall(hello)
            first.settimeout(left)
            if (answer := _line(first)) == _GO:
                return True
            if answer == _OTHERS:
                raise _other_list("not all were told of those that this one was, or in another order")
        time.sleep(_BETWEEN)
    return False


def _other_list(received: str) -> UserError:
    return UserError(
        f"Expected the same addresses in the same order in the TF_CONFIG of all workers. Received: {received}"
    )


def _listening(address: str) -> socket.socket:
    port = host_and_port(address)[1]
    both = socket.has_dualstack_ipv6()
    try:
        server = socket.create_server(
            ("", port), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both
        )
    except OSError as error:
        raise UserError(
            f"Expected the port of {address}, this worker's in TF_CONFIG, to be free. Received: {error}"
        ) from None
    server.settimeout(_BETWEEN)
    return server


def _send(connection: socket.socket, words: bytes) -> None:
    """Says something to one that may have gone."""
    with contextlib.suppress(OSError):
        connection.sendall(words)


def _line(connection: socket.socket, *, until: float = math.inf) -> bytes:
    """What it says first, up to the end of a line; less where it says no more in time, or something else."""
    said = b""
    with contextlib.suppress(OSError):
        while not said.endswith(b"\n") and len(said) < _LONGEST and time.monotonic() < until:
            if not (more := connection.recv(1)):
                break
            said += more
    return said


def _is_gone(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return not connection.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        return True


def host_and_port(address: str) -> tuple[str, int]:
    """Of an address.

    Example:
        >>> host_and_port("node-1:2222"), host_and_port("[::1]:2222")
        (('node-1', 2222), ('::1', 2222))

    Raises:
        UserError: an address of another form.
    """
    host, _, port = address.rpartition(":")
    if not re.fullmatch(r"[^\s/]+", host) or not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 2**16:
        raise UserError(f'Expected "host:port" as addresses in TF_CONFIG. Received: {address!r}')
    return host.strip("[]"), int(port)
