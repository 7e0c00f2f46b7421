"""CS-KD on CIFAR-10, with the settings for CIFAR-100 but a validation split to choose by; in no paper.

python train_main.py --config=configs/cifar10.py
"""

from configs import cifar100


def get_config():
    config = cifar100.get_config()
    config.data.source.name = "cifar10"
    config.data.split.validation_fraction = 0.1
    return config
