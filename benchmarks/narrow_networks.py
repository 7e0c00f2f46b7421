"""Whether narrow networks train on odd batches without breaking the heap: `python -m benchmarks.narrow_networks`.

TensorFlow 2.21's oneDNN writes past its memory in one gradient that a network of fewer than 16 channels can have
(`cskd_tf.networks.convolution`). Each seed is a process of its own that takes gradients of single convolutions and
then trains small networks, ours and ones of Keras' own layers, all of random widths and on batches of odd size, with
oneDNN on; a JSON line with how many processes died.
"""

import os
import random
import subprocess
import sys

from absl import app, flags

from benchmarks import results

SEEDS = flags.DEFINE_integer("seeds", 40, "Processes.")
FIRST = flags.DEFINE_integer("first", 0, "The first one's seed; the others follow.")
LAYERS = flags.DEFINE_integer("layers", 100, "Convolutions whose gradients each process takes first.")
NETWORKS = flags.DEFINE_integer("networks", 4, "Networks that each process trains.")
OURS = {"preact_resnet10": 16, "resnet10": 33}


def stock(generator: random.Random, *, size: int):
    """A network of Keras' own layers, with what breaks most often: 1 x 1 pixels at a stride over few channels."""
    import keras
    from keras import layers

    outputs = images = keras.Input((size, size, generator.choice([1, 3])))
    for _ in range(generator.randint(1, 3)):
        kernel_size, stride = generator.choice([(1, 2), (1, 2), (1, 3), (3, 1), (3, 2), (5, 2)])
        outputs = layers.Conv2D(generator.randint(1, 15), kernel_size, strides=stride, padding="same")(outputs)
        if generator.random() < 0.5:
            outputs = layers.BatchNormalization()(outputs)
        outputs = layers.ReLU()(outputs)
        if generator.random() < 0.3:
            outputs = layers.MaxPooling2D(2, padding="same")(outputs)
    return keras.Model(images, layers.Dense(3, dtype="float32")(layers.GlobalAveragePooling2D()(outputs)))


def gradients(seed: int, *, layers: int) -> None:
    """Gradients of single convolutions, ours and Keras' own as `SelfDistiller` leaves them, of many shapes."""
    import cskd_tf  # before Keras, because it chooses TensorFlow's kernels

    import keras  # isort: skip
    import tensorflow as tf

    generator = random.Random(seed)
    for _ in range(layers):
        kind = generator.choice([cskd_tf.networks.convolution.Convolution, keras.layers.Conv2D])
        dtype = generator.choice(["float32", "mixed_bfloat16"])
        kernel_size, stride = generator.choice([(1, 1), (1, 2), (1, 2), (1, 3), (3, 1), (3, 2)])
        layer = kind(generator.randint(1, 15), kernel_size, strides=stride, padding="same", dtype=dtype)
        cskd_tf.networks.convolution.compute_right(layer)
        batch, size = generator.choice([1, 3, 5, 7, 9, 11, 13, 33]), generator.choice([14, 15, 16, 18, 28, 32])
        images = tf.ones((batch, size, size, generator.randint(1, 15)))
        for _ in range(8):
            with tf.GradientTape() as tape:
                outputs = layer(images)
            tape.gradient(outputs, layer.kernel.value)


def train(seed: int, *, networks: int) -> None:
    """Trains `networks` networks for a few steps each, on batches of random odd sizes."""
    import cskd_tf  # before Keras, because it chooses TensorFlow's kernels

    import keras  # isort: skip
    import numpy as np

    generator = random.Random(seed)
    for _ in range(networks):
        keras.config.set_dtype_policy(generator.choice(["float32", "mixed_bfloat16"]))
        name = generator.choice(["stock", *OURS])
        if name == "stock":
            network = stock(generator, size=generator.choice([14, 15, 16, 18, 28, 32]))
        else:
            shape, width = (OURS[name], OURS[name], 3), generator.randint(1, 15)
            network = cskd_tf.networks.build(name, num_classes=3, input_shape=shape, width=width)
        model = cskd_tf.SelfDistiller(network)
        model.compile(cskd_tf.optimizers.SGD(0.01), jit_compile=False)
        batch = generator.choice([1, 3, 5, 7, 9, 11, 13, 33])
        for _ in range(20):
            images = np.ones((batch, *network.input_shape[1:]), "float32")
            model.train_on_batch(images, np.arange(batch) % 3)


def main(argv):
    del argv
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    died = {}
    for seed in range(FIRST.value, FIRST.value + SEEDS.value):
        calls = f"gradients({seed}, layers={LAYERS.value}); narrow.train({seed}, networks={NETWORKS.value})"
        code = f"from benchmarks import narrow_networks as narrow; narrow.{calls}"
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        if done.returncode:
            died[seed] = done.stderr.strip().splitlines()[-1:] or [str(done.returncode)]
            died[seed] = f"{done.returncode}: {died[seed][0][:120]}"
    line = {"processes": SEEDS.value, "layers": LAYERS.value, "networks": NETWORKS.value, "died": died}
    kernels = os.environ.get("ONEDNN_MAX_CPU_ISA")
    results.record(
        "narrow_networks",
        {"benchmark": "narrow_networks", **line, "onednn": f"on, at most {kernels}" if kernels else "on"},
    )


if __name__ == "__main__":
    app.run(main)
