"""Configs are typed and checked key by key; keys of before reach what they named."""

import dataclasses
import functools
import json
import re

import numpy as np
import pytest

from configs import base
from cskd_tf.errors import UserError
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.runs import strategies, train
from cskd_tf.runs.config import Config, Strategy
from cskd_tf.runs.earlier_configs import ADDED, RENAMED, upgraded
from cskd_tf.runs.json_files import flatten
from cskd_tf.runs.workdir import Workdir
from tests.helpers import ROOT
from tests.runs.helpers import config_of


def changed(**changes):
    config = Config.read(base.get_config()).as_dict()
    for key, value in changes.items():
        *path, last = key.split("__")
        part = config
        for name in path:
            part = part[name]
        part[last] = value
    return config


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (changed(epoch=3), r"Unknown config keys.*Received: \['epoch'\]"),
        (changed(data__siez=3), r"Received: \['data.siez'\]"),
        (changed(data__augment__siez=3), r"Received: \['data.augment.siez'\]"),
        (changed(data__augment=3), r"data.augment to be a group of keys. Received: data.augment=3"),
        (changed(data__crop="none"), "renamed: data.augment.crop instead of data.crop"),
        (changed(data__augment__mean=[0.5, True, 0.5]), r"data.augment.mean to hold numbers. Received: .*True"),
        (changed(seed=True), "seed to be int. Received: seed=True"),
        (changed(seed=2**32), "seed to be at most 4294967295. Received: seed=4294967296"),
        (changed(methods=3), "methods to be list. Received: methods=3"),
        (changed(data__source__memory=float("nan")), "memory to be at least 0. Received: data.source.memory=nan"),
        (changed(data__source__channels=2), r"Unknown channels; expected one of \[1, 3\]. Received: data.source"),
        (changed(data__source__channels=1), r"a mean for each of 1 channels. Received: data.augment.mean=\(0.4914, "),
        (changed(epochs="3"), "epochs to be int. Received: epochs='3'"),
        (changed(baseline=1), "baseline to be bool. Received: baseline=1"),
        (changed(evaluation__ece_bins=0), "evaluation.ece_bins to be at least 1"),
        (changed(evaluation__ece_bins=10**9), "evaluation.ece_bins to be at most 10000. Received"),
        (changed(schedule__factor=10), "schedule.factor to be at most 1. Received: schedule.factor=10"),
        (changed(epochs=10**400), "epochs to be at most 1000000"),
        (changed(data__source__class_levels=10**18), "class_levels to be at most 100"),
        (changed(data__split__train_per_class=10**400), "train_per_class to be at most 2147483648"),
        (changed(data__augment__short_side=2**40), "short_side to be at most 8192"),
        (changed(network__width=513), "network.width to be at most 512. Received: network.width=513"),
        (changed(data__source__memory=1e308), "data.source.memory to be at most 1048576"),
        (changed(data__augment__lighting=1e9), "data.augment.lighting to be at most 10"),
        (changed(data__augment__mean=[10**400] * 3), "data.augment.mean to be at most 1.79"),
        (changed(schedule__learning_rate=10**400), "schedule.learning_rate to be at most 1000000.0"),
        (changed(seed={1}), "a config of groups, lists, numbers and strings. Received: .*set"),
        ([changed()], r"a config of groups, lists, numbers and strings. Received: \[\{"),
        (
            changed(optimizer__momentum=0, optimizer__nesterov=True),
            "momentum above 0 with optimizer.nesterov.*Received: optimizer.nesterov=True, optimizer.momentum=0",
        ),
        (changed(optimizer__momentum=1.0), "optimizer.momentum to be at most 0.9999. Received: optimizer.momentum=1.0"),
        (
            changed(data__augment__image_size=100_000),
            "image_size to be at most 4096. Received: data.augment.image_size",
        ),
        (changed(data__augment__padding=33), r"padding of at most image_size \(32\). Received: padding=33"),
        (changed(gradient_accumulation_steps=0), "gradient_accumulation_steps to be at least 1"),
        (changed(class_weights__scheme="sqrt"), r"Unknown scheme; expected one of \['', 'effective', 'inverse'\]"),
        (
            changed(class_weights__beta=1.0),
            "class_weights.beta to be at most 0.999999999. Received: class_weights.beta",
        ),
        (
            changed(class_weights__scheme="inverse", data__pairing__balanced=True),
            "class_weights.scheme=\"\" beside data.pairing.balanced.*Received: class_weights.scheme='inverse'",
        ),
        (changed(steps_per_execution=0), "steps_per_execution to be at least 1"),
        (changed(jit_compile="yes"), r"Unknown jit_compile; expected one of \['auto', 'off', 'on'\]"),
        (changed(jit_compile="on"), "Expected deterministic=False beside jit_compile=on.*Received: deterministic=True"),
        ({key: value for key, value in changed().items() if key != "seed"}, r"a config without \['seed'\]"),
    ],
)
def test_a_wrong_config_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        Config.read(config)


