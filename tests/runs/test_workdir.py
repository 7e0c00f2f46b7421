"""A run's folder: JSON that is written whole, that every reader takes, and how settings are named in it."""

import json
import math

import numpy as np
import pytest

from cskd_tf.runs.workdir import Workdir, flatten


def test_flatten_names_every_value():
    nested = {"a": {"b": (1, 2), "c": []}, "methods": [{"name": "CSKD"}, {"name": "Mixup"}]}
    assert flatten(nested) == {
        "a.b": [1, 2], "a.c": [], "methods[0].name": "CSKD", "methods[1].name": "Mixup",
    }  # fmt: skip


def test_json_is_written_whole(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.write_metrics({"val": {"ece": 0.5}})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"val": {"ece": 0.5}}
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_what_json_lacks_becomes_null(tmp_path):
    """Python writes NaN for a metric that is undefined, which other readers refuse."""
    workdir = Workdir(tmp_path)
    workdir.write_metrics({"val": {"recall_at_1": math.nan, "nll": [math.inf, 1.5]}, "best": (np.float64("nan"), 2)})
    assert workdir.metrics() == {"val": {"recall_at_1": None, "nll": [None, 1.5]}, "best": [None, 2]}
    workdir.append_log({"epoch": 1, "val_recall_at_1": math.nan})
    workdir.append_log({"epoch": 2, "val_recall_at_1": 0.5})
    workdir.trim_log(epochs=1)
    for name in ("metrics.json", "log.jsonl"):
        json.loads((tmp_path / name).read_text(), parse_constant=pytest.fail)
    assert workdir.log() == [{"epoch": 1, "val_recall_at_1": None}]
