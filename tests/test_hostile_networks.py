"""Networks and weights that others have made, with code in them or worse, at every door: nothing of it runs.

What PyTorch's reader refuses more: tests/networks/test_torch_import.py.
"""

import contextlib
import json
import os
import pickle
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest

from cskd_tf.errors import UserError
from cskd_tf.methods.teacher import Teacher
from cskd_tf.networks.weights import load_into
from cskd_tf.runs.experiment import prepare
from tests.helpers import ALONE, files
from tests.hostile import Pickled, npz_of
from tests.runs.helpers import config_of


def small_network():
    images = keras.Input((4, 4, 1))
    return keras.Model(images, keras.layers.Dense(3)(keras.layers.Dense(2)(keras.layers.Flatten()(images))))


def keras_file(path, change=lambda layer: layer, **members):
    """A network's file in which the config of its first hidden layer is changed, and members are replaced or added."""
    images = keras.Input((4, 4, 1))
    keras.Model(images, keras.layers.Dense(3)(keras.layers.Flatten(name="hidden")(images))).save(path)
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(contents["config.json"])
    layers = config["config"]["layers"]
    layers[1] = change(layers[1])
    contents |= {"config.json": json.dumps(config).encode(), **members}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            if content is not None:
                archive.writestr(name, content)


def of_class(name, of, **config):
    """A change of a layer into another class of module `of`."""
    return lambda layer: {
        **layer, "class_name": name, "module": of, "registered_name": None, "config": {"name": "hidden", **config},
    }  # fmt: skip


def a_lambda(path, canary):
    trap = str(canary)
    keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Lambda(lambda x: os.mkdir(trap) or x)]).save(path)
    canary.rmdir()  # made while the network was built


KERAS_TRAPS = {
    "a lambda": a_lambda,
    "a class of a module here": lambda path, canary: keras_file(path, of_class("Network", "evil")),
    "a function of a module here": lambda path, canary: keras_file(
        path, of_class("Activation", "keras.layers", activation={
            "module": "evil", "class_name": "function", "config": "network", "registered_name": "network",
        }),
    ),
    "a function of the system": lambda path, canary: keras_file(
        path, of_class("Activation", "keras.layers", activation={
            "module": "os", "class_name": "function", "config": "mkdir", "registered_name": "mkdir",
        }),
    ),
    "a download": lambda path, canary: keras_file(
        path, of_class("Activation", "keras.layers", activation={
            "module": "keras.utils", "class_name": "function", "config": "get_file", "registered_name": "get_file",
        }),
    ),
    "a pickled module of PyTorch": lambda path, canary: keras_file(
        path, of_class("TorchModuleWrapper", "keras.layers", module=pickle.dumps(Pickled(canary)).decode("latin1")),
    ),
    "a SavedModel": lambda path, canary: keras_file(
        path, of_class("TFSMLayer", "keras.layers", filepath=str(canary.parent), call_endpoint="serve"),
    ),
    "pickled weights": lambda path, canary: keras_file(
        path, **{
            "model.weights.h5": None,
            "model.weights.npz": npz_of(__root__=np.array([Pickled(canary)], object)),
        },
    ),
    "a config of 5 GB": lambda path, canary: keras_file(path, **{"config.json": b" " * 2**28}),
    "a pickle": lambda path, canary: path.write_bytes(pickle.dumps(Pickled(canary))),
    "itself as its teacher": lambda path, canary: keras_file(
        path, lambda layer: {
            "module": None, "class_name": "SelfDistiller", "registered_name": "cskd_tf>SelfDistiller",
            "config": {"network": None, "methods": [{"name": "Distillation", "teacher": str(path)}]},
        },
    ),
}  # fmt: skip


# By what a `.keras` file is read, and what is said to be expected.
DOORS = {
    "a teacher": (Teacher, "a teacher"),
    "weights of a file": (lambda path: load_into(small_network(), str(path)), "network.weights"),
    "weights of a folder": (lambda path: load_into(small_network(), str(path.parent)), "network.weights"),
}


# A file that is 256 MiB unpacked takes seconds.
BIG = "a config of 5 GB"
CASES = [
    pytest.param(
        trap, door, marks=[(pytest.mark.thorough if door == "a teacher" else pytest.mark.slow)] * (trap == BIG)
    )
    for trap in KERAS_TRAPS
    for door in DOORS
]


@pytest.mark.parametrize(("trap", "door"), CASES)
def test_a_network_with_code_in_it_is_refused(trap, door, canary):
    path = canary.with_name("classifier.keras")
    KERAS_TRAPS[trap](path, canary)
    enter, what = DOORS[door]
    with pytest.raises(UserError, match=f"Expected {what} that Keras can load. Received: .*classifier.keras") as error:
        enter(path)
    assert "\n" not in str(error.value)
    assert not canary.exists()
    assert not any(name in sys.modules for name in ("evil", "given.evil"))


def test_a_teacher_unpacks_nothing_beside_itself(canary):
    path = canary.with_name("classifier.keras")
    outside = dict.fromkeys(("../../outside", "/tmp/outside_of_cskd_tf", "assets/../../outside"), b"outside")
    keras_file(path, **outside)
    before = set(canary.parent.parent.rglob("outside"))
    with contextlib.suppress(UserError):  # Keras warns, which is an error in tests
        Teacher(path)
    assert set(canary.parent.parent.rglob("outside")) == before
    assert not os.path.exists("/tmp/outside_of_cskd_tf")


