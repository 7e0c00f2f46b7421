"""CS-KD on Stanford Dogs at 224 pixels, as for CUB-200-2011; the paper picks T and weight by validation.

python train_main.py --config=configs/stanford_dogs.py
"""

from configs import caltech_birds2011


def get_config():
    config = caltech_birds2011.get_config()
    config.data.source.name = "stanford_dogs"
    return config
