"""The embedded default: CS-KD beside cross-entropy on handwritten digits, with 30 training images per class.

    python train_main.py

Scikit-learn's digits, 8 x 8 pixels shown at 16; both runs together take about a minute on two CPU cores.
"""

from configs import base


def get_config():
    config = base.get_config()
    config.baseline = True
    config.methods = ({"name": "CSKD", "temperature": 4.0, "weight": 1.0},)
    config.epochs = 60
    config.batch_size = 32

    config.data.source.name = "digits"
    config.data.source.channels = 1
    config.data.split.test_fraction = 0.65
    config.data.split.validation_fraction = 0.5
    config.data.split.train_per_class = 30
    config.data.augment.image_size = 16
    config.data.augment.padding = 2
    config.data.augment.flip = False  # a mirrored digit is no digit
    config.data.augment.mean = (0.5,)
    config.data.augment.std = (0.5,)

    config.network.name = "preact_resnet10"
    config.network.width = 16
    return config
