import pytest

from configs import digits


def small_config(folder):
    """The default config at a size that trains in seconds: 4 training images per class, two epochs."""
    config = digits.get_config()
    config.deterministic = False
    config.baseline = False
    config.epochs = 2
    config.batch_size = 16
    config.verbose = 0
    config.network.width = 4
    config.data.split.train_per_class = 4
    config.export.directory = str(folder / "saved_models")
    return config


@pytest.fixture
def config(tmp_path):
    return small_config(tmp_path)
