"""Every method of the papers where there are few images, by data, method and network: docs/results.md has the figures.

    python train_main.py --config=configs/few_images.py:tiny_imagenet_20,cskd --config.data.source.archive=ARCHIVE.zip
    python train_main.py --config=configs/few_images.py:omniglot_5,cskd --config.data.source.path=FOLDER

Data: tiny_imagenet_5, _20 and _60 are so many training images per class of TinyImageNet, or of an archive in its layout
that has fewer classes; omniglot_5 and _14 are drawings per character of a folder `FOLDER/train/<alphabet>/<character>`.
Of each class 1 in 25, or in 10, is for validation beside these. All methods have one recipe, the CS-KD paper's with
batches of 32, in a PreAct ResNet-10 of width 16 unless a network is named: `tiny_imagenet_60,cskd,preact_resnet34`. A
number at the end, `tiny_imagenet_20,cskd,93`, is of epochs.

Methods: `cross_entropy` and what `methods` below returns, each with the values of its paper on CIFAR-100 or
TinyImageNet, or, where the paper says none, of its docstring. Distillation learns from the run of
`DATA,cskd,preact_resnet18`, TF-KD from that of `DATA,cross_entropy`, which have to be trained first; `--mode=sweep`
does, for each seed.

    python train_main.py --config=configs/few_images.py:methods,tiny_imagenet_20 --mode=sweep
    python train_main.py --config=configs/few_images.py:values,tiny_imagenet_20,cskd --mode=sweep
    python train_main.py --config=configs/few_images.py:depth,tiny_imagenet_60 --mode=sweep
    python train_main.py --config=configs/few_images.py:equal_time,tiny_imagenet_20 --mode=sweep

The first trains `COMPARED` with three seeds, which choose the images too, the second one method with each of its
`VALUES`, of which `benchmarks/choice_tables.py` chooses by validation, the third cross-entropy and CS-KD in deeper
networks. The fourth trains the methods of the first whose steps take longer than cross-entropy's with so many epochs
fewer that all take the same time, by the ratios of results/equal_time.json, which `python -m benchmarks.equal_time`
measures.
"""

import json
import pathlib

from configs import base, cskd_paper, omniglot, pskd_paper, tiny_imagenet

COST = pathlib.Path(__file__).parents[1] / "results" / "equal_time.json"

NETWORK = "preact_resnet10"
EPOCHS = {  # fewer images are seen more often: about 1,800 steps each of 24 and of 136 classes, of the smallest set 800
    "tiny_imagenet_5": 200, "tiny_imagenet_20": 120, "tiny_imagenet_60": 40, "omniglot_5": 90, "omniglot_14": 30,
}  # fmt: skip
COMPARED = (
    "cross_entropy", "label_smoothing", "max_entropy", "adacos", "virtual_softmax", "ddgsd", "byot", "mixup", "cskd",
    "mixup_cskd", "cskd_e", "iclr", "kd", "kd_cskd", "tfkd", "tfkd_reg", "pskd", "cutout", "cutout_pskd", "cutmix",
    "cutmix_pskd", "cutmix_cskd",
)  # fmt: skip
VALUES = {  # CS-KD's are the paper's cells; of the others the published value and ones around it
    "cskd": ("methods[0].temperature=1.0,4.0", "methods[0].weight=1.0,2.0,3.0,4.0"),
    "pskd": ("methods[0].alpha=0.3,0.5,0.7,0.8,0.9",),
    "label_smoothing": ("methods[0].epsilon=0.05,0.1,0.2,0.4",),
    "max_entropy": ("methods[0].weight=0.1,0.3,1.0,2.0",),
    "mixup": ("methods[0].alpha=0.2,0.5,1.0",),
    "ddgsd": ("methods[0].weight=0.3,1.0,3.0",),
    "byot": ("methods[0].alpha=0.1,0.3,0.5",),
    "kd": ("methods[0].temperature=2.0,4.0,10.0",),
    "tfkd_reg": ("methods[0].alpha=0.1,0.5,0.9",),
}
DEPTHS = ("preact_resnet10", "preact_resnet18", "preact_resnet34")
SEEDS = "seed,data.split.seed=0,1,2"
SWEEPS = ("methods", "depth", "equal_time")


