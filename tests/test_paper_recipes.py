"""Every value of every paper's config against a table written from the papers; nothing of it is taken from a config.

"CVPR" is CS-KD (Yun et al., 2020), "ICLR" its earlier form, "PS-KD" Kim et al., 2021. What no paper states is marked.
"""

import importlib
import inspect

import pytest

from configs import cskd_paper, pskd_paper
from cskd_tf.methods import METHODS
from cskd_tf.runs.config import Config
from cskd_tf.runs.json_files import flatten
from cskd_tf.training.schedules import milestone_epochs

# Of the machine, of files, or of splits that these data sets bring themselves.
OF_NO_PAPER = {
    "seed", "strategy", "deterministic", "baseline", "verbose", "log_images", "loggers",
    "profile_steps", "gradient_accumulation_steps",
    "steps_per_execution",
    "jit_compile", "data.source.path", "data.source.archive",
    "data.source.class_levels", "data.source.groups", "data.source.memory", "data.source.licence",
    "data.split.train", "data.split.val", "data.split.test", "data.split.seed", "data.split.test_fraction",
    "network.embedding_layer", "network.synchronized", "evaluation.batch_size", "export.enabled", "export.directory",
    "export.temperature", "export.coverage", "export.formats", "export.opset",
}  # fmt: skip

# CVPR 3.1: "momentum 0.9, weight decay 0.0001, and an initial learning rate of 0.1", "divided by 10 after epochs 100
# and 150", "total epochs are 200", "batch size as 128 for conventional, and 32 for fine-grained"; ECE "with 20 bins".
CVPR = {
    "epochs": 200,
    "precision": "float32",
    "class_weights.scheme": "",
    "class_weights.beta": 0.999,
    "optimizer.name": "SGD",
    "optimizer.arguments": {},
    "optimizer.decay_vectors": True,
    "optimizer.layer_decay": 1.0,
    "optimizer.ema_momentum": 0.0,
    "optimizer.momentum": 0.9,
    "optimizer.weight_decay": 0.0001,
    "optimizer.nesterov": False,
    "optimizer.clip_norm": 0.0,
    "schedule.name": "step",
    "schedule.learning_rate": 0.1,
    "schedule.milestones": [100, 150],  # in epochs
    "schedule.factor": 0.1,
    "schedule.warmup_epochs": 0,
    "evaluation.ece_bins": 20,
    "network.width": 0,  # as published
    "network.weights": "",  # trained anew
    "network.frozen_epochs": 0,
    "data.source.channels": 3,
    # Inferred: 24.71 and 43.53, against 25.82 and 45.16 in ICLR with 10 % held out.
    "data.split.validation_fraction": 0.0,
    "data.split.train_per_class": 0,
    "data.pairing.balanced": False,
    "data.pairing.exclude_self": False,
    "data.pairing.replica_local": False,
    "data.augment.crop": "random_resized_crop",  # 3.1 and footnote 6; ICLR 3.1: "flips, random resized crops"
    "data.augment.padding": 4,
    "data.augment.flip": True,
    "data.augment.color_jitter": 0.0,
    "data.augment.lighting": 0.0,
    "data.augment.layers": [],
}
# Of the public code.
IMAGENET_PIXELS = {"data.augment.mean": [0.485, 0.456, 0.406], "data.augment.std": [0.229, 0.224, 0.225]}
CIFAR_PIXELS = {"data.augment.mean": [0.4914, 0.4822, 0.4465], "data.augment.std": [0.2023, 0.1994, 0.201]}
# ICLR 3.1: "32 for conventional", "224 for fine-grained".
SMALL = {"batch_size": 128, "data.augment.image_size": 32, "data.augment.short_side": 0}
LARGE = {"batch_size": 32, "data.augment.image_size": 224, "data.augment.short_side": 256, **IMAGENET_PIXELS}
CIFAR = {**CVPR, **SMALL, **CIFAR_PIXELS, "data.source.name": "cifar100"}
DATA = {
    "cifar100": CIFAR,
    "cifar100_pad_crop": {**CIFAR, "data.augment.crop": "pad_crop"},  # of the public code
    "tiny_imagenet": {**CVPR, **SMALL, **IMAGENET_PIXELS, "data.source.name": "tiny_imagenet"},
    "caltech_birds2011": {**CVPR, **LARGE, "data.source.name": "caltech_birds2011"},
    "stanford_dogs": {**CVPR, **LARGE, "data.source.name": "stanford_dogs"},
    "mit67": {**CVPR, **LARGE, "data.source.name": "mit67"},
    # CVPR Table 5: "trained for 90 epochs with batch size 256"; the milestones are the public code's half and 3/4.
    "imagenet2012": {
        **CVPR, **LARGE, "data.source.name": "imagenet2012", "epochs": 90, "batch_size": 256,
        "schedule.milestones": [45, 67],
    },
    # CVPR 3.3: "30 samples per each fine-grained label for training".
    "mixed": {
        **CVPR, **LARGE, "data.source.name": "caltech_birds2011+stanford_dogs+mit67", "data.split.train_per_class": 30,
    },
}  # fmt: skip
# Of images of 32 pixels, and of 224.
NETWORKS = {
    "resnet10": {32: "preact_resnet10", 224: "resnet10"},
    "resnet18": {32: "preact_resnet18", 224: "resnet18"},
    "densenet121": {32: "densenet121_cifar", 224: "densenet121"},
}


