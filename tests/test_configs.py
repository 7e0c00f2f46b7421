"""Every config builds, and takes a step at toy size."""

import dataclasses
import importlib
import inspect
import json
import pathlib
import shutil

import numpy as np
import pytest

from configs import (
    base,
    cifar10,
    cifar100,
    cskd_paper,
    few_images,
    finetune,
    followers,
    image_folder,
    omniglot,
    pskd_paper,
    saved,
    variants,
)
from cskd_tf import methods, networks
from cskd_tf.data import SourceOptions, SplitOptions
from cskd_tf.data.catalogue.datasets import DATASETS
from cskd_tf.runs import experiment
from cskd_tf.runs.config import Config
from cskd_tf.runs.grid import parse_grid
from cskd_tf.runs.json_files import flatten, write_json

PAPER_CROPS = [data for data in cskd_paper.DATASETS if data != "cifar100_pad_crop"]
SELF_KD = pskd_paper.SELF_KD
COMPOSED = {
    "cskd_paper": [
        *(f"{data},resnet18,{method}" for data in PAPER_CROPS for method in cskd_paper.methods(data)),
        *(f"{data},densenet121,{method}" for data in PAPER_CROPS for method in ("cross_entropy", "cskd")),
        *(f"{data},resnet10,{method}" for data in PAPER_CROPS for method in ("cross_entropy", "kd", "kd_cskd")),
        *(f"cifar100_pad_crop,resnet18,{method}" for method in ("cross_entropy", "cskd")),
        *(f"imagenet2012,{network},cskd" for network in ("resnet50", "resnet101", "resnext101_32x4d")),
    ],
    "pskd_paper": [
        *(f"{network},{method}" for network in pskd_paper.NETWORKS[:4] for method in SELF_KD),
        *(f"preact_resnet18,{method}" for method in pskd_paper.methods("preact_resnet18")),
        *(f"pyramidnet200,{name}" for name in ("cutout", "cutout_pskd", "cutmix", "cutmix_pskd", "pskd")),
        *(f"pyramidnet200,{name}_pskd_network" for name in ("cutout", "cutmix")),
        *(f"pyramidnet200_shakedrop,{name}" for name in ("cutmix", "cutmix_pskd")),
        *(f"resnet152,{method}" for method in (*SELF_KD, "cutmix", *(f"cutmix_{name}" for name in SELF_KD[1:]))),
    ],
    "followers": [f"{data},{method}" for data in ("cifar100_pad_crop", "mit67") for method in followers.METHODS],
    "variants": list(variants.VARIANTS),
    "few_images": ["tiny_imagenet_5,cutmix_pskd", "omniglot_14,kd_cskd,preact_resnet18", "omniglot_5,cskd,77"],
    "finetune": ["pretrain", *finetune.EXPERIMENTS[:2]],
}
NO_CONFIGS = (
    "advice", "asked", "base", "command_line", "evidence", "launch", "method_costs", "processes", "published",
    "recommendation", "right_names", "saved", "screen_of_help", "start", "sweep", "tables",
)  # fmt: skip
SINGLE = sorted(path.stem for path in pathlib.Path(base.__file__).parent.glob("*.py"))
CONFIGS = [(name, ()) for name in SINGLE if name not in (*NO_CONFIGS, *COMPOSED)]
WIDTHS = dict.fromkeys(("resnext29_8x64d", "resnext50_32x4d", "resnext101_32x4d"), 16)  # of which the groups take more
DIGITS = ("digits", ())
# Those of one kind take the same step, of the default with every test; make papers takes all.
KINDS = [("image_folder", ()), ("omniglot", ()), ("cskd_paper", ("mit67,resnet18,mixup_cskd",))]
PAPERS = [(name, (experiment,)) for name, experiments in COMPOSED.items() for experiment in dict.fromkeys(experiments)]


def named(configs, *marks):
    return [pytest.param(name, rest, id=":".join((name, *rest)), marks=marks) for name, rest in configs]


