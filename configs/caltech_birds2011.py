"""CS-KD on CUB-200-2011 at 224 pixels, as in the CS-KD paper; temperature 4 and weight 3 are its public code's.

python train_main.py --config=configs/caltech_birds2011.py
"""

from configs import image_folder


def get_config():
    config = image_folder.get_config()
    config.methods = ({"name": "CSKD", "temperature": 4.0, "weight": 3.0},)
    config.batch_size = 32
    config.data.source.name = "caltech_birds2011"
    config.data.split.validation_fraction = 0  # the networks of the paper's code have seen all training images
    config.data.augment.image_size = 224
    config.data.augment.short_side = 256
    config.network.name = "resnet18"
    return config
