"""Every method of the papers where there are few images, by data, method and network: docs/results.md has the figures.

    python train_main.py --config=configs/few_images.py:tiny_imagenet_20,cskd --config.data.source.archive=ARCHIVE.zip
    python train_main.py --config=configs/few_images.py:omniglot_5,cskd --config.data.source.path=FOLDER

Data: tiny_imagenet_5, _20 and _60 are so many training images per class of TinyImageNet, or of an archive in its layout
that has fewer classes; omniglot_5 and _14 are drawings per character of a folder `FOLDER/train/<alphabet>/<character>`.
Of each class 1 in 25, or in 10, is for validation beside these. All methods have one recipe, the CS-KD paper's with
batches of 32, in a PreAct ResNet-10 of width 16 unless a network is named: `tiny_imagenet_60,cskd,preact_resnet34`.

Methods: `cross_entropy` and what `methods` below returns, each with the values of its paper on CIFAR-100 or
TinyImageNet. Distillation learns from the run of `DATA,cskd,preact_resnet18`, TF-KD from that of `DATA,cross_entropy`,
which have to be trained first; `--mode=sweep` does, for each seed.
"""

from configs import cskd_paper, omniglot, pskd_paper, tiny_imagenet

NETWORK = "preact_resnet10"
EPOCHS = {  # fewer images are seen more often
    "tiny_imagenet_5": 200, "tiny_imagenet_20": 120, "tiny_imagenet_60": 80, "omniglot_5": 100, "omniglot_14": 60,
}  # fmt: skip


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


def get_config(experiment: str = "tiny_imagenet_20,cskd"):
    """`DATA,METHOD` or `DATA,METHOD,NETWORK`."""
    data, method, network = (*experiment.split(","), NETWORK, "")[:3]
    if data not in EPOCHS or method not in methods(data) or experiment.count(",") > 2:
        raise ValueError(
            f"Expected DATA,METHOD[,NETWORK]: one of {tuple(EPOCHS)}, one of {tuple(methods(data))}, and of "
            f"cskd_tf.networks. Received: {experiment!r}"
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
    config.epochs = EPOCHS[data]
    config.batch_size = 32
    config.network.name = network
    config.network.width = 16
    config.methods = methods(data)[method]
    return config
