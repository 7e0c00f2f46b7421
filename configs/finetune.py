"""Fine-tuning with few images per class: a network that was trained before, on other classes, and a new classifier.

    python train_main.py --config=configs/finetune.py:pretrain [--config.data.source.archive=ANOTHER_ARCHIVE.zip]
    python train_main.py --config=configs/finetune.py:10,cskd --config.data.source.path=FOLDER

The first trains a network on TinyImageNet, in workdirs/finetune/pretrain. The second begins with its weights, on a
folder of images as of configs/image_folder.py, of which it takes 10 per class: the classifier alone for a while, then
all, the first blocks by smaller rates, by AdamW and a cosine. Any other pretrained network will do: one of Keras'
applications, where they can be downloaded or a file of their weights is there,

    --config.network.name=keras.applications:EfficientNetV2B0 --config.network.width=0 --config.network.weights=

or one of KerasHub: docs/networks.md. `--config.optimizer.ema_momentum=0.99` evaluates averaged weights.

    python train_main.py --config=configs/finetune.py:sweep --mode=sweep --config.data.source.path=FOLDER
    python -m benchmarks.finetune workdirs/finetune

train cross-entropy and CS-KD with 5, 10 and 30 images per class and three seeds, which choose the images too, and write
what they came to into results/finetune.json.
"""

from configs import base, image_folder, tiny_imagenet

PRETRAINED = "workdirs/finetune/pretrain"
IMAGES = (5, 10, 30)  # per class
METHODS = {"cross_entropy": (), "cskd": ({"name": "CSKD", "temperature": 4.0, "weight": 1.0},)}
EXPERIMENTS = tuple(f"{images},{method}" for images in IMAGES for method in METHODS)
SEEDS = "seed,data.split.seed=0,1,2"


def _pretrain():
    config = tiny_imagenet.get_config()
    config.methods = ()
    config.epochs = 40
    config.data.split.validation_fraction = 0.04
    config.schedule.name = "cosine"
    config.schedule.warmup_epochs = 1
    return config


def _finetune(*, images: int, method: str):
    config = image_folder.get_config()
    config.methods = METHODS[method]
    config.epochs = 60
    config.batch_size = 32
    config.data.split.train_per_class = images
    config.network.weights = PRETRAINED
    config.network.frozen_epochs = 10
    config.optimizer.name = "AdamW"
    config.optimizer.weight_decay = 0.05
    config.optimizer.decay_vectors = False
    config.optimizer.clip_norm = 1.0
    config.optimizer.layer_decay = 0.75
    config.schedule.name = "cosine"
    config.schedule.learning_rate = 1e-3
    config.schedule.warmup_epochs = 2
    return config


def get_config(experiment: str = "10,cskd"):
    """`pretrain`, `sweep`, or `IMAGES,METHOD` with any number of images per class."""
    if experiment == "sweep":
        return base.with_sweep(get_config(EXPERIMENTS[0]), experiments=EXPERIMENTS, grid=(SEEDS,))
    images, _, method = experiment.partition(",")
    if experiment != "pretrain" and not (images.isdecimal() and int(images) and method in METHODS):
        raise ValueError(
            f"Expected pretrain, sweep, or IMAGES,METHOD with one of {tuple(METHODS)}. Received: {experiment!r}"
        )
    config = _pretrain() if experiment == "pretrain" else _finetune(images=int(images), method=method)
    config.network.name = "preact_resnet10"
    config.network.width = 32
    return config
