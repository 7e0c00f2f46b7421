"""The processes that train one model together, as `tf.distribute.MultiWorkerMirroredStrategy` connects them."""

import functools
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import tensorflow as tf

from cskd_tf.errors import UserError

Result = TypeVar("Result")


@functools.cache
def _all_gather(strategy: tf.distribute.Strategy) -> Callable:
    """What gathers numbers `[n]` of all replicas; `strategy.gather` would trace a new function each time."""

    def of_replica(values: tf.Tensor) -> tf.Tensor:
        return tf.distribute.get_replica_context().all_gather(tf.identity(values), 0)

    return tf.function(lambda values: strategy.run(of_replica, args=(values,)), reduce_retracing=True)


class Workers:
    """What the workers of a strategy do together; a strategy of one process has a single worker, the chief.

    Each method waits until all workers have called it, so all must call the same ones in the same order.

    Example:
        >>> workers = Workers(tf.distribute.get_strategy())
        >>> workers.count, workers.is_chief, workers.gather(np.arange(3)).tolist()
        (1, True, [0, 1, 2])

    Args:
        strategy: any.

    Attributes:
        count: how many workers there are.
        index: which of them this process is, from 0.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self._strategy = strategy
        self.count, self.index = 1, 0
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            resolver = strategy.cluster_resolver
            jobs = resolver.cluster_spec().as_dict()
            chiefs = len(jobs.get("chief", ()))
            self.count = max(1, chiefs + len(jobs.get("worker", ())))
            self.index = (resolver.task_id or 0) + (chiefs if resolver.task_type == "worker" else 0)

    @property
    def is_chief(self) -> bool:
        """Whether this process is the one that writes."""
        return self.index == 0

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """The rows of all workers, in their order: `[n, ...]` of each, n its own, to `[N, ...]`.

        Numbers of 4 or 8 bytes.
        """
        if self.count == 1 or not self._gather(np.array([len(rows)])).any():  # TensorFlow cannot gather nothing
            return rows
        return self._gather(rows)

    def _gather(self, rows: np.ndarray) -> np.ndarray:
        # As one kind of numbers, so that one traced function does for all: the bits are not looked at.
        bits = np.ascontiguousarray(rows).reshape(-1).view(np.int32)
        replicas = self._strategy.num_replicas_in_sync // self.count

        def of_replica(context):
            own = context.replica_id_in_sync_group % replicas == 0  # of a worker's replicas the first has them all
            return tf.constant(bits if own else bits[:0])

        values = self._strategy.experimental_distribute_values_from_function(of_replica)
        gathered = self._strategy.experimental_local_results(_all_gather(self._strategy)(values))[0].numpy()
        return gathered.view(rows.dtype).reshape(-1, *rows.shape[1:])

    def texts(self, text: str) -> list[str]:
        """The texts of all workers, in their order."""
        own = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
        ends = np.cumsum(self.gather(np.array([len(own)], np.int32)))
        return [bytes(part.tolist()).decode() for part in np.split(self.gather(own), ends[:-1])]

    def any(self, condition: bool) -> bool:
        """Whether the condition holds on any worker."""
        values = np.array([condition], np.int32)
        return bool((values if self.count == 1 else self._gather(values)).any())

    def on_chief(self, action: Callable[[], Result]) -> Result | None:
        """What `action` returns on the chief, None elsewhere; no worker goes on before it is done.

        Raises:
            Whatever it raises, on the chief; the same `SystemExit`, or UserError with the same words, on the others.
        """
        result, raised = None, None
        if self.is_chief:
            try:
                result = action()
            except (Exception, SystemExit) as error:  # the latter of SIGTERM
                raised = error
        code = raised.code if isinstance(raised, SystemExit) and isinstance(raised.code, int) else 0
        said = "" if raised is None else str(raised) or repr(raised)
        words = self.gather(np.array([code, *said.encode()], np.int32) if self.is_chief else np.zeros(0, np.int32))
        code, *words = words.tolist()
        if raised is not None:
            raise raised
        if code:
            raise SystemExit(code)
        if words:
            raise UserError(bytes(words).decode())
        return result
