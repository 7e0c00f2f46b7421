"""Four logical CPUs, a fixed seed for every test, and small things that many tests need."""

import gc
import os
import runpy
import shutil
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tests import keras_home  # noqa: F401, before Keras, to which it names a folder  # isort: skip

import cskd_tf  # noqa: F401, before TensorFlow, whose kernels it chooses

import keras  # isort: skip
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from tensorflow.python.framework import config  # nothing public switches determinism off

from tests.helpers import ROOT, untune_data_sets

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 4
)


untune_data_sets()

# What was imported stays, and the graphs of the tests are many objects: else a tenth of the time goes into looking at
# them all again.
gc.collect()
gc.freeze()
gc.set_threshold(50_000, 20, 50)


@pytest.fixture(autouse=True)
def fresh_keras():
    config.disable_op_determinism()  # which a run has switched on, and with which Keras compiles nothing with XLA
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def replicas():
    """Makes a strategy of 1, 2 or 4 replicas."""

    def make(count):
        if count == 1:
            return tf.distribute.get_strategy()
        devices = [f"CPU:{number}" for number in range(count)]
        # The default reduction fails in the second strategy of one process on CPU.
        return tf.distribute.MirroredStrategy(devices, cross_device_ops=tf.distribute.ReductionToOneDevice())

    return make


@pytest.fixture
def two_replicas(replicas):
    return replicas(2)


@pytest.fixture
def images_and_labels():
    """22 images of 4 x 4 pixels in 3 classes of 6, 7 and 9: the last of 3 batches of 8 has 6."""
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [6, 7, 9])
    images = generator.normal(size=(22, 4, 4, 1)).astype("float32") + labels[:, None, None, None]
    return images, labels


@pytest.fixture
def linear_network():
    """Makes a classifier without hidden layers whose weights can be set by hand."""

    def make(classes=3, shape=(4, 4, 1), **kwargs):
        return keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(classes, **kwargs)])

    return make


@pytest.fixture
def batch_norm_network():
    """Makes a classifier whose outputs depend on the batch norm's mode."""

    def make(classes=3, shape=(4, 4, 1), dropout=0.0):
        return keras.Sequential(
            [
                keras.Input(shape),
                keras.layers.Conv2D(2, 3),
                keras.layers.BatchNormalization(momentum=0.9),
                keras.layers.ReLU(),
                keras.layers.Flatten(),
                keras.layers.Dropout(dropout),
                keras.layers.Dense(classes),
            ]
        )

    return make


@pytest.fixture
def image_folder(tmp_path):
    """Writes `train` and `test` folders of two classes, JPEG and PNG, of various sizes; returns the path."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 3)):
        for label, name in enumerate(("cat", "dog")):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                size = (20 + number, 24 - number, 3)
                pixels = generator.integers(0, 128, size, np.uint8) + np.uint8(120 * label)
                encode = tf.io.encode_jpeg if number % 2 else tf.io.encode_png
                suffix = "jpg" if number % 2 else "png"
                (folder / f"{number}.{suffix}").write_bytes(encode(pixels).numpy())
    return tmp_path / "photos"


@pytest.fixture
def canary(monkeypatch, tmp_path):
    """A folder that is made where code is run, be it unpickled, called or imported as `evil` or `given.evil`."""
    path = tmp_path / "canary"
    code = f"import os\nos.mkdir({str(path)!r})\ndef network(**_): os.mkdir({str(path)!r})\n"
    (tmp_path / "evil.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield path
    for name in ("evil", "given.evil", "given"):
        sys.modules.pop(name, None)


@pytest.fixture
def disk_of(tmp_path):
    """Makes a folder on a disk of its own, of a size as `mount` takes it: "2m"."""
    mounted = []

    def make(size):
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=False).returncode:
            pytest.skip("needs the right to mount a tmpfs")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)  # what failed may leave a file open


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """The repository as a newcomer has it, without what runs leave behind."""
    target = tmp_path_factory.mktemp("newcomer") / "cskd_tf"
    ignored = shutil.ignore_patterns(".git", ".venv", "workdirs", "site", "dist", "__pycache__", "[0-9]*")
    shutil.copytree(ROOT, target, ignore=ignored)
    return target


@pytest.fixture
def command(monkeypatch, capfd, tmp_path):
    """Runs `train_main.py` with arguments; returns its exit code and everything it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["train_main.py", *map(str, arguments)])
        defined = set(flags.FLAGS)
        try:
            runpy.run_path(str(ROOT / "train_main.py"), run_name="__main__")
        except SystemExit as leaving:
            code = leaving.code
            if isinstance(code, str):
                print(code, file=sys.stderr)  # as the interpreter does
                code = 1
        finally:
            for name in set(flags.FLAGS) - defined:
                delattr(flags.FLAGS, name)
        printed = capfd.readouterr()
        return code or 0, printed.out + printed.err

    return run
