"""CS-KD beside cross-entropy on Fashion-MNIST, with few photographs of each of its ten garments.

    python train_main.py --config=configs/fashion_mnist.py

Keras downloads it, 30 MB, or `--config.data.source.path` names a folder of its four files. Both runs together take
about a minute on two CPU cores.
"""

from configs import digits


def get_config():
    config = digits.get_config()
    config.data.source.name = "fashion_mnist"
    config.data.split.validation_fraction = 0.01
    config.data.split.train_per_class = 5
    config.data.augment.image_size = 28
    return config
