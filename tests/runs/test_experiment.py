"""From a config to data, network, methods and model: what is resolved and refused on the way."""

import numpy as np
import pytest
import tensorflow as tf

from configs import digits
from cskd_tf.runs import experiment
from cskd_tf.runs.config import Config


@pytest.fixture
def config():
    config = digits.get_config()
    config.deterministic = False
    config.network.width = 4
    config.data.split.train_per_class = 4
    return config


@pytest.mark.parametrize("named", ["run", "run/classifier.keras"])
def test_a_teacher_is_named_by_a_workdir_or_by_the_file_in_it(named, config, tmp_path):
    teacher = experiment.build_network(Config.read(config), num_classes=10)
    (tmp_path / "run").mkdir()
    teacher.save(tmp_path / "run" / "classifier.keras")
    config.methods = ({"name": "Distillation", "teacher": str(tmp_path / named)},)
    built = experiment.prepare(Config.read(config))
    (method,) = built.model.methods
    assert method.get_config()["teacher"] == str(tmp_path / "run" / "classifier.keras")
    images = tf.constant(np.random.default_rng(0).normal(size=(3, 16, 16, 1)), tf.float32)
    np.testing.assert_allclose(method._teacher(images), teacher(images), atol=1e-5)
    # The run keeps what its user wrote.
    assert built.config.methods == ({"name": "Distillation", "teacher": str(tmp_path / named)},)


def test_a_workdir_without_a_classifier_is_no_teacher(config, tmp_path):
    config.methods = ({"name": "TFKD", "teacher": str(tmp_path)},)
    message = f"the workdir of a finished run, with classifier.keras, as teacher. Received: {tmp_path}"
    with pytest.raises(ValueError, match=message):
        experiment.prepare(Config.read(config))
