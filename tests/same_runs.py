"""Whether two runs, each in the folder `run` of one of its own, did the same: files, logs, numbers and variables."""

import collections
import re

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.runs import markers
from cskd_tf.runs.workdir import Workdir
from tests.helpers import files


def check_files(folder, expected, *, starts):
    """The same files as often, but for what tells the process that wrote them: TensorBoard's, of one that is started
    again, are more."""
    counts = []
    for path in (folder, expected):
        names = [str(file.relative_to(path)) for file in files(path / "run") | files(path / "saved_models")]
        counts.append(collections.Counter(re.sub(r"tfevents.*", "tfevents", name) for name in names))
    assert counts[0].keys() == counts[1].keys()
    for name, count in counts[0].items():
        most = counts[1][name] * (starts if name.endswith("tfevents") else 1)
        assert counts[1][name] <= count <= most, name


def numbers(value, name=""):
    """The leaves of a JSON value, by where they stand in it."""
    if isinstance(value, (dict, list)):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return {leaf: number for key, part in pairs for leaf, number in numbers(part, f"{name}/{key}").items()}
    return {name: value}


def check_numbers(mine, theirs, *, exactly, but_for=()):
    """Two JSON values have the same keys, texts and, to rounding, numbers."""
    mine, theirs = numbers(mine), numbers(theirs)
    assert mine.keys() == theirs.keys()
    for name in mine:
        if name.rpartition("/")[2] not in but_for:
            same = exactly or not isinstance(theirs[name], float)
            assert mine[name] == (theirs[name] if same else pytest.approx(theirs[name], rel=1e-5, abs=1e-6)), name


def check_checkpoints(folder, expected, *, exactly, within):
    """The same checkpoints, of which the markers say the same but for checksums; with the same variables."""
    roots = folder / "run/checkpoints", expected / "run/checkpoints"
    mine, theirs = ({path.relative_to(root): path for path in root.rglob("ckpt-*.json")} for root in roots)
    assert mine.keys() == theirs.keys() != set()
    for name in mine:
        contents = [markers.read(path.with_suffix("")) for path in (mine[name], theirs[name])]
        sizes = [{part: file["bytes"] for part, file in content.pop("files").items()} for content in contents]
        assert sizes[0] == sizes[1] != {}
        check_numbers(*contents, exactly=exactly)
        readers = [tf.train.load_checkpoint(str(path.with_suffix(""))) for path in (mine[name], theirs[name])]
        shapes = [reader.get_variable_to_shape_map() for reader in readers]
        assert shapes[0] == shapes[1]
        for variable in shapes[0].keys() - {"_CHECKPOINTABLE_OBJECT_GRAPH"}:
            values = [reader.get_tensor(variable) for reader in readers]
            if exactly or not np.issubdtype(np.asarray(values[0]).dtype, np.floating):
                np.testing.assert_array_equal(*values, err_msg=variable)
            else:
                # Where rounding takes one unit to the other side of zero, gradients before it jump by 1e-4.
                largest = max(1.0, np.abs(values[1]).max())  # as AdaCos' scale is
                tolerance = 2e-3 if variable.startswith("optimizer/") else within * largest
                np.testing.assert_allclose(*values, rtol=0, atol=tolerance, err_msg=variable)


def check_same(folder, expected, *, exactly=False, within=5e-5, starts=1):
    check_files(folder, expected, starts=starts)
    mine, theirs = (Workdir(path / "run") for path in (folder, expected))
    # Ties of confidences may fall either way.
    but_for = {"seconds", "replicas", "val_aurc", "aurc"}
    for entries in zip(mine.log(), theirs.log(), strict=True):
        check_numbers(*entries, exactly=exactly, but_for=but_for)
    check_numbers(mine.metrics(), theirs.metrics(), exactly=exactly, but_for=but_for)
    check_checkpoints(folder, expected, exactly=exactly, within=within)
    mine, theirs = (Predictions.load(path / "run/predictions_test.npz") for path in (folder, expected))
    np.testing.assert_array_equal(mine.labels, theirs.labels)
    tolerance = max(1e-5, 2e-6 * np.abs(theirs.logits).max())  # of weights within 1e-6, times AdaCos' scale
    np.testing.assert_allclose(mine.logits, theirs.logits, rtol=0, atol=0 if exactly else tolerance)


def epochs_done(folder):
    log = folder / "run/log.jsonl"
    return len(log.read_text().splitlines()) if log.exists() else 0
