"""Methods that followed CS-KD, by data set and method, in the CS-KD paper's recipe and with their authors' settings.

    python train_main.py --config=configs/followers.py:cifar100_pad_crop,dlb

Data sets are those of `configs/cskd_paper.py`, whose `...,resnet18,cross_entropy` and `...,resnet18,cskd` are what to
compare with. Methods: zipf (Zipf's label smoothing), uskd, dlb. Where the authors give no setting for a data set, it
has that of CIFAR-100 for small images and that of ImageNet for large ones.
"""

from configs import cskd_paper

METHODS = ("zipf", "uskd", "dlb")


def methods(data: str) -> dict[str, tuple[dict, ...]]:
    """Each method as `config.methods` lists it."""
    small = data in cskd_paper.CONVENTIONAL
    weights = (0.1, 0.1, 0.1) if small else (1.0, 0.1, 0.005)
    zipf = {"name": "ZipfLabelSmoothing", "weight": 1.0 if data == "tiny_imagenet" else 0.1, "upsample": small}
    uskd = dict(zip(("target_weight", "others_weight", "weak_weight"), weights, strict=True))
    return {
        "zipf": (zipf,),
        "uskd": ({"name": "USKD", **uskd},),
        "dlb": ({"name": "DLB", "temperature": 3.0, "weight": 0.5},),
    }


def get_config(experiment: str = "cifar100_pad_crop,dlb"):
    """`DATA,METHOD`, of a ResNet-18."""
    data, _, method = experiment.partition(",")
    if data not in cskd_paper.DATASETS or method not in METHODS:
        raise ValueError(
            f"Expected DATA,METHOD: one of {cskd_paper.DATASETS}, one of {METHODS}. Received: {experiment!r}"
        )
    config = cskd_paper.get_config(f"{data},resnet18,cross_entropy")
    config.methods = methods(data)[method]
    return config
