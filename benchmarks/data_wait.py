"""Share of a training step that waits for data: `python -m benchmarks.data_wait [--case=NAME ...]`.

CS-KD trains inside `fit` on `cskd_tf.data.paired_dataset`, which is asked for a batch at the beginning of each step: a
clock in its graph adds up the seconds until it hands one on. In turns with it, `fit` on one batch that is there already
(where the pipeline works on the same cores as the step, it also costs what it takes from those), and the pipeline
alone, and a matrix product, whose rate of operations says what arithmetic alone would take. A JSON line per case, with
ratios of the steps that follow the first few.
"""

import os
import pathlib
import statistics
import tempfile
import time
import timeit

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cskd_tf  # before TensorFlow, whose kernels it chooses

# isort: split
import keras
import tensorflow as tf
from absl import app, flags

from benchmarks.arithmetic import FORWARD, WITH_GRADIENT, MatrixProduct, forward_flops
from benchmarks.cases import CASES, augmentation, chosen_case, made_arrays, make_folder, our_sources
from benchmarks.results import record
from benchmarks.turns import median_ratio
from cskd_tf.data.sources.passes import as_it_is

CASE = flags.DEFINE_multi_enum("case", ["arrays32", "folder64"], list(CASES), "What is read.")
NETWORK = flags.DEFINE_string("network", "preact_resnet18", "One of cskd_tf.networks.")
WIDTH = flags.DEFINE_integer("width", None, "Channels of the first stage; by default as published.")
IMAGES = flags.DEFINE_integer("images", None, "How many are made, of at most half as many classes; else the case's.")
BATCH = flags.DEFINE_integer("batch", None, "Pairs per batch; the case's where left out.")
STEPS = flags.DEFINE_integer("steps", 5, "Timed in each turn.")
ROUNDS = flags.DEFINE_integer("rounds", 2, "Turns of each kind.")
PRECISION = flags.DEFINE_enum("precision", "float32", ["float32", "mixed_bfloat16"], "Dtype policy.")
GOAL = 0.05
FIRST = 3  # steps of a turn that do not count: the pipeline starts, and makes batches ahead


def clocked(dataset: tf.data.Dataset, waited: tf.Variable) -> tf.data.Dataset:
    """The same data set, which adds to `waited` the seconds between each request for a batch and its arrival."""
    clock = tf.data.Dataset.from_tensors(0).repeat().map(lambda _: tf.timestamp())

    def add(before, batch, after):
        with tf.control_dependencies([waited.assign_add(after - before)]):
            return tf.nest.map_structure(tf.identity, batch)

    # zip asks one data set after the other. tf.data's rewriting would fetch ahead, behind the clock's back.
    return as_it_is(tf.data.Dataset.zip(clock, dataset, clock).map(add))


class Stopwatch(keras.callbacks.Callback):
    """Seconds of the steps of `fit` behind the first ones, and those of them that `waited` has counted."""

    def __init__(self, waited: tf.Variable):
        super().__init__()
        self._waited = waited

    def on_train_batch_end(self, batch, logs=None):
        if batch == FIRST - 1:
            self._start, self._before = time.perf_counter(), float(self._waited)

    def on_train_end(self, logs=None):
        self.seconds = time.perf_counter() - self._start
        self.waited = float(self._waited) - self._before


def seconds_of_batches(dataset: tf.data.Dataset) -> float:
    """Of as many batches as a turn has steps, with nobody else at work."""
    batches = iter(dataset)
    for _ in range(FIRST):
        next(batches)
    start = time.perf_counter()
    for _ in range(STEPS.value):
        next(batches)
    return time.perf_counter() - start


def measure(name: str, source: cskd_tf.data.Source, case) -> dict:
    network = cskd_tf.networks.build(
        NETWORK.value,
        num_classes=len(source.class_names),
        input_shape=(case.size, case.size, 3),
        width=WIDTH.value,
    )
    model = cskd_tf.SelfDistiller(network, [cskd_tf.methods.CSKD()])
    model.compile(cskd_tf.optimizers.SGD(0.001))
    data = cskd_tf.data.paired_dataset(
        source,
        batch_size=case.batch,
        seed=0,
        epochs=1000,
        augment=augmentation(case),
        needs=model.composition.needs,
        distribution=cskd_tf.data.Distribution(static_shapes=True),
    )
    held = tf.data.Dataset.from_tensors(next(iter(data))).repeat()
    waited = tf.Variable(0.0, dtype=tf.float64)
    read = data._changed(lambda batches: clocked(batches, waited))

    def fitted(dataset) -> Stopwatch:
        stopwatch = Stopwatch(waited)
        model.fit(dataset, steps_per_epoch=FIRST + STEPS.value, verbose=0, callbacks=[stopwatch])
        return stopwatch

    product = MatrixProduct(PRECISION.value)
    turns = [
        (fitted(read), fitted(held), seconds_of_batches(data), timeit.timeit(product, number=1))
        for _ in range(ROUNDS.value + 1)
    ]
    reading, holding, alone, multiplying = zip(*turns[1:], strict=True)  # the first traces
    seconds = [turn.seconds for turn in reading]
    operations = (WITH_GRADIENT + FORWARD) * case.batch * STEPS.value * forward_flops(network)
    return {
        "benchmark": "data_wait",
        "case": name,
        "network": NETWORK.value,
        "batch": case.batch,
        "precision": PRECISION.value,
        "waiting_share": round(median_ratio([turn.waited for turn in reading], seconds), 5),
        "goal": GOAL,
        "over_a_batch_at_hand": round(median_ratio(seconds, [turn.seconds for turn in holding]), 3),
        "pipeline_alone_over_step": round(median_ratio(alone, [turn.seconds for turn in holding]), 4),
        "share_of_matrix_rate": product.share(operations, seconds, multiplying),
        "step_seconds": round(statistics.median(seconds) / STEPS.value, 4),
    }


def main(argv):
    del argv
    keras.config.set_dtype_policy(PRECISION.value)
    for name in CASE.value:
        case = chosen_case(name, images=IMAGES.value, batch=BATCH.value)
        with tempfile.TemporaryDirectory() as folder:
            if case.is_array:
                made = made_arrays(case)
            else:
                make_folder(pathlib.Path(folder), case)
                made = (pathlib.Path(folder) / "train",)
            for kind, source in our_sources(case, *made).items():
                record("data_wait", measure(kind + name, source, case), per_cpu=True)


if __name__ == "__main__":
    app.run(main)