def take_a_step(config):
    """At toy size."""
    config.deterministic = False  # it could not be switched off again for the tests that follow
    config.network.width = WIDTHS.get(config.network.name, 4)
    config.batch_size = 4
    config.data.augment.image_size = 32
    config.data.augment.short_side = 0
    built = experiment.prepare(Config.read(config))
    before = built.model.get_weights()
    ((batch, labels),) = built.training_data().take(1)
    logs = built.model.train_step((batch, labels))
    assert np.isfinite(float(logs["loss"]))
    assert set(logs) >= {"loss", *built.model.composition.term_names}
    assert any(not np.array_equal(one, two) for one, two in zip(before, built.model.get_weights(), strict=True))


def test_the_default_config_takes_a_step():
    name, argument = DIGITS
    config = importlib.import_module(f"configs.{name}").get_config(*argument)
    config.data.split.train_per_class = 1
    take_a_step(config)


@pytest.mark.parametrize(
    ("name", "argument"),
    named(KINDS, pytest.mark.thorough)
    + named([each for each in (*CONFIGS, *PAPERS) if each not in (DIGITS, *KINDS)], pytest.mark.papers),
)
def test_a_config_takes_a_step(name, argument, image_folder, tmp_path):
    config = importlib.import_module(f"configs.{name}").get_config(*argument)
    for method in config.methods:
        if "teacher" in method:  # of a run that would have to come first
            assert method["teacher"].startswith(f"workdirs/{name}/")
            shape = (32, 32, config.data.source.channels)
            teacher = networks.build("preact_resnet10", num_classes=3, input_shape=shape, width=2)
            teacher.save(tmp_path / "teacher.keras")
            method["teacher"] = str(tmp_path / "teacher.keras")
    # tests/data/catalogue reads the data sets' own layouts.
    assert all(part in DATASETS for part in config.data.source.name.split("+"))
    if config.network.weights:  # of a run that would have to come first
        assert config.network.weights.startswith(f"workdirs/{name}/")
        networks.build(config.network.name, num_classes=7, input_shape=(32, 32, 3), width=4).save(tmp_path / "w.keras")
        config.network.weights = str(tmp_path / "w.keras")
    for split in ("train", "test"):  # AdaCos needs three classes
        shutil.copytree(image_folder / split / "dog", image_folder / split / "fox")
    config.data.source.name = "image_folder"
    config.data.source.path = str(image_folder)
    config.data.source.class_levels = 1
    config.data.split.train_per_class = min(config.data.split.train_per_class, 4)
    take_a_step(config)


@pytest.mark.parametrize(("name", "argument"), named((*CONFIGS, *PAPERS)))
def test_a_config_has_known_keys_methods_and_network(name, argument):
    config = importlib.import_module(f"configs.{name}").get_config(*argument)
    Config.read(config)
    assert config.network.name in networks.NETWORKS
    methods.build([method for method in config.methods if "teacher" not in method])


@pytest.mark.parametrize(
    ("module", "wrong"),
    [
        (cskd_paper, "cifar100,resnet18"),
        (cskd_paper, "cifar100,resnet18,cskt"),
        (pskd_paper, "resnet18,pskd"),
        (few_images, "omniglot_5,cskd,resnet18,"),
        (few_images, "omniglot_5,cskd,0"),
        (finetune, "cskd,5"),
        (finetune, "0,cskd"),
        (followers, "cifar100,cskd"),
        (followers, "cifar,dlb"),
    ],
)
def test_an_experiment_that_is_none_lists_those_that_are(module, wrong):
    with pytest.raises(ValueError, match="one of.*'(cross_entropy|dlb)'.*Received: "):
        module.get_config(wrong)


def test_a_saved_config_is_the_same_again(tmp_path):
    config = Config.read(cskd_paper.get_config("mit67,resnet18,mixup_cskd"))
    write_json(tmp_path / "config.json", config.as_dict())
    assert Config.read(saved.get_config(str(tmp_path / "config.json"))) == config
    with pytest.raises(ValueError, match="a run's config. Received: 'nowhere.json'"):
        saved.get_config("nowhere.json")


