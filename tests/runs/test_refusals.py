"""What `train_main.py` refuses, in one line, with nothing written or lost."""

import errno
import logging
import os
import re

import pytest
import tensorflow as tf
from absl import logging as absl_logging

from cskd_tf.runs import cli
from tests.helpers import ALONE, ROOT, SMALL, files
from tests.selection import few

QUICK = (*ALONE, *SMALL)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.epoch=3"], r"Expected a key of configs/base.py. Received: 'epoch'\nDid you mean \"epochs\""),
        (["--config.epochs=many"], r"error: Expected a whole number. Received: --config.epochs=many\n\Z"),
        (
            ["--config.schedule.learning_rate=low"],
            r"Expected a number. Received: --config.schedule.learning_rate=low\n",
        ),
        (["--config.data.augment.flip=maybe"], r"Expected True or False. Received: --config.data.augment.flip=maybe\n"),
        (["--config.optimizer.arguments=2"], r"Expected keys and values, such as {.*Received: --config.optimizer.arg"),
        (
            ["--config.schedule.milestones=(0.5, 0.75"],
            r"Expected a tuple, such as .*Received: --config.schedule.milestones=\(0.5, 0.75\n",
        ),
        (["--jobs=0"], "Expected a positive integer. Received: --jobs=0"),
        (["--config=configs/nosuch.py"], r"error: Expected a config file that is there. .*=configs/nosuch.py\n\Z"),
        (
            [f"--config={ROOT}/README.md"],
            r"\Aerror: Expected a config file, a .py file with get_config. Received: --config=.*/README.md\n\Z",
        ),
        (["--config=digit.py"], r"=digit.py\nDid you mean --config=configs/digits.py\?\n"),
        (["--against", "fonts.py"], r"Received: --against=fonts.py\nDid you mean --against=configs/fonts.py\?"),
        (["--config.SEED=1"], r"Expected a key of configs/base.py, such as .*Received: \['SEED'\]"),
        (["--config.data/augment/flip=1"], r"Expected a key of configs/base.py, .*Received: \['data/augment/flip'\]"),
        (["--config. seed=1"], r"Expected a key of configs/base.py, .*Received: \[' seed'\]"),
        (["--config.optimiser.momentum=1"], "Expected a key of configs/base.py. Received: .*optimiser"),
        (["--mode=serve"], r"Expected one of train\|sweep\|evaluate\|.*Received: --mode=serve"),
        (["train"], r"Expected flags only, launch, or predict .* Received: \['train'\]"),
        (["--config.epochs=0"], "Expected epochs to be at least 1. Received: epochs=0"),
        (["--config.precision=float64"], "Unknown precision; expected one of .*Received: precision='float64'"),
        (["--config.strategy=tpu"], "Expected a TPU for strategy=tpu. Received: "),
        (["--config.strategy=many"], "Unknown strategy; expected one of .*Received: strategy='many'"),
        (
            ["--config.methods=({'name': 'CSDK'},)"],
            r"Unknown method; expected one of \['AdaCos', .*Received: name='CSDK'. Did you mean CSKD\?\n",
        ),
        (["--config.methods[0].temperature=0"], "temperature to be a finite number above 0. Received: "),
        (["--config.methods[0].weight=-1"], "weight to be a finite number of at least 0. Received: weight=-1.0"),
        (["--config.network.name=resnet"], "Unknown network; expected one of .*Received: name='resnet'"),
        (["--config.network.name=resnet81"], r"Received: name='resnet81'. Did you mean resnet18\?\n"),
        (["--config.strategy=mirored"], r"Received: strategy='mirored'. Did you mean mirrored\?\n"),
        (["--config.network.weights=a.keras"], "the folder of a finished run, .*'a.keras', which is not there"),
        (
            ["--config.network.name=keras:Model"],
            r"\Aerror: Expected keras:Model to be a function of num_classes and .* Received: a class of Keras\n\Z",
        ),
        (["--config.data.source.name=mnist"], "Unknown data set; expected one of .*Received: data.source.name='mnist'"),
        (["--config.data.source.name=image_folder"], "Expected data.source.path to name a folder"),
        (
            ["--config.data.source.name=image_folder", "--config.data.source.path=/nowhere"],
            "Received: no folder /nowhere",
        ),
        (
            ["--config.data.split.val=nope"],
            "Expected data.split.val='' with digits, which takes no others. Received: data.split.val='nope'",
        ),
        (["--config.batch_size=0"], "Expected batch_size to be at least 1. Received: batch_size=0"),
        (["--config.batch_size=400"], "batch_size from 1 to 40, the number of images. Received: batch_size=400"),
        (
            ["--config.data.augment.mean=(0.5, 0.5)", "--config.data.augment.std=(0.5, 0.5)"],
            "Expected a mean for each of 1 channels",
        ),
        (["--config.data.augment.mean=(0.5, 0.5)"], "Expected as many means as stds"),
        (
            ["--config.data.crop=none", "--noconfig.data.flip"],
            "expected --config.data.augment.crop instead of --config.data.crop, --config.data.augment.flip instead of",
        ),
        (
            [f"--config={ROOT}/configs/cskd_paper.py:cifar100"],
            "error: Expected DATA,NETWORK,METHOD: ",
        ),
        (["--config.schedule.milestones=(0.9, 0.1)"], "rising milestones between 0 and 1"),
        (["--config.optimizer.momentum=2"], "momentum to be at most 0.9999. Received: optimizer.momentum=2.0"),
        (["--config.optimizer.weight_decay=nan"], "to be at least 0. Received: optimizer.weight_decay=nan"),
        (["--config.schedule.learning_rate=1e30"], "learning_rate to be at most 1000000.0. Received: "),
        (["--config.optimizer.weight_decay=1e30"], "weight_decay to be at most 100. Received: "),
        (["--config.schedule.learning_rate=-0.1"], "learning_rate to be above 0. Received: learning_rate=-0.1"),
        (["--config.seed=-1"], "seed to be at least 0. Received: seed=-1"),
        (["--config.data.split.train_per_class=-1"], "train_per_class to be at least 0"),
        (
            ["--config.data.augment.mean=('a',)"],
            "data.augment.mean to hold numbers. Received: data.augment.mean=\\['a'\\]",
        ),
        (
            ["--config.methods=('CSKD',)"],
            "Expected a list with a mapping for each method.*Received: methods=\\['CSKD'\\]",
        ),
        (
            ["--config.methods[0].partners=2"],
            "what the config's list holds, or the whole of it: .*Received: 'partners'",
        ),
        (["--config.methods[1].weight=2"], "what the config's list holds, .*Received: tuple index out of range"),
        (["--workdir=/proc/nowhere/run"], "/proc/nowhere"),
        (["--workdir="], r"Expected a path. Received: --workdir=\n"),
        (["predict", "a.png", "--workdir="], r"Expected a path. Received: --workdir=\n"),
        (["--workdir=gs://bucket/run"], r"Expected a path; mount a bucket to .*Received: --workdir=gs://bucket/run\n"),
        (["--workdir=gs://bucket/run", "--mode=sweep", "--grid=seed=0"], "Expected a path; mount a bucket"),
        (["--config.export.enabled", "--config.export.directory=gs://b/x"], "Received: export.directory=gs://b/x\n"),
        (["--workdir=elsewhere", "--mode=evaluate"], "Expected the folder of a run"),
        (["--workdir=elsewhere", "--mode=report"], "Expected finished runs"),
    ],
)
def test_bad_input_ends_before_training_without_a_traceback(command, tmp_path, arguments, message):
    workdir = [] if any("workdir" in argument for argument in arguments) else ["--workdir=run"]
    # The arguments under test come last, so that they win.
    code, printed = command(*workdir, *QUICK, *arguments)
    assert code != 0
    assert re.search(message, printed), printed
    assert "Traceback" not in printed
    assert "CSKD_TF_TRACEBACK" not in printed
    assert not list(tmp_path.iterdir())  # nothing was started, nothing is left behind


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("def get_config(:", "SyntaxError: "),
        ("\0", "SyntaxError: "),
        ("def get_config(): raise RuntimeError('no')", r"RuntimeError: no\n\(CSKD_TF_TRACEBACK=1 shows"),
        ("def get_config(): raise TypeError", "Expected a config file that makes a config. Received: TypeError"),
        ("def get_config(): return get_config()", "RecursionError: "),
        ("def get_config(): return 3", r"Expected get_config\(\) of mine.py to return a ConfigDict. Received: 3"),
        ("def get_config(): pass", r"Expected get_config\(\) of mine.py to return a ConfigDict. Received: None"),
        ("def get_config(): return {'seed': print}", "a config of groups, lists, numbers and strings"),
    ],
)
def test_a_config_file_that_fails_is_one_line(content, message, command, tmp_path):
    (tmp_path / "mine.py").write_text(content)
    code, printed = command("--config=mine.py", "--workdir=run")
    assert code != 0
    assert re.search(f"\\Aerror: .*{message}", printed), printed
    assert "Traceback" not in printed
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("error", "received"),
    few([
        (MemoryError(), "MemoryError"),
        (
            tf.errors.ResourceExhaustedError(None, None, "{{node x}} OOM when allocating tensor of 9 bytes\nHint: ..."),
            "OOM when allocating tensor of 9 bytes",
        ),
    ], 1),
)  # fmt: skip
def test_too_little_memory_is_one_line(error, received, command, monkeypatch):
    def prepare(config):
        raise error

    monkeypatch.setattr("cskd_tf.runs.train.prepare", prepare)
    code, printed = command("--workdir=run", *QUICK)
    assert code != 0
    assert re.search(rf"error: Expected enough memory; a smaller batch_size, .*Received: {received}\n", printed), (
        printed
    )
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (errno.EDQUOT, r"Disk quota exceeded\. What was saved before is whole: once there is room, the same command"),
        (errno.EMFILE, r"Too many open files: `ulimit -n` says how many"),
    ],
)
def test_what_tensorflow_takes_for_a_lack_of_memory_is_called_what_it_is(number, line, command, monkeypatch):
    """It makes one error of its own of both, which it has for memory too."""

    def prepare(config):
        raise tf.errors.ResourceExhaustedError(None, None, f"/somewhere/x; {os.strerror(number)}")

    monkeypatch.setattr("cskd_tf.runs.train.prepare", prepare)
    code, printed = command("--workdir=run", *QUICK)
    assert code != 0
    assert re.search(f"error: {line}", printed), printed


