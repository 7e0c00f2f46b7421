"""CS-KD beside cross-entropy on 50 characters, of which each is seen in 5 fonts and tested in others.

    python train_main.py --config=configs/fonts.py

Matplotlib's fonts, drawn at 24 x 24 pixels; both runs together take about a minute on two CPU cores. Harder than
the digits: there are more classes of fewer images, and which fonts are trained on is drawn for each class by itself.
"""

from configs import digits


def get_config():
    config = digits.get_config()
    config.data.source.name = "fonts"
    config.data.split.test_fraction = 0.5
    config.data.split.validation_fraction = 0.3
    config.data.split.train_per_class = 5
    config.data.augment.image_size = 24
    return config
