"""CS-KD on the images that a CSV file lists: columns `path`, `label` and, if there are splits, `split`.

python train_main.py --config=configs/csv.py --config.data.source.path=FILE.csv
"""

from configs import image_folder


def get_config():
    config = image_folder.get_config()
    config.data.source.name = "csv"
    return config
