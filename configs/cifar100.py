"""CS-KD on CIFAR-100, as in the CS-KD paper: temperature 4, weight 1, batches of 128, 200 epochs.

python train_main.py --config=configs/cifar100.py
"""

from configs import base


def get_config():
    config = base.get_config()
    config.methods = ({"name": "CSKD", "temperature": 4.0, "weight": 1.0},)
    config.data.name = "cifar100"
    return config
