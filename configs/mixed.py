"""CS-KD on birds, dogs and rooms together, as in section 3.3 of the CS-KD paper: 387 classes, 30 training images each.

python train_main.py --config=configs/mixed.py
"""

from configs import caltech_birds2011


def get_config():
    config = caltech_birds2011.get_config()
    config.data.name = "caltech_birds2011+stanford_dogs+mit67"
    config.data.train_per_class = 30
    return config