def cskd(weight, clean_weight=0.0, form="cvpr"):
    """CVPR 3.1: T of {1, 4}, weight of {1, 2, 3, 4}. The public README has 4 with 1 on CIFAR-100 and 3 on CUB."""
    return {
        "name": "CSKD", "temperature": 4.0, "weight": weight, "clean_weight": clean_weight, "partners": 1,
        "in_batch": False, "partner_batch_norm": "train", "form": form,
    }  # fmt: skip


def adacos(scale_at_evaluation):
    return {"name": "AdaCos", "scale_at_evaluation": scale_at_evaluation, "class_vectors": "xavier"}


def cskd_methods(data, weight, sample_weight):
    # Not stated: label smoothing's .1, alpha of Mixup and of KD, KD's temperature, the weights of Maximum entropy,
    # DDGSD and BYOT, and that of CS-KD-E's second term.
    mixup = {"name": "Mixup", "alpha": 1.0}
    teacher = f"workdirs/cskd_paper/{data},densenet121,cskd"  # Table 4: "pre-trained on DenseNet-121 by CS-KD"
    kd = {"name": "Distillation", "teacher": teacher, "alpha": 0.9, "temperature": 4.0}
    # ICLR Table 3: "Teacher network is pre-trained on DenseNet-121 (large) by CS-KD", which is that form there.
    iclr_kd = {**kd, "teacher": teacher.replace(",cskd", ",iclr")}
    # ICLR 3.1: "T = 4, lambda_cls = 1 for all experiments and lambda_sam = 1 for [...] fine-grained", else 0.
    iclr = cskd(1.0, sample_weight, "iclr")
    return {
        "cross_entropy": [],
        "cskd": [cskd(weight)],
        "cskd_e": [cskd(weight, 1.0)],
        "iclr": [iclr],
        "mixup_iclr": [mixup, iclr],
        "kd_from_iclr": [iclr_kd],
        "kd_iclr": [iclr_kd, iclr],
        "adacos": [adacos(True)],
        "adacos_public": [adacos(False)],
        "virtual_softmax": [{"name": "VirtualSoftmax"}],
        "max_entropy": [{"name": "MaxEntropy", "weight": 1.0}],
        "label_smoothing": [{"name": "LabelSmoothing", "epsilon": 0.1, "over_others": False}],
        "ddgsd": [{"name": "DDGSD", "temperature": 3.0, "weight": 1.0, "feature_weight": 5e-4}],
        "byot": [
            {
                "name": "BYOT", "alpha": 0.3, "temperature": 3.0, "feature_weight": 0.03, "squared": True,
                "form": "paper",
            }
        ],
        "mixup": [mixup],
        "mixup_cskd": [mixup, cskd(weight)],
        "kd": [kd],
        "kd_cskd": [kd, cskd(weight)],
    }  # fmt: skip


# The weight of CS-KD and that of ICLR's sample-wise term; ImageNet has neither in any paper but Table 5's CS-KD.
WEIGHTS = {
    "cifar100": (1.0, 0.0),
    "cifar100_pad_crop": (1.0, 0.0),
    "tiny_imagenet": (1.0, 0.0),
    "caltech_birds2011": (3.0, 1.0),
    "stanford_dogs": (3.0, 1.0),
    "mit67": (3.0, 1.0),
    "imagenet2012": (1.0, 0.0),
}
# ICLR 3.1: "10% of the training dataset randomly", of the data sets that it calls conventional.
TENTH = {"data.split.validation_fraction": 0.1}
HELD_OUT = {
    (data, method): TENTH
    for data in ("cifar100", "cifar100_pad_crop", "tiny_imagenet")
    for method in ("iclr", "mixup_iclr", "kd_from_iclr", "kd_iclr")
}


