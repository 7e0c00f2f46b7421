"""The experiments of the CS-KD paper (Tables 1 to 6), by data set, network and method.

python train_main.py --config=configs/cskd_paper.py:caltech_birds2011,resnet18,mixup_cskd

Data sets: cifar100, tiny_imagenet (32 pixels), caltech_birds2011, stanford_dogs, mit67, imagenet2012 (224 pixels).
Networks: resnet10, resnet18, densenet121, and on ImageNet any of cskd_tf.networks. Methods: what `methods`
below returns.
Distillation takes its teacher from the run of `...,densenet121,cskd`, which has to be trained first.
"""

import importlib

SMALL = {"resnet10": "preact_resnet10", "resnet18": "preact_resnet18", "densenet121": "densenet121_cifar"}
FINE_GRAINED = ("caltech_birds2011", "stanford_dogs", "mit67")
DATASETS = ("cifar100", "tiny_imagenet", *FINE_GRAINED, "imagenet2012")


def methods(data: str) -> dict[str, tuple[dict, ...]]:
    """Each method as `config.methods` lists it; what the paper leaves open has the values of METHODS' docstrings."""
    weight = 3.0 if data in FINE_GRAINED else 1.0
    cskd = {"name": "CSKD", "temperature": 4.0, "weight": weight}
    mixup = {"name": "Mixup", "alpha": 1.0}
    teacher = f"workdirs/cskd_paper/{data},densenet121,cskd"
    distillation = {"name": "Distillation", "teacher": teacher, "alpha": 0.9, "temperature": 4.0}
    sample_weight = 1.0 if data in FINE_GRAINED else 0.0
    return {
        "cross_entropy": (),
        "cskd": (cskd,),
        "cskd_e": ({**cskd, "clean_weight": 1.0},),
        "iclr": ({**cskd, "weight": 1.0, "clean_weight": sample_weight, "form": "iclr"},),
        "adacos": ({"name": "AdaCos"},),
        "adacos_public": ({"name": "AdaCos", "scale_at_evaluation": False},),
        "virtual_softmax": ({"name": "VirtualSoftmax"},),
        "max_entropy": ({"name": "MaxEntropy", "weight": 1.0},),
        "label_smoothing": ({"name": "LabelSmoothing", "epsilon": 0.1},),
        "ddgsd": ({"name": "DDGSD"},),
        "byot": ({"name": "BYOT"},),
        "mixup": (mixup,),
        "mixup_cskd": (mixup, cskd),
        "kd": (distillation,),
        "kd_cskd": (distillation, cskd),
    }


def get_config(experiment: str = "cifar100,resnet18,cskd"):
    """`DATA,NETWORK,METHOD`."""
    parts = experiment.split(",")
    data, network, method = parts if len(parts) == 3 else ("", "", "")
    if data not in DATASETS or method not in methods(data):
        raise ValueError(
            f"Expected DATA,NETWORK,METHOD: one of {DATASETS}, a network, one of {tuple(methods(data))}. "
            f"Received: {experiment!r}"
        )
    config = importlib.import_module(f"configs.{data}").get_config()
    config.network.name = SMALL.get(network, network) if data in ("cifar100", "tiny_imagenet") else network
    config.methods = methods(data)[method]
    return config