def test_a_whole_number_will_do_for_a_fraction():
    assert type(Config.read(changed(schedule__learning_rate=1)).schedule.learning_rate) is float


def test_defaults_for_callers_from_python_are_those_of_the_configs():
    defaults = Config.read(base.get_config()).data
    for group in (defaults.source, defaults.split, defaults.augment, defaults.pairing):
        for field in dataclasses.fields(group):
            if field.default is not dataclasses.MISSING:
                assert field.default == getattr(group, field.name), field.name


def test_every_strategy_has_a_name_that_a_config_may_have():
    assert set(strategies.STRATEGIES) == set(Strategy.__args__)


def test_a_config_is_what_its_file_holds():
    config = config_of({"data.augment.mean": (1,), "schedule.learning_rate": 1})
    written = json.loads(json.dumps(config.as_dict()))
    assert written["data"]["augment"]["mean"] == [1.0]
    assert written["schedule"]["milestones"] == [0.5, 0.75]
    assert Config.read(written) == config


def test_renamed_keys_lead_to_keys_that_there_are():
    known = set(flatten(base.get_config().to_dict()))
    assert set(RENAMED.values()) <= known
    assert not set(RENAMED) & known
    assert len(set(RENAMED.values())) == len(RENAMED)


def test_the_changelog_has_the_renamed_keys():
    section = re.split(r"^#+ Renamed config keys$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[1]
    rows = re.findall(
        r"^\| +`([\w.]+)` +\| +`([\w.]+)` +\|$", re.split(r"^#+ ", section, flags=re.MULTILINE)[0], re.MULTILINE
    )
    assert dict(rows) == RENAMED


def as_before(config):
    """What the `config.json` of a run held before keys were renamed, and others added."""
    values = flatten(config.as_dict() | {"methods": None})
    values = {key: value for key, value in values.items() if not any(f"{key}.".startswith(f"{new}.") for new in ADDED)}
    values |= {old: values.pop(new) for old, new in RENAMED.items()} | {"methods": config.as_dict()["methods"]}
    result = {}
    for key, value in values.items():
        *groups, last = key.split(".")
        functools.reduce(lambda group, name: group.setdefault(name, {}), groups, result)[last] = value
    return result


def test_a_config_of_before_becomes_what_it_would_be_now():
    config = config_of({})
    before = as_before(config)
    assert before["data"]["crop"] == "pad_crop"
    assert set(before["data"]) == {key.removeprefix("data.") for key in RENAMED}
    assert Config.read(upgraded(before)) == config
    assert upgraded(config.as_dict()) == config.as_dict()


@pytest.mark.slow
def test_a_workdir_of_before_is_resumed_and_evaluated_and_its_config_is_kept(tmp_path):
    config = config_of({"epochs": 2, "export.enabled": False})
    workdir = Workdir(tmp_path / "run")
    train.train(config, workdir)
    finished = Predictions.load(workdir.predictions("test")).logits
    file = tmp_path / "run" / "config.json"
    file.write_text(json.dumps(as_before(config)))
    written = file.read_text()
    (tmp_path / "run" / "metrics.json").unlink()  # as if it had been stopped in the second epoch
    for path in workdir.checkpoints.glob("last/ckpt-2.*"):
        path.unlink()
    train.train(config, workdir)
    np.testing.assert_array_equal(Predictions.load(workdir.predictions("test")).logits, finished)
    train.evaluate.evaluate(workdir)
    np.testing.assert_array_equal(Predictions.load(workdir.predictions("test")).logits, finished)
    assert file.read_text() == written
    with pytest.raises(UserError, match=r"Received: data.augment.padding: 2 there, 3 here"):
        workdir.check_owner(config_of({"epochs": 2, "export.enabled": False, "data.augment.padding": 3}))


def test_a_config_file_that_cannot_be_read_is_named(tmp_path):
    values = config_of({}).as_dict()
    del values["data"]["split"]["seed"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=rf"{tmp_path}/config.json: .*a config without \['data.split.seed'\]"):
        Workdir(tmp_path).config()
