"""Every config builds, and takes a step at toy size."""

import importlib
import pathlib
import shutil

import numpy as np
import pytest

from configs import base, cskd_paper, pskd_paper, variants
from cskd_tf import methods, networks
from cskd_tf.data.catalogue.splits import DATASETS
from cskd_tf.runs import experiment
from cskd_tf.runs.config import Config

PAPER_CROPS = [data for data in cskd_paper.DATASETS if data != "cifar100_pad_crop"]
SELF_KD = ("cross_entropy", "label_smoothing", "cskd", "tfkd", "pskd")
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
    "variants": list(variants.VARIANTS),
}
SINGLE = sorted(path.stem for path in pathlib.Path(base.__file__).parent.glob("*.py"))
CONFIGS = [(name, ()) for name in SINGLE if name not in ("base", "command_line", *COMPOSED)]
# Those of one kind take the same step here; make papers takes all.
KINDS = [("digits", ()), ("image_folder", ()), ("omniglot", ()), ("cskd_paper", ("mit67,resnet18,mixup_cskd",))]
PAPERS = [(name, (experiment,)) for name, experiments in COMPOSED.items() for experiment in dict.fromkeys(experiments)]


def named(configs, *marks):
    return [pytest.param(name, rest, id=":".join((name, *rest)), marks=marks) for name, rest in configs]


@pytest.mark.parametrize(
    ("name", "argument"),
    named(KINDS) + named([each for each in (*CONFIGS, *PAPERS) if each not in KINDS], pytest.mark.papers),
)
def test_a_config_takes_a_step(name, argument, image_folder, tmp_path):
    config = importlib.import_module(f"configs.{name}").get_config(*argument)
    for method in config.methods:
        if "teacher" in method:  # of a run that would have to come first
            assert method["teacher"].startswith(f"workdirs/{name}/")
            teacher = networks.build("preact_resnet10", num_classes=3, input_shape=(32, 32, 3), width=2)
            teacher.save(tmp_path / "teacher.keras")
            method["teacher"] = str(tmp_path / "teacher.keras")
    config.deterministic = False  # it could not be switched off again for the tests that follow
    config.network.width = 16 if "resnext" in config.network.name else 4
    config.batch_size = 4
    config.data.augment.image_size = 32
    config.data.augment.short_side = 0
    if config.data.source.name != "digits":  # tests/data/catalogue reads the other data sets' own layouts
        assert all(part in DATASETS for part in config.data.source.name.split("+"))
        for split in ("train", "test"):  # AdaCos needs three classes
            shutil.copytree(image_folder / split / "dog", image_folder / split / "fox")
        config.data.source.name = "image_folder"
        config.data.source.path = str(image_folder)
        config.data.split.train_per_class = min(config.data.split.train_per_class, 4)
    else:
        config.data.split.train_per_class = 1
    built = experiment.prepare(Config.read(config))
    before = built.model.get_weights()
    ((batch, labels),) = built.training_data().take(1)
    logs = built.model.train_step((batch, labels))
    assert np.isfinite(float(logs["loss"]))
    assert set(logs) >= {"loss", *built.model.composition.term_names}
    assert any(not np.array_equal(one, two) for one, two in zip(before, built.model.get_weights(), strict=True))


@pytest.mark.parametrize(("name", "argument"), named((*CONFIGS, *PAPERS)))
def test_a_config_has_known_keys_methods_and_network(name, argument):
    config = importlib.import_module(f"configs.{name}").get_config(*argument)
    Config.read(config)
    assert config.network.name in networks.NETWORKS
    methods.build([method for method in config.methods if "teacher" not in method])


@pytest.mark.parametrize(
    ("module", "wrong"),
    [(cskd_paper, "cifar100,resnet18"), (cskd_paper, "cifar100,resnet18,cskt"), (pskd_paper, "resnet18,pskd")],
)
def test_an_experiment_that_is_none_lists_those_that_are(module, wrong):
    with pytest.raises(ValueError, match="one of.*'cross_entropy'.*Received: "):
        module.get_config(wrong)


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
        ({key: value for key, value in changed().items() if key != "seed"}, r"a config without \['seed'\]"),
    ],
)
def test_a_wrong_config_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        Config.read(config)


def test_a_whole_number_will_do_for_a_fraction():
    assert type(Config.read(changed(schedule__learning_rate=1)).schedule.learning_rate) is float


def test_names_that_do_not_exist_are_refused_before_the_data_are_looked_for():
    for change, message in (
        ({"network__name": "preact_resnet99"}, "Unknown network"),
        ({"network__name": "resnet18", "data__augment__image_size": 16}, "at least 17 x 17 pixels"),
        ({"methods": [{"name": "CSDK"}]}, "Unknown method"),
    ):
        with pytest.raises(ValueError, match=message):
            experiment.prepare(Config.read(changed(data__source__name="nowhere", **change)))


def test_the_embedding_layer_of_a_config(tmp_path):
    config = importlib.import_module("configs.digits").get_config()
    config.deterministic = False
    config.network.width = 4
    config.network.embedding_layer = "stage4_block1_conv2"
    built = experiment.prepare(Config.read(config))
    assert built.predict("val").embeddings.shape[1] == 2 * 2 * 32  # what that convolution reads, of 16 pixels
    config.network.embedding_layer = "head"
    with pytest.raises(ValueError, match="Unknown layer.*'head'"):
        experiment.prepare(Config.read(config))
