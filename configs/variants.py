"""What can be changed about CS-KD beside its papers: partners in the batch, the batch norm of the partner's pass, and
recipes against a loss that runs to NaN. 50 training images per class of TinyImageNet, and a small network.

    python train_main.py --config=configs/variants.py:in_batch [--config.data.source.archive=ANOTHER_ARCHIVE.zip]

`..._long` trains for as long as CS-KD's published form takes, which costs 4/3 of cross-entropy.
"""

from configs import tiny_imagenet

CSKD = {"name": "CSKD", "temperature": 4.0, "weight": 1.0}
METHODS = {
    "cross_entropy": (),
    "cskd": (CSKD,),
    "in_batch": ({**CSKD, "in_batch": True},),
    "partner_no_update": ({**CSKD, "partner_batch_norm": "train_no_update"},),
    "partner_inference": ({**CSKD, "partner_batch_norm": "inference"},),
    "weight3": ({**CSKD, "weight": 3.0},),
}
CHANGES = {
    "long": {"epochs": 133},
    "warmup": {"schedule.warmup_epochs": 5},
    "clipped": {"optimizer.clip_norm": 1.0},
}
VARIANTS = (
    *METHODS,
    "cross_entropy_long",
    "in_batch_long",
    "weight3_warmup",
    "weight3_clipped",
    "partner_inference_warmup",
)


def get_config(variant: str = "in_batch"):
    """One of `VARIANTS`."""
    if variant not in VARIANTS:
        raise ValueError(f"Expected a variant: one of {VARIANTS}. Received: {variant!r}")
    config = tiny_imagenet.get_config()
    config.epochs = 100
    config.batch_size = 32
    config.data.split.train_per_class = 50
    config.data.split.validation_fraction = 0.1  # of no paper, so there is something to choose
    config.data.augment.crop = "pad_crop"
    config.network.name = "preact_resnet10"
    config.network.width = 16
    name, _, change = (variant, "", "") if variant in METHODS else variant.rpartition("_")
    config.methods = METHODS[name]
    config.update_from_flattened_dict(CHANGES.get(change, {}))
    return config
