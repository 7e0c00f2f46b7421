"""Building the pairing, and starting late: `python -m benchmarks.pairing_speed`.

Prints one JSON line a figure: building the class buckets of ImageNet's two sizes, in labels without order, and the
time until the first batch of a run that starts at step 0 or at step 1,000,000. Each is measured in a process of its
own, so that the peak memory is its own too; `memory_before_mib` of it were taken before the clock started.
"""

import multiprocessing
import os
import resource
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from cskd_tf.data import PixelSource, paired_dataset  # before TensorFlow, whose kernels it chooses

# isort: split
import numpy as np
import tensorflow as tf
from absl import app, flags

from benchmarks.results import record
from cskd_tf.data.batches.pairing import ClassBuckets

# Images, classes, seconds at most: ImageNet's ILSVRC 2012 and the whole of it.
BUCKETS = ((1_281_167, 1_000, 1.0), (14_197_122, 21_841, 15.0))
STEPS = (0, 1_000_000)
LIMIT = 1.0  # seconds that the later start may take longer
REPEATS = flags.DEFINE_integer("repeats", 3, "Processes for each figure, whose median counts.")


class Stub(PixelSource):
    """As many images as ImageNet has, their pixels made from their numbers: reading them is not what is timed."""

    def __init__(self, *, images: int, classes: int):
        labels = labels_without_order(images=images, classes=classes)
        super().__init__(labels, class_names=list(map(str, range(classes))), image_shape=(4, 4, 3))

    def load(self, indices):
        return tf.broadcast_to(tf.reshape(indices % 256, [-1, 1, 1, 1]), [tf.shape(indices)[0], *self.image_shape])

    def locate(self, index):
        return f"image {index}"


def labels_without_order(*, images: int, classes: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(np.arange(images, dtype=np.int32) % classes)


def peak_memory_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def build_buckets(images: int, classes: int) -> dict:
    labels = labels_without_order(images=images, classes=classes)
    tf.constant(0)  # TensorFlow sets itself up at its first tensor
    before = peak_memory_mib()
    start = time.perf_counter()
    buckets = ClassBuckets(labels, num_classes=classes)
    seconds = time.perf_counter() - start
    held = sum(each.numpy().nbytes for each in vars(buckets).values() if tf.is_tensor(each))
    return {"seconds": seconds, "bytes_per_image": round(held / images, 2), "memory_before_mib": before}


def first_batch(first_step: int) -> dict:
    source = Stub(images=BUCKETS[0][0], classes=BUCKETS[0][1])
    tf.constant(0)
    before = peak_memory_mib()
    start = time.perf_counter()
    batches = paired_dataset(source, batch_size=256, seed=0, epochs=200, first_step=first_step)
    next(iter(batches))
    return {"seconds": time.perf_counter() - start, "memory_before_mib": before}


def _send(function, arguments, results) -> None:
    results.put(function(*arguments) | {"peak_memory_mib": peak_memory_mib()})


def measure(function, *arguments) -> dict:
    """The median of several processes, one after the other."""
    context = multiprocessing.get_context("spawn")
    measured = []
    for _ in range(REPEATS.value):
        results = context.SimpleQueue()
        process = context.Process(target=_send, args=(function, arguments, results))
        process.start()
        process.join()
        if process.exitcode:
            raise ChildProcessError(f"{function.__name__}{arguments} ended with exit code {process.exitcode}")
        measured.append(results.get())
    seconds = statistics.median(each["seconds"] for each in measured)
    return max(measured, key=lambda each: each["peak_memory_mib"]) | {"seconds": round(seconds, 3)}


def main(argv):
    del argv
    for images, classes, limit in BUCKETS:
        figure = {"benchmark": "pairing_speed", "part": "buckets", "images": images, "classes": classes}
        record("pairing_speed", figure | measure(build_buckets, images, classes) | {"limit": limit})
    start = None
    for step in STEPS:
        figure = {"benchmark": "pairing_speed", "part": "first_batch", "images": BUCKETS[0][0], "first_step": step}
        figure |= measure(first_batch, step)
        start = figure["seconds"] if start is None else start
        record("pairing_speed", figure | {"later_than_step_0": round(figure["seconds"] - start, 3), "limit": LIMIT})


if __name__ == "__main__":
    app.run(main)