def with_defaults(description):
    """A method's entry with all its arguments, as the method understands them where it can be made by itself."""
    signature = inspect.signature(METHODS[description["name"]]).parameters
    arguments = {key: each.default for key, each in signature.items() if key != "kwargs"} | description
    if "teacher" in description:
        return arguments
    made = METHODS[description["name"]](**{key: value for key, value in arguments.items() if key != "name"})
    return {key: getattr(made, key, value) for key, value in arguments.items() if key != "name"} | {
        "name": description["name"]
    }


def check(config, expected, methods):
    plain = Config.read(config).as_dict()
    assert [with_defaults(method) for method in plain.pop("methods")] == methods
    values = {key: value for key, value in flatten(plain).items() if key not in OF_NO_PAPER}
    values["schedule.milestones"] = milestone_epochs(values["schedule.milestones"], epochs=values["epochs"])
    assert values == expected


@pytest.mark.parametrize("data", [data for data in DATA if data != "cifar100_pad_crop"])
def test_the_config_of_a_data_set(data):
    network = NETWORKS["resnet18"][DATA[data]["data.augment.image_size"]]
    weight = {"mixed": 3.0, **{name: weight for name, (weight, _) in WEIGHTS.items()}}[data]
    config = importlib.import_module(f"configs.{data}").get_config()
    check(config, {**DATA[data], "network.name": network}, [cskd(weight)])


@pytest.mark.parametrize("data", WEIGHTS)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_experiment_of_the_cskd_paper(data, network):
    table = cskd_methods(data, *WEIGHTS[data])
    assert set(cskd_paper.methods(data)) == set(table)
    for method, methods in table.items():
        name = NETWORKS[network][DATA[data]["data.augment.image_size"]]
        expected = {**DATA[data], "network.name": name, **HELD_OUT.get((data, method), {})}
        check(cskd_paper.get_config(f"{data},{network},{method}"), expected, methods)


@pytest.mark.parametrize("network", ["resnet50", "resnet101", "resnext101_32x4d"])  # Table 5
def test_the_imagenet_networks_of_the_cskd_paper(network):
    expected = {**DATA["imagenet2012"], "network.name": network}
    check(cskd_paper.get_config(f"imagenet2012,{network},cskd"), expected, [cskd(1.0)])
    check(cskd_paper.get_config(f"imagenet2012,{network},cross_entropy"), expected, [])


def test_the_data_sets_and_networks_are_those_of_the_tables():
    assert set(cskd_paper.DATASETS) == set(WEIGHTS)
    assert set(pskd_paper.NETWORKS) == set(PSKD)


# PS-KD 4.1: "32x32 random crop after padding with 4 pixels and random horizontal flip", "momentum of 0.9 for 300
# epochs", "a factor of 10 at 150 and 225 epochs", "mini-batch size, a weight decay, and an initial learning rate to
# 128, 0.0005, and 0.1", "train a model on the entire training dataset". Ten bins are the public code's.
PSKD_CIFAR = {
    **CIFAR,
    "epochs": 300,
    "schedule.milestones": [150, 225],
    "optimizer.weight_decay": 0.0005,
    "data.augment.crop": "pad_crop",
    "evaluation.ece_bins": 10,
}
# "For PyramidNet, [...] 64, 0.0001, and 0.25".
PYRAMID = {**PSKD_CIFAR, "batch_size": 64, "optimizer.weight_decay": 0.0001, "schedule.learning_rate": 0.25}
# 4.2: "random resize cropping, random horizontal flip, color jittering, and lighting, following [49]", "90 epochs with
# a weight decay of 0.0001 and an initial learning rate of 0.1", "at 30 and 60 epochs", "momentum of 0.9", "256".
PSKD_IMAGENET = {
    **DATA["imagenet2012"],
    "schedule.milestones": [30, 60],
    "data.augment.color_jitter": 0.4,  # of the public code, as 0.1
    "data.augment.lighting": 0.1,
    "evaluation.ece_bins": 10,
}
# Recipe, TF-KD's alpha and temperature, and the public code's factor: those of ResNet-18, DenseNet-121 and ResNeXt-29
# are in TF-KD's public recipes, as are ResNet-50's alpha and temperature, the same as of ResNet-18; PyramidNet's are
# DenseNet-121's for want of any. ImageNet's factor is ten times CIFAR-100's, as its classes are, which divide it.
# The recipe, and alpha, T and factor of TF-KD's self form and of its reg form: the authors' params.json of ResNet-18,
# DenseNet-121 and ResNeXt-29, of which only the first names a factor of the reg form.
PSKD = {
    "preact_resnet18": (PSKD_CIFAR, (0.95, 6.0, 50.0), (0.1, 20.0, 100.0)),
    "resnet101_cifar": (PSKD_CIFAR, (0.95, 6.0, 50.0), (0.1, 20.0, 100.0)),
    "densenet121_cifar": (PSKD_CIFAR, (0.9, 20.0, 50.0), (0.1, 40.0, 100.0)),
    "resnext29_8x64d": (PSKD_CIFAR, (0.9, 20.0, 100.0), (0.5, 40.0, 100.0)),
    "pyramidnet200": (PYRAMID, (0.9, 20.0, 50.0), (0.1, 40.0, 100.0)),
    "pyramidnet200_shakedrop": (PYRAMID, (0.9, 20.0, 50.0), (0.1, 40.0, 100.0)),
    "resnet152": (PSKD_IMAGENET, (0.95, 6.0, 500.0), (0.1, 20.0, 1000.0)),
}


