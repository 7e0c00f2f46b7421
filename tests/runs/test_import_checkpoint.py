"""The mode that makes a run of a checkpoint; what PyTorch reads is put in its place, so that it need not be there."""

import numpy as np
import pytest

from cskd_tf.evaluation.metrics import negative_log_likelihood
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.runs import assess, import_checkpoint, train
from cskd_tf.runs.workdir import Workdir
from tests.helpers import ALONE, files, preact_resnet10_weights

IMPORT = ("--mode=import", "--checkpoint=ckpt.t7", "--workdir=run", *ALONE)


@pytest.fixture(autouse=True)
def weights(monkeypatch):
    made = preact_resnet10_weights()
    monkeypatch.setattr(import_checkpoint, "read_torch_checkpoint", lambda path: made)
    return made


@pytest.mark.thorough
def test_an_import_is_a_finished_run_that_says_where_it_is_from(command, tmp_path):
    code, printed = command(*IMPORT)
    assert code == 0, printed
    assert "CSKD(temperature=4, weight=1) (imported)" in " ".join(printed.split())
    run = Workdir(tmp_path / "run")
    assert run.metrics()["imported_from"] == "ckpt.t7"
    assert 0 < run.metrics()["test"]["top1_error"] <= 1
    before = files(tmp_path / "run")
    code, printed = command(*IMPORT)
    assert (code, "new or empty workdir to import to" in printed) == (1, True)
    code, printed = command("--workdir=run", *ALONE)  # training leaves it as it is
    assert code == 0, printed
    assert files(tmp_path / "run") == before
    (result,) = assess.answer(assess.Question(split="val"), "run").values()
    saved = Predictions.load(run.predictions("val"))
    assert result["metrics"]["nll"] == pytest.approx(negative_log_likelihood(saved.logits, saved.labels), rel=1e-6)


@pytest.mark.thorough
def test_an_interrupted_import_is_completed_by_itself_alone(command, monkeypatch, tmp_path):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train, "finish", interrupt)
        code, _ = command(*IMPORT)
        assert code == 130
    before = files(tmp_path / "run")
    for arguments, message in (
        (("--workdir=run", *ALONE), "an import was interrupted; --mode=import --checkpoint=ckpt.t7 completes it"),
        (("--mode=import", "--checkpoint=other.t7", "--workdir=run", *ALONE), "new or empty workdir to import to"),
    ):
        code, printed = command(*arguments)
        assert (code, message in printed) == (1, True), printed
    assert files(tmp_path / "run") == before
    code, printed = command(*IMPORT)
    assert code == 0, printed
    assert Workdir(tmp_path / "run").metrics()["imported_from"] == "ckpt.t7"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--mode=import", "--workdir=run"), "--mode=import and --checkpoint=FILE together"),
        (("--checkpoint=ckpt.t7", "--workdir=run"), "--mode=import and --checkpoint=FILE together"),
        ((*IMPORT, "--config.network.width=8"), "(16, 1, 3, 3) in the file, (8, 1, 3, 3) in the network"),
        (
            (*IMPORT, "--config.network.name=resnet10", "--config.data.augment.image_size=32"),
            "stage2_block1_shortcut_bn/gamma",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(command, arguments, message, tmp_path):
    code, printed = command(*arguments)
    assert (code, message in printed) == (1, True), printed
    assert not (tmp_path / "run").exists()


def test_another_network_is_refused_before_the_data_are_prepared(command, monkeypatch):
    def prepare(config):
        raise AssertionError

    monkeypatch.setattr(import_checkpoint, "prepare", prepare)
    code, printed = command(*IMPORT, "--config.network.name=preact_resnet18")
    assert (code, "stage1_block2_bn1/gamma" in printed) == (1, True), printed


def test_other_classes_than_the_datas_are_refused(command, weights, tmp_path):
    weights["linear.weight"], weights["linear.bias"] = np.zeros((7, 128), "float32"), np.zeros(7, "float32")
    code, printed = command(*IMPORT)
    assert (code, "linear.weight: (7, 128) in the file, (10, 128) in the network" in printed) == (1, True), printed
    assert not (tmp_path / "run").exists()


def test_an_interrupted_import_is_completed_however_its_file_is_called(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert import_checkpoint._is_same("ckpt.t7", str(tmp_path / "." / "ckpt.t7"))
    assert not import_checkpoint._is_same("ckpt.t7", "other.t7")
    assert not import_checkpoint._is_same(None, "ckpt.t7")
