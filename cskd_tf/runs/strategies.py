"""The devices and processes that a run is computed on, by the name in its config."""

import functools
import glob
import json
import os
import signal
import threading
from typing import Any

import tensorflow as tf
from absl import logging
from tensorflow.python.eager import context  # nothing public waits for other workers without numbers to exchange

from cskd_tf.errors import UserError
from cskd_tf.runs import rendezvous

NVIDIA = "/dev/nvidia[0-9]*"  # the GPUs of this machine that this process may open
PATIENCE = 60_000  # milliseconds for which one that is done waits for the other workers


def auto() -> tf.distribute.Strategy:
    """The workers that TF_CONFIG names, or all GPUs of this machine, or its one device."""
    if num_workers() > 1:
        return multi_worker()
    return mirrored() if len(tf.config.list_logical_devices("GPU")) > 1 else tf.distribute.get_strategy()


@functools.cache
def mirrored() -> tf.distribute.Strategy:
    """All GPUs of this machine, or all its logical CPUs where it has none."""
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


@functools.cache  # a process is connected to the others once
def multi_worker() -> tf.distribute.Strategy:
    """All GPUs of all the machines that TF_CONFIG names, one process on each; waits for all of them.

    Raises:
        UserError: TF_CONFIG names no others, or some of them do not come.
    """
    if num_workers() < 2:
        raise UserError(
            "Expected TF_CONFIG to name the workers for strategy=multi_worker; `cskd-tf launch --workers=N` sets it. "
            f"Received: {os.environ.get('TF_CONFIG', 'no TF_CONFIG')}"
        )
    task = cluster()["task"]
    logging.info("%s %d of %d workers: waiting for the others", task["type"], task["index"], num_workers())
    rendezvous.meet(cluster())
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    # It has taken SIGTERM for services that are not used here, and would let it pass; who had it has it again.
    if (
        threading.current_thread() is threading.main_thread()
        and (handler := signal.getsignal(signal.SIGTERM)) is not None
    ):
        signal.signal(signal.SIGTERM, handler)
    return strategy


def wait_for_workers() -> None:
    """Returns when all workers are done with each other; for the end of a run, which it comes to on all of them.

    What a worker has sent may not be on its way yet when all that it waited for is there: were it to end now, it could
    take the others along. One that does not come keeps nobody, as the run is over; that is logged.
    """
    if not multi_worker.cache_info().currsize:
        return
    try:
        context.context().wait_at_barrier("the end of the run", PATIENCE)
    except tf.errors.OpError as error:
        logging.warning("Another worker has not come to the end of the run: %s", error.message)


@functools.cache
def tpu() -> tf.distribute.Strategy:
    """The TPU that the environment names.

    Raises:
        UserError: there is none.
    """
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
    except ValueError as error:
        raise UserError(f"Expected a TPU for strategy=tpu. Received: {error}") from None
    tf.config.experimental_connect_to_cluster(resolver)
    tf.tpu.experimental.initialize_tpu_system(resolver)
    return tf.distribute.TPUStrategy(resolver)


# What `runs.config.Strategy` can be, and what makes each.
STRATEGIES = {
    "auto": auto,
    "single": tf.distribute.get_strategy,
    "mirrored": mirrored,
    "multi_worker": multi_worker,
    "tpu": tpu,
}


def make(name: str) -> tf.distribute.Strategy:
    """The strategy of a name.

    Raises:
        UserError: there are no such devices, or TF_CONFIG names workers that the strategy would not use: each of them
            would train the whole run by itself, and write to the same files.
    """
    if num_workers() > 1 and name not in ("auto", "multi_worker"):
        raise UserError(
            f"Expected strategy=multi_worker (or auto) where TF_CONFIG names {num_workers()} workers; unset TF_CONFIG "
            f"to train without them. Received: strategy={name}"
        )
    _warn_of_unseen_gpus()
    return STRATEGIES[name]()


@functools.cache  # once
def _warn_of_unseen_gpus() -> None:
    """Says so where there are GPUs that TensorFlow cannot use, of which it prints nothing that is shown."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") or tf.config.list_physical_devices("GPU"):
        return
    if found := sorted(glob.glob(NVIDIA)):
        logging.warning(
            "TensorFlow cannot use %s, and computes on the CPU. Usually it lacks CUDA: pip install "
            "'tensorflow[and-cuda]==%s'; TF_CPP_MIN_LOG_LEVEL=0 before the command shows its own reason, and "
            "CUDA_VISIBLE_DEVICES=-1 asks for the CPU.", ", ".join(found), tf.__version__,
        )  # fmt: skip


def is_chief() -> bool:
    """Whether this process is the one that writes and reports, as TF_CONFIG has it."""
    if num_workers() == 1:
        return True
    task = cluster()["task"]
    return task["index"] == 0 and (task.get("type") != "worker" or "chief" not in cluster()["cluster"])


def cluster() -> dict[str, Any]:
    """What TF_CONFIG says, `{"cluster": {job: [address]}, "task": {"type", "index"}}`; empty where it is not set.

    Raises:
        UserError: it does not say that, or several workers have addresses that are none, or one and the same.
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return {}
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        told = None
    if not _is_cluster(told):
        raise UserError(
            'Expected TF_CONFIG as {"cluster": {"worker": ["host:port", ...]}, '
            '"task": {"type": "worker", "index": 0}}, '
            f"with the jobs worker and, perhaps, chief. Received: TF_CONFIG={text}"
        )
    addresses = [address for job in told.get("cluster", {}).values() for address in job]
    places = [rendezvous.host_and_port(address) for address in addresses] if len(addresses) > 1 else []
    if len(set(places)) < len(places):
        raise UserError(f"Expected an address of its own for each worker in TF_CONFIG. Received: {addresses}")
    return told


def _is_cluster(told: Any) -> bool:
    """Whether jobs are lists of strings, and the task, where there are jobs, is one of theirs."""
    if not isinstance(told, dict):
        return False
    jobs, task = told.get("cluster", {}), told.get("task", {})
    if not isinstance(jobs, dict) or not isinstance(task, dict) or not jobs.keys() <= {"chief", "worker"}:
        return False
    if not all(isinstance(job, list) and all(isinstance(each, str) for each in job) for job in jobs.values()):
        return False
    job, index = task.get("type"), task.get("index")
    return not jobs or (type(index) is int and isinstance(job, str) and index in range(len(jobs.get(job, ()))))


def refuse_workers(what: str) -> None:
    """Raises UserError where TF_CONFIG names several workers: each of them would do all of what one process does."""
    if num_workers() > 1:
        raise UserError(f"Expected one process for {what}. Received: TF_CONFIG={os.environ['TF_CONFIG']}")


def num_workers() -> int:
    """How many processes TF_CONFIG names, at least this one."""
    return max(1, sum(map(len, cluster().get("cluster", {}).values())))