def tfkd(teacher, alpha, temperature, form, multiplier):
    return {
        "name": "TFKD", "teacher": teacher, "alpha": alpha, "temperature": temperature, "correct": 0.99, "form": form,
        "multiplier": multiplier,
    }  # fmt: skip


def pskd_methods(network, self_form, reg_form):
    imagenet = network == "resnet152"
    teacher = f"workdirs/pskd_paper/{network},cross_entropy"
    smoothing = {"name": "LabelSmoothing", "epsilon": 0.1, "over_others": False}  # 4.2: "we set [...] as 0.1"
    # 4.1: "we set the alpha_T to 0.8"; ImageNet's is in the supplement. 3.2: "the past predictions from the model on
    # GPU memory is utilized for the tasks on ImageNet".
    last = {"name": "PSKD", "alpha": 0.3 if imagenet else 0.8, "source": "network", "top_k": None}
    own = last if imagenet else {**last, "source": "stored"}
    # 4.1: "the hole size in Cutout is set to 8 and the parameter alpha of Beta distribution in CutMix is set to 1",
    # "each data selects the regularization method with a probability of 0.5". The probability of CutMix by itself and
    # its one coin a batch are its authors' recipes'.
    cutout = {"name": "Cutout", "size": 8, "probability": 1.0}
    cutmix = {"name": "CutMix", "alpha": 1.0, "probability": 1.0 if imagenet else 0.5, "coin": "batch"}
    half_cutout = {"name": "Cutout", "size": 8, "probability": 0.5}
    half_cutmix = {"name": "CutMix", "alpha": 1.0, "probability": 0.5, "coin": "image"}
    own_teacher = tfkd(teacher, *self_form[:2], "paper", 100.0)
    public = tfkd(teacher, *self_form[:2], "public", self_form[2])
    return {
        "cross_entropy": [],
        "label_smoothing": [smoothing],
        "cskd": [cskd(1.0)],
        "tfkd": [own_teacher],
        "tfkd_public": [public],
        "tfkd_reg": [tfkd(None, *reg_form[:2], "paper", 100.0)],
        "tfkd_reg_public": [tfkd(None, *reg_form[:2], "public", reg_form[2])],
        "pskd": [own],
        "pskd_network": [last],
        "cutout": [cutout],
        "cutout_pskd": [half_cutout, own],
        "cutout_pskd_network": [half_cutout, last],
        "cutmix": [cutmix],
        "cutmix_pskd": [half_cutmix, own],
        "cutmix_pskd_network": [half_cutmix, last],
        "cutmix_label_smoothing": [cutmix, smoothing],
        "cutmix_cskd": [cutmix, cskd(1.0)],
        "cutmix_tfkd": [cutmix, own_teacher],
        "cutmix_tfkd_public": [cutmix, public],
    }


@pytest.mark.parametrize("network", PSKD)
def test_every_experiment_of_the_pskd_paper(network):
    recipe, self_form, reg_form = PSKD[network]
    table = pskd_methods(network, self_form, reg_form)
    assert set(pskd_paper.methods(network)) == set(table)
    for method, methods in table.items():
        config = pskd_paper.get_config(f"{network},{method}")
        check(config, {**recipe, "network.name": network}, methods)