def test_runs_of_equal_time_have_fewer_epochs_where_steps_take_longer(monkeypatch, tmp_path):
    monkeypatch.setattr(few_images, "COST", tmp_path / "cost.json")
    with pytest.raises(ValueError, match="cost.json, which python -m benchmarks.equal_time writes"):
        few_images.get_config("equal_time,omniglot_5")
    ratios = {"cskd": 1.25, "pskd": 1.04, **dict.fromkeys(set(few_images.COMPARED) - {"cskd", "pskd"}, 0.97)}
    lines = [{"experiment": method, "over_cross_entropy": ratio} for method, ratio in ratios.items()]
    few_images.COST.write_text(json.dumps(lines))
    config = few_images.get_config("equal_time,omniglot_5")
    assert config.sweep.experiments == (f"omniglot_5,cskd,{round(few_images.EPOCHS['omniglot_5'] / 1.25)}",)
    assert few_images.get_config("omniglot_5,cskd,80").epochs == 80
    few_images.COST.write_text(json.dumps(lines[1:]))
    with pytest.raises(ValueError, match="none of \\['cskd'\\]"):
        few_images.get_config("equal_time,omniglot_5")


@pytest.mark.parametrize("method", few_images.VALUES)
def test_values_to_choose_from_are_around_the_one_that_the_method_has(method):
    config = few_images.get_config(f"values,omniglot_5,{method}")
    assert config.sweep.experiments == (f"omniglot_5,{method}",)
    *axes, seeds = parse_grid(config.sweep.grid)
    (usual,) = config.methods
    parameters = inspect.signature(methods.METHODS[usual["name"]]).parameters
    for axis in axes:
        key = axis.keys[0].removeprefix("methods[0].")
        assert usual.get(key, parameters[key].default) in axis.values
        assert len(axis.values) >= 2
    assert seeds.keys == ("seed", "data.split.seed")
    with pytest.raises(ValueError, match="or values, DATA, and one of.*Received: 'values,omniglot_5,adacos'"):
        few_images.get_config("values,omniglot_5,adacos")


def test_alpha_is_chosen_among_values_that_hold_the_configs():
    for network in pskd_paper.NETWORKS:
        sweep = pskd_paper.get_config(f"choose,{network}").sweep
        axis, _, seeds = parse_grid(sweep.grid)
        assert pskd_paper.get_config(*sweep.experiments).methods[0]["alpha"] in axis.values
        assert len(seeds.values) == (1 if network == "resnet152" else 3)


def test_what_the_submission_says_is_not_chosen():
    with pytest.raises(ValueError, match="says T 4 and weight 1. Received: 'cifar100,resnet18,mixup_iclr'"):
        cskd_paper.get_config("choose,cifar100,resnet18,mixup_iclr")
    assert cskd_paper.get_config("choose,imagenet2012,resnet50,cskd").sweep.grid[-1] == "seed=0"


def changed(config, origin):
    """The keys in which a config differs from another, and its values of them."""
    values, others = (flatten(Config.read(each.get_config()).as_dict()) for each in (config, origin))
    return {key: value for key, value in values.items() if value != others.get(key)}


def test_what_the_configs_of_no_paper_change():
    assert changed(cifar10, cifar100) == {"data.source.name": "cifar10", "data.split.validation_fraction": 0.1}
    assert changed(omniglot, image_folder) == {
        "data.source.name": "omniglot", "data.source.channels": 1, "data.augment.flip": False,
        "data.augment.mean": [0.5], "data.augment.std": [0.5],
    }  # fmt: skip


def test_the_datas_options_are_by_default_those_of_the_base_config():
    data = base.get_config().data
    assert dataclasses.asdict(SplitOptions()) == data.split.to_dict()
    assert dataclasses.asdict(SourceOptions(name="")) == data.source.to_dict()