@pytest.mark.parametrize(
    "settings",
    [
        {"methods": ({"name": "Distillation", "teacher": "given"},)},
        {"network.weights": "given"},
        {"network.weights": "given/classifier.keras"},
    ],
)
def test_the_config_of_a_run_is_no_other_door(settings, canary):
    folder = canary.with_name("given")
    folder.mkdir()
    KERAS_TRAPS["a lambda"](folder / "classifier.keras", canary)
    with pytest.raises(UserError, match=r"Expected (a teacher|network.weights) that Keras can load"):
        prepare(config_of({"network.name": "preact_resnet10", "network.width": 2, **settings}))
    assert not canary.exists()


@pytest.mark.parametrize("name", ["weights.npz", "weights.pth", "weights.pt", "weights.t7", "weights.pkl", "weights"])
def test_weights_of_other_forms_are_not_opened(name, canary):
    canary.with_name(name).write_bytes(pickle.dumps(Pickled(canary)))
    with pytest.raises(UserError, match=r"Expected network.weights as a .keras or .h5 file"):
        load_into(small_network(), str(canary.with_name(name)))
    assert not canary.exists()


def _replaced(file, name, secret):
    """Takes a dataset away and puts other numbers beside the file; returns its shape."""
    shape = file[name].shape
    del file[name]
    with h5py.File(secret.with_suffix(".h5"), "w") as other:
        other["secret"] = np.full(shape, 7, "float32")
    secret.write_bytes(np.full(shape, 7, "float32").tobytes())
    return shape


def an_external_link(file, name, secret):
    _replaced(file, name, secret)
    file[name] = h5py.ExternalLink(secret.with_suffix(".h5"), "/secret")


def an_external_link_to_a_group(file, name, secret):
    group = name.rpartition("/")[0]
    with h5py.File(secret.with_suffix(".h5"), "w") as other:
        file.copy(group, other, "secret")
    del file[group]
    file[group] = h5py.ExternalLink(secret.with_suffix(".h5"), "/secret")


def an_external_dataset(file, name, secret):
    shape = _replaced(file, name, secret)
    file.create_dataset(name, shape, "float32", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def a_virtual_dataset(file, name, secret):
    shape = _replaced(file, name, secret)
    layout = h5py.VirtualLayout(shape, "float32")
    layout[...] = h5py.VirtualSource(str(secret.with_suffix(".h5")), "secret", shape)
    file.create_virtual_dataset(name, layout)


def a_soft_link(file, name, secret):
    _replaced(file, name, secret)
    file[name] = h5py.SoftLink("/" + name)


def a_huge_dataset(file, name, secret):
    del file[name]
    file.create_dataset(name, (2**20, 2**20), "float32", chunks=(2**10, 2**10), compression="gzip")


def a_pickle_in_place_of_numbers(file, name, secret):
    del file[name]
    file.create_dataset(name, data=np.void(pickle.dumps(Pickled(secret.with_name("canary")))))


ELSEWHERE = (an_external_link, an_external_link_to_a_group, an_external_dataset, a_virtual_dataset, a_soft_link)


@pytest.mark.parametrize("name", ["given.weights.h5", "given.h5"])  # of either form, which two readers read
@pytest.mark.parametrize("trap", [*ELSEWHERE, a_huge_dataset, a_pickle_in_place_of_numbers])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")
def test_weights_of_hdf5_are_those_of_the_file_alone(trap, name, canary):
    path = canary.with_name(name)
    network = small_network()
    (network.save_weights if ".weights" in name else network.save)(path)
    found = []
    with h5py.File(path, "r+") as file:
        file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
        trap(file, next(name for name in found if file[name].ndim == 2), canary.with_name("secret"))
    expected = "weights that lie in the file itself" if trap in ELSEWHERE else "weights of the same network"
    with pytest.raises(UserError, match=f"Expected {expected}.* Received: .*{name}") as error:
        load_into(network, str(path))
    assert "\n" not in str(error.value)
    assert not any((weight.numpy() == 7).any() for weight in network.weights)
    assert not canary.exists()


def a_zip_of_pytorch(content):
    """What `torch.save` writes, with another pickle in it."""

    def write(path, canary):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(content(canary), protocol=2))
            archive.writestr("archive/version", "3\n")

    return write


PYTORCH_TRAPS = {
    "a pickle": lambda path, canary: path.write_bytes(pickle.dumps({"net": Pickled(canary)}, protocol=2)),
    "several pickles": lambda path, canary: path.write_bytes(
        b"".join(pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, {}, Pickled(canary), []))
    ),
    "a zip": a_zip_of_pytorch(Pickled),
    "a zip with a state dict": a_zip_of_pytorch(lambda canary: {"net": {"conv1.weight": Pickled(canary)}}),
}


@pytest.mark.parametrize("name", ["given.pth", "given.pt"])
@pytest.mark.parametrize("trap", PYTORCH_TRAPS)
def test_a_checkpoint_with_code_in_it_is_not_imported(trap, name, command, canary):
    pytest.importorskip("torch", reason="PyTorch, an optional extra, is not installed: make parity installs it")
    PYTORCH_TRAPS[trap](canary.with_name(name), canary)
    before = files(canary.parent)
    code, printed = command("--mode=import", f"--checkpoint={name}", "--workdir=run", *ALONE)
    assert code == 1
    assert f"error: Expected a PyTorch checkpoint of weights only. Received: {name} (" in printed, printed
    assert "Traceback" not in printed
    assert not canary.exists()
    there = files(canary.parent)
    assert {path: there[path] for path in there if "__pycache__" not in path.parts} == before
