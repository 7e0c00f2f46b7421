"""Files that PyTorch wrote: every form that the public code saves, the hostile ones, and the run made of one."""

import json
import os
import pickle
import re

import numpy as np
import pytest

from cskd_tf import networks
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.networks.torch_weights import load_torch_weights, read_torch_checkpoint
from cskd_tf.runs.evaluate import load_run
from cskd_tf.runs.workdir import Workdir
from tests.helpers import ALONE, ROOT

torch = pytest.importorskip("torch", reason="PyTorch, an optional extra, is not installed: make parity installs it")
from tests.networks import torch_networks  # noqa: E402  (imports torch)

pytestmark = pytest.mark.parity
SIZE = {"classes": 10, "channels": 1, "width": 16}  # the network of the default config


@pytest.fixture
def reference():
    torch.manual_seed(0)
    return torch_networks.NETWORKS["preact_resnet10"](**SIZE).eval()


def of_cskd(reference):
    """As CS-KD's train.py saves, with the optimiser."""
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.1, momentum=0.9).state_dict()
    training = {"optimizer": optimizer, "acc": torch.tensor(71.5), "epoch": 3, "rng_state": torch.get_rng_state()}
    return {"net": reference.state_dict(), **training}


def parallel(reference):
    return {f"module.{name}": value for name, value in reference.state_dict().items()}


def half(reference):
    state = reference.state_dict()
    return {name: value.half() if value.is_floating_point() else value for name, value in state.items()}


@pytest.mark.parametrize(
    ("content", "options", "tolerance"),
    [
        pytest.param(of_cskd, {}, 1e-5, id="cskd"),
        pytest.param(lambda network: of_cskd(network) | {"net": parallel(network)}, {}, 1e-5, id="data_parallel"),
        pytest.param(of_cskd, {"_use_new_zipfile_serialization": False}, 1e-5, id="before_1.6"),
        pytest.param(lambda network: {"state_dict": parallel(network), "arch": "x"}, {}, 1e-5, id="state_dict"),
        pytest.param(lambda network: network.state_dict(), {}, 1e-5, id="bare"),
        pytest.param(
            lambda network: network.state_dict() | dict(network.named_parameters()), {}, 1e-5, id="parameters"
        ),
        pytest.param(half, {}, 1e-2, id="half"),
    ],
)
def test_every_form_of_checkpoint_is_read(content, options, tolerance, reference, tmp_path):
    torch.save(content(reference), tmp_path / "ckpt.t7", **options)
    weights = read_torch_checkpoint(tmp_path / "ckpt.t7")
    network = networks.build("preact_resnet10", num_classes=10, input_shape=(16, 16, 1), width=16)
    load_torch_weights(network, weights)
    images = np.random.default_rng(0).normal(size=(4, 16, 16, 1)).astype("float32")
    with torch.no_grad():
        expected = reference(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(network(images), expected, atol=tolerance)


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_hostile_file_is_refused_and_not_executed(reference, tmp_path):
    for number, write in enumerate(
        (torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2)))
    ):
        trap = tmp_path / f"executed{number}"
        write({"net": reference.state_dict() if not number else {}, "x": Hostile(trap)}, tmp_path / "ckpt.t7")
        message = r"Expected a PyTorch checkpoint of weights only. Received: .*ckpt.t7 \([Uu]nsupported .*mkdir"
        with pytest.raises(ValueError, match=message) as error:
            read_torch_checkpoint(tmp_path / "ckpt.t7")
        assert "\x1b" not in str(error.value)
        assert not trap.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "which is no file"),
        (b"", "a PyTorch checkpoint of weights only"),
        (b"not a checkpoint", "a PyTorch checkpoint of weights only"),
        (b"epoch,acc\n1,0.5\n", "a PyTorch checkpoint of weights only"),
        (b"state", "a PyTorch checkpoint of weights only"),
        (b"G12", "a PyTorch checkpoint of weights only"),
        ([1, 2], "a state dict, alone or under 'net'.*list"),
        ({"epoch": 3, "acc": 0.5}, r"with \['acc', 'epoch'\]"),
        ({"net": {}}, "Received: .* with"),
    ],
)
def test_what_is_no_checkpoint_is_refused(content, message, tmp_path):
    path = tmp_path / "ckpt.t7"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        read_torch_checkpoint(path)


def test_older_and_newer_names_of_torchvision_mean_the_same():
    torch.manual_seed(0)
    reference = torch_networks.NETWORKS["densenet121"](classes=3, width=4)
    weights = {key: value.numpy() for key, value in reference.state_dict().items() if value.ndim}
    older = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", key): value for key, value in weights.items()}
    assert older.keys() != weights.keys()
    made = []
    for names in (weights, older):
        network = networks.build("densenet121", num_classes=3, input_shape=(32, 32, 3), width=4)
        load_torch_weights(network, names)
        made.append(network(np.ones((2, 32, 32, 3), "float32")))
    np.testing.assert_array_equal(*made)


def test_the_example_of_the_docs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    reference = torch_networks.NETWORKS["resnet18"](classes=1000).eval()
    torch.save(reference.state_dict(), "resnet18.pth")
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "pytorch.md").read_text(), re.DOTALL)
    names = {}
    exec(compile(example, "docs/pytorch.md", "exec"), names)
    images = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype("float32")
    with torch.no_grad():
        expected = reference(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()
    network = networks.build("resnet18", num_classes=1000, input_shape=(64, 64, 3))
    network.set_weights(names["network"].get_weights())
    np.testing.assert_allclose(network(images), expected, rtol=1e-4, atol=1e-4)


def test_import_makes_a_finished_run(command, reference, tmp_path, caplog):
    path = tmp_path / "ckpt.t7"
    torch.save(of_cskd(reference) | {"net": parallel(reference)}, path)
    with caplog.at_level("INFO", logger="absl"):
        code, printed = command("--mode=import", f"--checkpoint={path}", "--workdir=run", *ALONE)
    assert code == 0, printed
    # Stem 5, four blocks of two batch norms and convolutions, three shortcuts, a kernel and a bias.
    assert f"imported {5 + 4 * 10 + 3 + 2} weights from {path}" in caplog.text
    assert "digits, preact_resnet10" in printed  # the report
    run = Workdir(tmp_path / "run")
    metrics = run.metrics()
    assert metrics["imported_from"] == str(path)
    experiment = load_run(run)
    images = np.concatenate([images for images, _ in experiment.evaluation_data("test").as_numpy_iterator()])
    with torch.no_grad():
        expected = reference(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()
    predictions = Predictions.load(run.predictions("test"))
    np.testing.assert_allclose(predictions.logits, expected, atol=1e-4)
    assert metrics["test"]["top1_error"] == pytest.approx(np.mean(expected.argmax(1) != predictions.labels))
    before = json.dumps(metrics)
    for mode, options in (("evaluate", ()), ("export", ()), ("train", ALONE)):
        code, printed = command(f"--mode={mode}", "--workdir=run", *options)
        assert code == 0, printed
    assert {**run.metrics(), "saved_model": None} == {**json.loads(before), "saved_model": None}
    assert (tmp_path / "saved_models" / "run" / "1").is_dir()
