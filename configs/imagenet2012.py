"""CS-KD on ImageNet, with the CS-KD paper's 90 epochs and batches of 256; its validation images are the test split.

The paper says neither T nor weight, and milestones only of 200 epochs: these are CIFAR-100's, and the same shares.

python train_main.py --config=configs/imagenet2012.py --config.strategy=mirrored
"""

from configs import caltech_birds2011


def get_config():
    config = caltech_birds2011.get_config()
    config.methods = ({"name": "CSKD", "temperature": 4.0, "weight": 1.0},)
    config.epochs = 90
    config.batch_size = 256
    config.data.source.name = "imagenet2012"
    return config
