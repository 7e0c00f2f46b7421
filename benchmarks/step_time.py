"""Training steps of CS-KD against cross-entropy: `python -m benchmarks.step_time`.

In theory a CS-KD step costs 4/3 of a cross-entropy step: forward and backward are three units, the partner's forward
pass one more. Both are timed in turns on the same batch, so that whatever else the machine does meets both.
"""

import os
import resource
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cskd_tf  # before TensorFlow, whose kernels it chooses

# isort: split
import keras
import tensorflow as tf
from absl import app, flags

from benchmarks.results import record

NETWORK = flags.DEFINE_string("network", "preact_resnet18", "One of cskd_tf.networks.")
WIDTH = flags.DEFINE_integer("width", 64, "Channels of the first stage.")
SIZE = flags.DEFINE_integer("size", 32, "Pixels.")
BATCH = flags.DEFINE_integer("batch", 64, "Images per step.")
ROUNDS = flags.DEFINE_integer("rounds", 5, "Steps of each kind that are timed.")
PRECISION = flags.DEFINE_enum("precision", "float32", ["float32", "mixed_bfloat16"], "Dtype policy.")


def make_step(methods):
    network = cskd_tf.networks.build(
        NETWORK.value, num_classes=100, input_shape=(SIZE.value, SIZE.value, 3), width=WIDTH.value
    )
    model = cskd_tf.SelfDistiller(network, methods)
    model.compile(cskd_tf.optimizers.SGD(0.1))
    model.optimizer.build(model.trainable_variables)
    return tf.function(model.train_step, autograph=False)


def main(argv):
    del argv
    keras.config.set_dtype_policy(PRECISION.value)
    images, partners = tf.unstack(tf.random.stateless_normal((2, BATCH.value, SIZE.value, SIZE.value, 3), [0, 0]))
    labels = tf.range(BATCH.value) % 100
    batches = {"cross_entropy": ({"image": images}, labels), "cskd": ({"image": images, "partner": partners}, labels)}
    steps = {"cross_entropy": make_step([]), "cskd": make_step([cskd_tf.methods.CSKD()])}
    seconds = {name: [] for name in steps}
    for number in range(ROUNDS.value + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            float(step(batches[name])["loss"])
            if number:  # the first traces
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = [cskd / plain for plain, cskd in zip(seconds["cross_entropy"], seconds["cskd"], strict=True)]
    result = {
        "benchmark": "step_time",
        "network": NETWORK.value,
        "width": WIDTH.value,
        "batch": BATCH.value,
        "precision": PRECISION.value,
        "cskd_over_cross_entropy": round(statistics.median(ratios), 3),
        "limit": round(4 / 3, 3),
        "cross_entropy_images_per_second": round(BATCH.value / medians["cross_entropy"], 1),
        "cskd_images_per_second": round(BATCH.value / medians["cskd"], 1),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    record("step_time", result)


if __name__ == "__main__":
    app.run(main)
