"""CS-KD on TinyImageNet at 32 pixels, as in the CS-KD paper: 200 classes, 100,000 training images.

python train_main.py --config=configs/tiny_imagenet.py [--config.data.source.archive=ANOTHER_ARCHIVE.zip]
"""

from configs import image_folder


def get_config():
    config = image_folder.get_config()
    config.data.source.name = "tiny_imagenet"
    config.data.split.validation_fraction = 0  # the networks of the paper's code have seen all training images
    return config
