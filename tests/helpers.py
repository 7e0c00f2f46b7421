"""What several test files build."""

import ast
import dataclasses
import pathlib
import re

import keras
import numpy as np
import tensorflow as tf

from configs import digits
from cskd_tf import data
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.methods import CSKD
from cskd_tf.runs.config import Config
from cskd_tf.runs.workdir import Workdir
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.optimizers import SGD

ROOT = pathlib.Path(__file__).resolve().parent.parent
GONE = 2**22  # more than any process has as its number
# What keeps a run of the command line to itself, quiet and without an export; and what makes it a matter of seconds.
ALONE = ("--config.baseline=False", "--config.verbose=0", "--config.export.enabled=False")
SMALL = ("--config.data.split.train_per_class=4", "--config.network.width=4", "--config.batch_size=16")
EVALUATION_LOGS = ["val_top1_error", "val_top5_error", "val_nll", "val_ece", "val_recall_at_1", "val_aurc"]


def compiled(network, methods=(), *, learning_rate=0.1, momentum=0.0, weight_decay=0.0, **kwargs):
    """A `SelfDistiller` around `network` with plain SGD."""
    model = SelfDistiller(network, methods, **kwargs)
    model.compile(SGD(learning_rate, momentum=momentum, weight_decay=weight_decay))
    return model


def check_static(function, *inputs):
    """A `tf.function(jit_compile=True)` becomes a program as a TPU takes it: static shapes, and no calls of the host.

    In HLO a dynamic dimension is written `<=8`.
    """
    program = function.experimental_get_compiler_ir(*inputs)(stage="hlo")
    assert "ENTRY" in program
    assert "<=" not in program
    assert re.findall(r" (custom-call|send|recv|infeed|outfeed)[-\w]*\(.*", program) == []


def trainable_model(network, **settings):
    """CS-KD around `network`, with the variables of its optimizer, as checkpoints need them."""
    model = SelfDistiller(network, [CSKD()])
    model.compile(SGD(**{"learning_rate": 0.05, **settings}))
    model.optimizer.build(model.trainable_variables)
    return model


def staged_network(shape, *, classes):
    """A small classifier with three stages: of the image's size, and twice of one pixel; an embedding of 5."""
    inputs = keras.Input(shape)
    first = keras.layers.Identity(name="stage1")(keras.layers.Dense(3, activation="tanh")(inputs))
    hidden = keras.layers.Dense(4, activation="tanh")(keras.layers.Flatten()(first))
    second = keras.layers.Identity(name="stage2")(keras.layers.Reshape((1, 1, 4))(hidden))
    third = keras.layers.Identity(name="stage3")(keras.layers.Dense(5, activation="tanh")(second))
    return keras.Model(inputs, keras.layers.Dense(classes)(keras.layers.Flatten()(third)))


def load_splits(name, *, check_files=True, check_sizes=True, **options):
    """`data.load_splits` of the options of either kind, by their names."""
    kinds = {field.name: kind for kind in (data.SourceOptions, data.SplitOptions) for field in dataclasses.fields(kind)}
    source, split = (
        kind(**{key: value for key, value in {"name": name, **options}.items() if kinds[key] is kind})
        for kind in (data.SourceOptions, data.SplitOptions)
    )
    return data.load_splits(source, split, check_files=check_files, check_sizes=check_sizes)


def _batch_norm_shapes(name, channels):
    return {f"{name}.{kind}": (channels,) for kind in ("weight", "bias", "running_mean", "running_var")}


def preact_resnet10_shapes(*, width, classes=10):
    """What the CS-KD code saves of a `CIFAR_ResNet10`, by hand; O, I, H, W."""
    shapes = {"conv1.weight": (width, 1, 3, 3), **_batch_norm_shapes("bn1", width)}
    inputs = width
    for stage in range(1, 5):
        outputs, block = width * 2 ** (stage - 1), f"layer{stage}.0"
        shapes |= _batch_norm_shapes(f"{block}.bn1", inputs) | _batch_norm_shapes(f"{block}.bn2", outputs)
        shapes[f"{block}.conv1.weight"] = (outputs, inputs, 3, 3)
        shapes[f"{block}.conv2.weight"] = (outputs, outputs, 3, 3)
        if stage > 1:
            shapes[f"{block}.shortcut.0.weight"] = (outputs, inputs, 1, 1)
        inputs = outputs
    return shapes | {"linear.weight": (classes, inputs), "linear.bias": (classes,)}


def preact_resnet10_weights(*, width=16, low=0.1, high=0.2):
    """Weights in those shapes, drawn uniformly, as a checkpoint has them."""
    generator = np.random.default_rng(0)
    shapes = preact_resnet10_shapes(width=width)
    return {name: generator.uniform(low, high, shape).astype("float32") for name, shape in shapes.items()}


def modes():
    """Those of `train_main.py`, which to import is to define its flags."""
    tree = ast.parse((ROOT / "train_main.py").read_text())
    (found,) = [node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "MODES"]
    return tuple(ast.literal_eval(found))


def random_split():
    """Logits and labels of 200 images of six classes."""
    generator = np.random.default_rng(0)
    return generator.normal(size=(200, 6)) * 2, generator.integers(0, 6, 200)


def softmax(logits):
    """Probabilities along the last axis, in numpy."""
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


def files(folder):
    """Every file of a folder and what is in it: `{path: bytes}`."""
    return {path: path.read_bytes() for path in pathlib.Path(folder).rglob("*") if path.is_file()}


def finished_run(path, *, seed, labels, split_seed=0, **changes):
    """A workdir of a run of the default config that has finished, with random predictions, and their logits."""
    config = digits.get_config()
    config.update(changes)
    config.seed, config.data.split.seed = seed, split_seed
    run = Workdir(path)
    run.claim(Config.read(config))
    generator = np.random.default_rng(seed)
    logits = 2 * np.eye(3)[labels] + generator.normal(size=(len(labels), 3))
    predictions = Predictions(logits, labels, generator.normal(size=(len(labels), 2)))
    predictions.save(run.predictions("test"))
    run.write_metrics({"test": {**predictions.metrics(ece_bins=20), "ece_bins": 20}})
    return run, logits


def untune_data_sets():
    """Makes the data sets of tests and of Keras as those of the package (`data.sources.passes`).

    The thread that tunes them sleeps through the end of an iterator, for as long as it lived.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    # TensorFlow calls this for each data set, and nothing public.
    tf.data.Dataset._apply_debug_options = lambda dataset: tf.data.Dataset.with_options(dataset, options)
