"""An evaluation with all metrics against a plain forward pass: `python -m benchmarks.evaluation_speed`.

The callback `cskd_tf.callbacks.Evaluation` at an epoch's end, and the plainest loop of a forward pass over the same
data set of CIFAR's size, in turns; beside them a matrix product, to whose rate that of the forward pass' own operations
is compared. The images are noise around a pattern per class, and batch norm has seen some: so embeddings lie in
classes, which overlap, as a trained network's do.
"""

import os
import statistics

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cskd_tf  # before TensorFlow, whose kernels it chooses

# isort: split
import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

from benchmarks.arithmetic import MatrixProduct, forward_flops
from benchmarks.results import record
from benchmarks.turns import median_ratio, timed_here
from cskd_tf.data.batches.pipeline import evaluation_dataset
from cskd_tf.data.images.transforms import Normalize

NETWORK = flags.DEFINE_string("network", "preact_resnet18", "One of cskd_tf.networks.")
WIDTH = flags.DEFINE_integer("width", 64, "Channels of the first stage.")
IMAGES = flags.DEFINE_integer("images", 10_000, "Of the split.")
CLASSES = flags.DEFINE_integer("classes", 100, "Of the split.")
BATCH = flags.DEFINE_integer("batch", 256, "Images per step.")
ROUNDS = flags.DEFINE_integer("rounds", 5, "Passes of each kind that are timed.")
PRECISIONS = ["float32", "mixed_bfloat16"]
PRECISION = flags.DEFINE_multi_enum("precision", PRECISIONS, PRECISIONS, "Dtype policies.")
GOAL = 1.05
SIZE = 32


def made_images() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = random.permutation(np.arange(IMAGES.value) % CLASSES.value)
    patterns = random.normal(128, 40, (CLASSES.value, 8, 8, 3)).repeat(SIZE // 8, axis=1).repeat(SIZE // 8, axis=2)
    images = np.empty((IMAGES.value, SIZE, SIZE, 3), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:] = np.clip(patterns[label] + random.normal(0, 40, image.shape), 0, 255)
    return images, labels


def measure(precision: str, source: cskd_tf.data.Source) -> dict:
    keras.config.set_dtype_policy(precision)
    network = cskd_tf.networks.build(
        NETWORK.value, num_classes=CLASSES.value, input_shape=(SIZE, SIZE, 3), width=WIDTH.value
    )
    model = cskd_tf.SelfDistiller(network, [cskd_tf.methods.CSKD()])
    model.compile(cskd_tf.optimizers.SGD(0.1))
    transform = Normalize((0.5,) * 3, (0.25,) * 3)
    data = evaluation_dataset(source, batch_size=BATCH.value, transform=transform)
    for images, _ in data.take(1):
        for _ in range(20):
            network(images[:64], training=True)
    forward = tf.function(lambda images: network(images, training=False), autograph=False)
    evaluation = cskd_tf.callbacks.Evaluation(data)
    evaluation.set_model(model)

    def plain():
        for images, _ in data:
            logits = forward(images)
        logits.numpy()

    def evaluate():
        evaluation.on_epoch_end(0, {})

    def metrics():
        evaluation.predictions.metrics(ece_bins=evaluation.ece_bins)

    product = MatrixProduct(precision)
    programs = {"plain": plain, "evaluation": evaluate, "metrics": metrics, "product": product}
    seconds = timed_here(programs, rounds=ROUNDS.value)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    operations = IMAGES.value * forward_flops(network)
    return {
        "benchmark": "evaluation_speed",
        "network": NETWORK.value,
        "width": WIDTH.value,
        "images": IMAGES.value,
        "precision": precision,
        "evaluation_over_forward": round(median_ratio(seconds["evaluation"], seconds["plain"]), 3),
        "metrics_over_forward": round(median_ratio(seconds["metrics"], seconds["plain"]), 3),
        "goal": GOAL,
        "recall_at_1": evaluation.predictions.metrics(ece_bins=evaluation.ece_bins)["recall_at_1"],
        **{f"{name}_seconds": round(medians[name], 5) for name in ("plain", "evaluation", "metrics")},
        "plain_share_of_matrix_rate": product.share(operations, seconds["plain"], seconds["product"]),
        "matrix_gflop_per_second": product.gflop_per_second(seconds["product"]),
    }


def main(argv):
    del argv
    source = cskd_tf.data.ArraySource(*made_images())
    for precision in PRECISION.value:
        record("evaluation_speed", measure(precision, source), per_cpu=True)


if __name__ == "__main__":
    app.run(main)
