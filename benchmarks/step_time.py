"""Training steps of CS-KD against cross-entropy: `python -m benchmarks.step_time [--precision=mixed_bfloat16]`.

In theory a CS-KD step costs 4/3 of a cross-entropy step: forward and backward are three units, the partner's forward
pass one more. Both are timed in turns on the same batch, so that whatever else the machine does meets both; and a
matrix product, to whose rate that of the steps' own operations is compared.
"""

import os
import statistics

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cskd_tf  # before TensorFlow, whose kernels it chooses

# isort: split
import keras
import tensorflow as tf
from absl import app, flags

from benchmarks import arithmetic
from benchmarks.results import record
from benchmarks.turns import median_ratio, timed_here

NETWORK = flags.DEFINE_string("network", "preact_resnet18", "One of cskd_tf.networks.")
WIDTH = flags.DEFINE_integer("width", 64, "Channels of the first stage.")
SIZE = flags.DEFINE_integer("size", 32, "Pixels.")
BATCH = flags.DEFINE_integer("batch", 64, "Images per step.")
ROUNDS = flags.DEFINE_integer("rounds", 5, "Steps of each kind that are timed.")
PRECISIONS = ["float32", "mixed_bfloat16"]
PRECISION = flags.DEFINE_multi_enum("precision", PRECISIONS, PRECISIONS, "Dtype policies.")
GOAL = 1.35
# Passes with and without gradient.
UNITS = {
    "cross_entropy": arithmetic.WITH_GRADIENT,
    "cskd": arithmetic.WITH_GRADIENT + arithmetic.FORWARD,
}


def make_step(methods, batch):
    network = cskd_tf.networks.build(
        NETWORK.value, num_classes=100, input_shape=(SIZE.value, SIZE.value, 3), width=WIDTH.value
    )
    model = cskd_tf.SelfDistiller(network, methods)
    model.compile(cskd_tf.optimizers.SGD(0.1))
    model.optimizer.build(model.trainable_variables)
    step = tf.function(model.train_step, autograph=False)
    return lambda: float(step(batch)["loss"]), arithmetic.forward_flops(network)


def measure(precision: str) -> dict:
    keras.config.set_dtype_policy(precision)
    images, partners = tf.unstack(tf.random.stateless_normal((2, BATCH.value, SIZE.value, SIZE.value, 3), [0, 0]))
    labels = tf.range(BATCH.value) % 100
    cross_entropy, flops = make_step([], ({"image": images}, labels))
    cskd, _ = make_step([cskd_tf.methods.CSKD()], ({"image": images, "partner": partners}, labels))
    product = arithmetic.MatrixProduct(precision)
    seconds = timed_here({"cross_entropy": cross_entropy, "cskd": cskd, "product": product}, rounds=ROUNDS.value)
    result = {
        "benchmark": "step_time",
        "network": NETWORK.value,
        "width": WIDTH.value,
        "batch": BATCH.value,
        "precision": precision,
        "cskd_over_cross_entropy": round(median_ratio(seconds["cskd"], seconds["cross_entropy"]), 3),
        "limit": round(UNITS["cskd"] / UNITS["cross_entropy"], 3),
        "goal": GOAL,
    }
    for name, units in UNITS.items():
        operations = units * BATCH.value * flops
        result[f"{name}_images_per_second"] = round(BATCH.value / statistics.median(seconds[name]), 1)
        result[f"{name}_flops"] = operations
        result[f"{name}_share_of_matrix_rate"] = product.share(operations, seconds[name], seconds["product"])
    result["matrix_gflop_per_second"] = product.gflop_per_second(seconds["product"])
    return result


def main(argv):
    del argv
    for precision in PRECISION.value:
        record("step_time", measure(precision), per_cpu=True)


if __name__ == "__main__":
    app.run(main)
