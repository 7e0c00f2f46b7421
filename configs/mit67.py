"""CS-KD on MIT indoor scenes at 224 pixels, as for CUB-200-2011; the paper picks T and weight by validation.

python train_main.py --config=configs/mit67.py
"""

from configs import caltech_birds2011


def get_config():
    config = caltech_birds2011.get_config()
    config.data.source.name = "mit67"
    return config
