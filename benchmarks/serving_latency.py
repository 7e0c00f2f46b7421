"""An exported classifier beside the bare Keras model: `python -m benchmarks.serving_latency`.

Batches of 1 and 32 in turns, in one process: the network alone in a `tf.function` on pixels of its size that are
normalised already; the same as Keras users call it, `network(pixels)` and `network.predict_on_batch(pixels)`; and the
SavedModel's signatures, which also decode, resize and normalise, on raw images of the network's size, on larger ones,
and on JPEG files of these. The network has random weights: they take as long as trained ones.
"""

import os
import pathlib
import statistics
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cskd_tf  # before TensorFlow, whose kernels it chooses

# isort: split
import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

from benchmarks.results import record
from benchmarks.turns import median_ratio, timed_here
from cskd_tf.data.images.augmentation import Augmentation, build_transforms
from cskd_tf.serving import saved_model
from cskd_tf.serving.calibration import Calibration
from cskd_tf.serving.functions import Serving

CASES = {"preact_resnet18": (32, 64), "resnet18": (224, 500)}  # pixels of the network, and of larger images
NETWORK = flags.DEFINE_multi_enum("network", list(CASES), list(CASES), "Networks.")
WIDTH = flags.DEFINE_integer("width", None, "Channels of the first stage; by default as published.")
CLASSES = flags.DEFINE_integer("classes", 100, "That it tells apart.")
BATCHES = flags.DEFINE_multi_integer("batch", [1, 32], "Images per call.")
ROUNDS = flags.DEFINE_integer("rounds", 20, "Calls of each kind that are timed.")


def photos(count: int, size: int) -> np.ndarray:
    """Images whose files are as large as those of photos: noise that has been smoothed."""
    coarse = np.random.default_rng(0).integers(0, 256, (count, size // 4, size // 4, 3))
    return tf.cast(tf.clip_by_value(tf.image.resize(coarse, (size, size), "bicubic"), 0, 255), tf.uint8).numpy()


def measure(name: str) -> list[dict]:
    size, larger = CASES[name]
    shape = (size, size, 3)
    network = cskd_tf.networks.build(name, num_classes=CLASSES.value, input_shape=shape, width=WIDTH.value)
    model = cskd_tf.SelfDistiller(network)
    augmentation = Augmentation(image_size=size, crop="none", flip=False, mean=(0.5,) * 3, std=(0.25,) * 3)
    calibration = Calibration(temperature=1.5, threshold=0.01, coverage=0.9)
    names = [f"class {number}" for number in range(CLASSES.value)]
    serving = Serving(model, build_transforms(augmentation)[1], class_names=names, calibration=calibration)
    bare = tf.function(lambda pixels: network(pixels, training=False), autograph=False)
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / "1"
        saved_model.write(serving, folder)
        served = tf.saved_model.load(str(folder))
        megabytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    lines = []
    for batch in BATCHES.value:
        own, large = (tf.constant(photos(batch, each)) for each in (size, larger))
        pixels = (tf.cast(own, tf.float32) / 255 - 0.5) / 0.25
        files = tf.stack([tf.io.encode_jpeg(image, quality=90) for image in large])
        programs = {
            "bare": lambda pixels=pixels: bare(pixels).numpy(),
            "keras_call": lambda pixels=pixels: np.asarray(network(pixels, training=False)),
            "keras_predict": lambda pixels=pixels: network.predict_on_batch(pixels),
            "images": lambda own=own: served.serve(own)["probabilities"].numpy(),
            "large_images": lambda large=large: served.serve(large)["probabilities"].numpy(),
            "files": lambda files=files: served.serve_bytes(files)["probabilities"].numpy(),
        }
        seconds = timed_here(programs, rounds=ROUNDS.value)
        lines.append(
            {
                "benchmark": "serving_latency",
                "network": name,
                "image": size,
                "larger": larger,
                "batch": batch,
                "saved_model_megabytes": round(megabytes, 2),
                **{
                    f"{kind}_over_bare": round(median_ratio(seconds[kind], seconds["bare"]), 3)
                    for kind in programs
                    if kind != "bare"
                },
                **{f"{kind}_milliseconds": round(1000 * statistics.median(seconds[kind]), 3) for kind in programs},
            }
        )
    return lines


def main(argv):
    del argv
    keras.utils.set_random_seed(0)
    for name in NETWORK.value:
        record("serving_latency", measure(name), per_cpu=True)


if __name__ == "__main__":
    app.run(main)
