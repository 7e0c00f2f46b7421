"""CS-KD on CIFAR-100, as in the CS-KD paper; temperature 4 and weight 1 are its public code's.

    python train_main.py --config=configs/cifar100.py

The paper flips and crops at random sizes, as for ImageNet (section 3.1, footnote 6). Its public code pads by 4 pixels
and crops 32: `configs/cskd_paper.py:cifar100_pad_crop,resnet18,cskd`.
"""

from configs import base


def get_config():
    config = base.get_config()
    config.methods = ({"name": "CSKD", "temperature": 4.0, "weight": 1.0},)
    config.data.source.name = "cifar100"
    config.data.split.validation_fraction = 0  # the networks of the paper's code have seen all training images
    config.data.augment.crop = "random_resized_crop"
    return config
