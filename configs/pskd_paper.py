"""The experiments of the PS-KD paper (Tables 1 to 4), by network and method.

python train_main.py --config=configs/pskd_paper.py:preact_resnet18,pskd

On CIFAR-100, 300 epochs, the rate divided by 10 after 150 and 225: preact_resnet18, resnet101_cifar, densenet121_cifar,
resnext29_8x64d, pyramidnet200 (and pyramidnet200_shakedrop). On ImageNet, 90 epochs, divided after 30 and 60, with
jittered colours: resnet152. Methods: what `methods` below returns; CutMix, and Cutout beside PS-KD, change half of the
images. TF-KD's self form takes its teacher from the run of `...,cross_entropy`, which has to be trained first; as its
paper writes it, without T², it weighs little, and `tfkd_public` is what its public code computes.

The paper leaves open what CS-KD and TF-KD had on ImageNet (found by random search: here as on CIFAR-100), and PS-KD's
alpha there (in its supplement; 0.3 here). Table 3's ensembles are `--mode=report` over seeds.
"""

from configs import cifar100, imagenet2012

NETWORKS = (
    "preact_resnet18",
    "resnet101_cifar",
    "densenet121_cifar",
    "resnext29_8x64d",
    "pyramidnet200",
    "pyramidnet200_shakedrop",
    "resnet152",
)
CUTMIX = {"name": "CutMix", "alpha": 1.0}
CUTOUT = {"name": "Cutout", "size": 8}


def methods(network: str) -> dict[str, tuple[dict, ...]]:
    """Each method as `config.methods` lists it."""
    cskd = {"name": "CSKD", "temperature": 4.0, "weight": 1.0}
    smoothing = {"name": "LabelSmoothing", "epsilon": 0.1}
    shares = {"preact_resnet18": (0.95, 6.0)}.get(network, (0.9, 20.0))
    teacher = f"workdirs/pskd_paper/{network},cross_entropy"
    tfkd = {"name": "TFKD", "teacher": teacher, "alpha": shares[0], "temperature": shares[1]}
    regularized = {"name": "TFKD", "alpha": 0.1, "temperature": 20.0, "correct": 0.99}
    public = {"form": "public", "multiplier": 100.0}
    half = {"probability": 0.5}
    pskd = {"name": "PSKD", "alpha": 0.3 if network == "resnet152" else 0.8}
    return {
        "cross_entropy": (),
        "label_smoothing": (smoothing,),
        "cskd": (cskd,),
        "tfkd": (tfkd,),
        "tfkd_public": ({**tfkd, **public},),
        "tfkd_reg": (regularized,),
        "tfkd_reg_public": ({**regularized, **public},),
        "pskd": (pskd,),
        "pskd_network": ({**pskd, "source": "network"},),
        "cutout": (CUTOUT,),
        "cutout_pskd": ({**CUTOUT, **half}, pskd),
        "cutmix": ({**CUTMIX, **half},),
        "cutmix_pskd": ({**CUTMIX, **half}, pskd),
        "cutmix_label_smoothing": ({**CUTMIX, **half}, smoothing),
        "cutmix_cskd": ({**CUTMIX, **half}, cskd),
        "cutmix_tfkd": ({**CUTMIX, **half}, tfkd),
    }


def get_config(experiment: str = "preact_resnet18,pskd"):
    """`NETWORK,METHOD`."""
    network, _, method = experiment.partition(",")
    if network not in NETWORKS or method not in methods(network):
        raise ValueError(
            f"Expected NETWORK,METHOD: one of {NETWORKS} and one of {tuple(methods(network))}. Received: {experiment!r}"
        )
    config = (imagenet2012 if network == "resnet152" else cifar100).get_config()
    config.network.name = network
    config.methods = methods(network)[method]
    config.evaluation.ece_bins = 10  # of PS-KD's public code
    if network == "resnet152":
        config.schedule.milestones = (1 / 3, 2 / 3)
        config.data.color_jitter = 0.4
        config.data.lighting = 0.1
        return config
    config.epochs = 300
    config.optimizer.weight_decay = 5e-4
    if network.startswith("pyramidnet200"):
        config.batch_size = 64
        config.schedule.learning_rate = 0.25
        config.optimizer.weight_decay = 1e-4
    return config
