"""What a pass over all images of a data set needs: a graph that is left as it is, and a progress bar."""

import os
import sys
from collections.abc import Iterable
from typing import TypeVar

import rich.console
import rich.progress
import tensorflow as tf

Item = TypeVar("Item")


# Batches that are made at once: of each the images are decoded in parallel, so that more would only take memory.
PARALLEL_CALLS = min(16, os.cpu_count() or 1)


def as_it_is(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Spares tf.data's rewriting of the graph, and its tuning.

    The first takes seconds and copies all images that are in memory. The second has a thread that may sleep through the
    end of an iterator, which waits for it: once in a few times, for about as long as the iterator lived, up to a minute
    (TensorFlow 2.20 and 2.21 wake the thread before they tell it that it is cancelled).
    """
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = False
    return dataset.with_options(options)


def track(iterable: Iterable[Item], *, total: int | None, description: str) -> Iterable[Item]:
    """The same items, with a progress bar on the terminal that is gone when the work is done.

    Example:
        >>> list(track("abc", total=3, description="Reading letters"))
        ['a', 'b', 'c']

    Args:
        iterable: of the items.
        total: how many there are; None: not known.
        description: what is done, in front of the bar.
    """
    silent = not sys.stderr.isatty()
    console = rich.console.Console(stderr=True)
    return rich.progress.track(iterable, description, total, transient=True, console=console, disable=silent)
