import pathlib

import pytest

from configs import digits
from cskd_tf.runs import train
from cskd_tf.runs.workdir import Workdir
from cskd_tf.serving import saved_model
from tests.runs.helpers import config_of


def small_config(folder):
    """The default config at a size that trains in a second: a convolution, 4 training images per class, two epochs."""
    config = digits.get_config()
    config.deterministic = False
    config.baseline = False
    config.epochs = 2
    config.batch_size = 16
    config.verbose = 0
    config.network.name, config.network.width = "tests.runs.helpers:small_network", 4
    config.data.split.train_per_class = 4
    config.export.directory = str(folder / "saved_models")
    return config


@pytest.fixture
def config(tmp_path):
    return small_config(tmp_path)


@pytest.fixture(scope="session")
def exported_run(tmp_path_factory):
    """A finished run of a small network on the digits, exported without the check, which takes as long as all else."""
    folder = tmp_path_factory.mktemp("exported")
    workdir = Workdir(folder / "run")
    changes = {
        "network.name": "tests.runs.helpers:small_network", "network.width": 8, "epochs": 6, "deterministic": True,
        "data.split.test_fraction": 0.7, "data.split.train_per_class": 20, "methods": (),
        "export.directory": str(folder / "models"),
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saved_model, "difference_in_fresh_process", lambda *_: 0.0)
        train.train(config_of(changes), workdir)
    return workdir


@pytest.fixture(scope="session")
def exported_folder(exported_run):
    """Its SavedModel."""
    return pathlib.Path(exported_run.metrics()["saved_model"])
