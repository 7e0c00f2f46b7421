"""CS-KD on your own images, `FOLDER/train/<class>/*.jpg|png`, with `FOLDER/val` and `FOLDER/test` if there are any.

python train_main.py --config=configs/image_folder.py --config.data.source.path=FOLDER
"""

from configs import base


def get_config():
    config = base.get_config()
    config.methods = ({"name": "CSKD", "temperature": 4.0, "weight": 1.0},)
    config.data.source.name = "image_folder"
    config.data.augment.image_size = 32
    # For 224 pixels also config.data.augment.short_side = 256, as the public code has it.
    config.data.augment.crop = "random_resized_crop"
    config.data.augment.mean = (0.485, 0.456, 0.406)  # ImageNet's
    config.data.augment.std = (0.229, 0.224, 0.225)
    return config
