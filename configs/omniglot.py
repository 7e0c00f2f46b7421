"""CS-KD on Omniglot: 1,623 characters, of whose 20 drawings each 4 are the test split; grey, at 32 pixels; no paper.

python train_main.py --config=configs/omniglot.py
"""

from configs import image_folder


def get_config():
    config = image_folder.get_config()
    config.data.source.name = "omniglot"
    config.data.source.channels = 1
    config.data.augment.flip = False  # a mirrored character is another one
    config.data.augment.mean = (0.5,)
    config.data.augment.std = (0.5,)
    return config