def methods(data: str) -> dict[str, tuple[dict, ...]]:
    """Each method as `config.methods` lists it."""
    teachers = {"Distillation": f"{data},cskd,preact_resnet18", "TFKD": f"{data},cross_entropy"}
    found = {**pskd_paper.methods("preact_resnet18"), **cskd_paper.methods("tiny_imagenet")}
    return {
        name: tuple(
            {**method, "teacher": f"workdirs/few_images/{teachers[method['name']]}"} if "teacher" in method else method
            for method in listed
        )
        for name, listed in found.items()
    }


def keeps_its_epochs(ratio: float) -> bool:
    """Whether a method's steps, of so many of cross-entropy's, take no longer than a measurement can tell.

    Example:
        >>> keeps_its_epochs(0.98), keeps_its_epochs(1.3)
        (True, False)
    """
    return ratio < 1.05


def _of_equal_time(data: str) -> list[str]:
    """The experiments of `COMPARED` whose steps take longer than cross-entropy's, with fewer epochs."""
    if not COST.is_file():
        raise ValueError(f"Expected {COST}, which python -m benchmarks.equal_time writes. Received: no such file")
    ratios = {line["experiment"]: line["over_cross_entropy"] for line in json.loads(COST.read_text())}
    if missing := [method for method in COMPARED[1:] if method not in ratios]:
        raise ValueError(f"Expected in {COST} each method of {COMPARED[1:]}. Received: none of {missing}")
    longer = {method: ratios[method] for method in COMPARED[1:] if not keeps_its_epochs(ratios[method])}
    return [f"{data},{method},{round(EPOCHS[data] / ratio)}" for method, ratio in longer.items()]


def _sweep(kind: str, *, data: str):
    """What one of `SWEEPS` trains."""
    if kind == "equal_time":
        experiments = _of_equal_time(data)
        return base.with_sweep(get_config(experiments[0]), experiments=experiments, grid=(SEEDS,))
    experiments, axes = {
        "methods": ([f"{data},{method}" for method in COMPARED], ()),
        "depth": ([f"{data},{method},{network}" for network in DEPTHS for method in ("cross_entropy", "cskd")], ()),
    }[kind]
    return base.with_sweep(get_config(experiments[0]), experiments=experiments, grid=(*axes, SEEDS))


def get_config(experiment: str = "tiny_imagenet_20,cskd"):
    """`DATA,METHOD`, `DATA,METHOD,NETWORK`, either with `,EPOCHS`; of sweeps one of `SWEEPS`, and `DATA`, or `values`,
    `DATA` and one of `VALUES`.
    """
    first, _, rest = experiment.partition(",")
    if first in SWEEPS and rest in EPOCHS:
        return _sweep(first, data=rest)
    data, _, method = rest.partition(",")
    if first == "values" and data in EPOCHS and method in VALUES:
        return base.with_sweep(get_config(rest), experiments=[rest], grid=(*VALUES[method], SEEDS))
    named, _, last = experiment.rpartition(",")
    named, epochs = (named, int(last)) if last.isdecimal() else (experiment, EPOCHS.get(first))
    data, method, network = (*named.split(","), NETWORK, "")[:3]
    if data not in EPOCHS or method not in methods(data) or named.count(",") > 2 or not epochs:
        raise ValueError(
            f"Expected DATA,METHOD[,NETWORK][,EPOCHS]: one of {tuple(EPOCHS)}, one of {tuple(methods(data))}, and of "
            f"cskd_tf.networks; or one of {SWEEPS}, and DATA; or values, DATA, and one of {tuple(VALUES)}. "
            f"Received: {experiment!r}"
        )
    name, _, images = data.rpartition("_")
    config = (omniglot if name == "omniglot" else tiny_imagenet).get_config()
    if name == "omniglot":
        config.data.source.name = "image_folder"
        config.data.source.class_levels = 2
        config.data.split.validation_fraction = 0.1
    else:
        config.data.split.validation_fraction = 0.04
    config.data.split.train_per_class = int(images)
    config.epochs = epochs
    config.batch_size = 32
    config.network.name = network
    config.network.width = 16
    config.methods = methods(data)[method]
    return config