def test_a_warning_comes_once_in_each_command():
    def passes(message, *, level="WARNING"):
        values = {"msg": message, "levelno": getattr(logging, level), "pathname": "elsewhere.py"}
        return bool(handler.filter(logging.makeLogRecord(values)))

    handler = absl_logging.get_absl_handler()
    before = list(handler.filters)
    for _ in range(2):  # as two commands of one process
        with cli._readable_log():
            assert [passes("owl"), passes("owl"), passes("crow")] == [True, False, True]
            assert [passes("gone", level="ERROR"), passes("gone", level="ERROR")] == [True, True]
            assert not passes("a note of others", level="INFO")
    assert handler.filters == before  # a process that goes on has its log as it was


def test_files_that_are_not_images_are_named(command, image_folder):
    (image_folder / "train" / "dog" / "notes.png").write_text("no image")
    code, printed = command(
        "--workdir=run", "--config.data.source.name=image_folder", f"--config.data.source.path={image_folder}", *QUICK
    )
    assert code != 0
    assert "dog/notes.png" in printed
    assert "Traceback" not in printed


def test_a_workdir_of_another_config_is_refused_and_kept(command):
    small = (*QUICK, "--config.network.name=tests.runs.helpers:small_network")
    assert command("--workdir=run", "--config.epochs=1", *small)[0] == 0
    before = files("run")
    code, printed = command("--workdir=run", "--config.epochs=2", *small)
    assert code != 0
    assert "choose another --workdir. Received: epochs: 1 there, 2 here" in printed
    code, printed = command("--workdir=run", "--mode=evaluate", "--config.seed=3", *small)
    assert code != 0
    assert "seed: 0 there, 3 here" in printed
    assert files("run") == before


def test_somebody_elses_folder_is_refused_and_kept(command, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("...")
    code, printed = command("--workdir=thesis", *QUICK)
    assert code != 0
    assert "Expected a new or empty folder, or one of ours" in printed
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]


def test_a_full_disk_is_named_where_the_error_names_no_file(command, monkeypatch):
    def write(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("cskd_tf.runs.cli.evaluate.evaluate", write)
    monkeypatch.setattr("cskd_tf.runs.cli.refuse_own_network", lambda workdir: None)
    code, printed = command("--workdir=run", "--mode=evaluate")
    assert code != 0
    assert "error: No space left on device: run\n" in printed
