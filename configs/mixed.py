"""CS-KD on birds, dogs and rooms together, as in section 3.3 of the CS-KD paper: 387 classes, 30 training images each.

    python train_main.py --config=configs/mixed.py

The 30 are drawn at random (`data.split.seed`) from all training images of a class; the test splits are whole. A class
that has fewer, as some of the birds' do (5,994 images in 200 classes), gives what it has.
"""

from configs import caltech_birds2011


def get_config():
    config = caltech_birds2011.get_config()
    config.data.source.name = "caltech_birds2011+stanford_dogs+mit67"
    config.data.split.train_per_class = 30
    return config
