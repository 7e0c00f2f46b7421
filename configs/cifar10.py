"""CS-KD on CIFAR-10, with the settings for CIFAR-100.

python train_main.py --config=configs/cifar10.py
"""

from configs import cifar100


def get_config():
    config = cifar100.get_config()
    config.data.name = "cifar10"
    return config
