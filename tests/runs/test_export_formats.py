"""Exports for other runtimes as a run makes them: beside the SavedModel, or none of them, and no SavedModel either."""

import importlib.util
import json

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.errors import UserError
from cskd_tf.runs import export, train
from cskd_tf.runs.config import Config
from cskd_tf.runs.workdir import Workdir
from cskd_tf.serving import saved_model
from cskd_tf.serving.runtimes import formats
from cskd_tf.serving.runtimes.litert import LiteRt
from tests.helpers import files
from tests.runs.helpers import config_of


def with_formats(run, *names, **changes):
    values = run.config().as_dict()
    values["export"] |= {"formats": list(names), **changes}
    return Config.read(values)


@pytest.mark.parametrize(
    ("formats", "opset", "why"),
    [
        (("onnxx",), 17, r"Unknown format; expected some of \['onnx', .*'web'\]. Received: export.formats=\['onnxx'\]"),
        (("onnx", "onnx"), 17, "Expected each format once"),
        (("onnx", 3), 17, r"Unknown format.* Received: export.formats=\[3\]"),
        (("onnx",), 11, "Expected export.opset to be at least 13. Received: export.opset=11"),
        (("onnx",), 19, "Expected export.opset to be at most 18. Received: export.opset=19"),
    ],
)
def test_what_is_no_format_is_refused_as_a_config(formats, opset, why):
    with pytest.raises(UserError, match=why):
        config_of({"export.formats": formats, "export.opset": opset})


def test_packages_that_are_missing_are_named_with_their_extras_before_anything_is_done(monkeypatch, tmp_path):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in ("onnx", "ai_edge_litert") else there(name)
    )
    config = config_of(
        {"export.formats": ("litert", "litert_int8", "openvino"), "export.directory": str(tmp_path / "m")}
    )
    with pytest.raises(UserError, match=r"pip install '.\[litert,openvino\]' .*Received: no ai_edge_litert, .*onnx"):
        train.train(config, Workdir(tmp_path / "run"))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def unchecked(monkeypatch):
    """Leaves out the process of its own, of which tests/runs/test_train_main.py is."""
    monkeypatch.setattr(saved_model, "difference_in_fresh_process", lambda *_: 0.0)


@pytest.mark.runtimes
@pytest.mark.usefixtures("unchecked")
@pytest.mark.filterwarnings("default::DeprecationWarning")
def test_every_format_beside_the_saved_model(exported_run, tmp_path):
    names = list(formats.FORMATS)
    if missing := [package for form in formats.FORMATS.values() for package in form.missing()]:
        pytest.skip(f"requirements-export.txt: {missing}")
    metrics = (exported_run.path / "metrics.json").read_bytes()
    try:
        config = with_formats(exported_run, *names, directory=str(tmp_path))
        target = export.export_run(exported_run, config=config)
    finally:
        (exported_run.path / "metrics.json").write_bytes(metrics)
    folder = target / "runtimes"
    assert {path.name for path in folder.iterdir()} == {*names, "parity.json"}
    assert {path.name for path in (folder / "web").iterdir()} == {
        "index.html", "model.onnx", "classes.json", "README.md"
    }  # fmt: skip
    reports = json.loads((folder / "parity.json").read_text())
    assert set(reports) == set(names)
    assert max(reports[name]["largest_difference"] for name in names if formats.FORMATS[name].exact) < 1e-5
    model = tf.saved_model.load(str(target))
    served = model.serve(np.full((2, 20, 9, 1), 77, np.uint8))
    run = formats.FORMATS["onnx"].load(folder / "onnx")
    np.testing.assert_allclose(
        run(np.full((2, 20, 9, 1), 77, np.uint8))["probabilities"], served["probabilities"], atol=1e-5
    )
    card = (target / "README.md").read_text()
    assert all(f"| `runtimes/{name}/` | {reports[name]['bytes'] / 1e6:.2f} | " in card for name in names)


@pytest.mark.runtimes
@pytest.mark.usefixtures("unchecked")
def test_a_format_that_differs_publishes_nothing(exported_run, exported_folder, monkeypatch):
    pytest.importorskip("ai_edge_litert", reason="requirements-export.txt")
    right, before, metrics = LiteRt.load, files(exported_folder.parent), files(exported_run.path)

    def wrong(form, folder):
        run = right(form, folder)
        return lambda pixels: run(255 - pixels)  # as a runtime that reads colours inside out

    monkeypatch.setattr(LiteRt, "load", wrong)
    with pytest.raises(
        UserError, match=r"Expected litert to return what the SavedModel does; .* Nothing was published"
    ):
        export.export_run(exported_run, config=with_formats(exported_run, "litert"))
    assert files(exported_folder.parent) == before
    assert files(exported_run.path) == metrics
