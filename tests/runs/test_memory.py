import math
import types

import pytest
import tensorflow as tf

from cskd_tf.runs import experiment, memory, train
from cskd_tf.runs.workdir import Workdir
from tests.runs.helpers import config_of

MIB = 2**20


def floats(count):
    return f"{4 * count / MIB:.1f}"


def test_the_line_adds_up_what_there_is():
    built = experiment.prepare(config_of({"network.width": 32, "methods": ({"name": "PSKD"}, {"name": "BYOT"})}))
    model = built.model
    trained = sum(math.prod(each.shape) for each in model.trainable_variables)
    own = sum(math.prod(each.shape) for each in model.methods[1].variables)
    table = 40 * 10 * 2 / 4  # of two bytes each
    pixel = built.splits["train"].load([0]).dtype.size
    images = 1797 * 64 * pixel / MIB  # one array, of which the splits are parts
    assert memory.describe(built) == (
        f"{trained:,} parameters; MiB on each replica: weights {floats(model.network.count_params())}, "
        f"optimizer {floats(trained)}, methods {floats(own + table)}; images in memory {images:.1f} MiB; "
        "computed on the CPU"
    )
    assert trained * 4 > MIB


@pytest.mark.parametrize(
    ("source", "copies"), [("stored", 0), ("network", 1)]
)  # what is held without being tracked counts too
def test_a_copy_of_the_network_counts(source, copies):
    built = experiment.prepare(config_of({"methods": ({"name": "PSKD", "source": source},)}))
    (method,) = built.model.methods
    assert memory.size_of(method.untracked_variables) == copies * 4 * built.model.network.count_params()


def test_a_teacher_counts(linear_network):
    from cskd_tf.methods import TFKD, Distillation

    teacher = linear_network()
    for method in (Distillation(teacher=teacher), TFKD(teacher=teacher)):
        assert memory.size_of(method.untracked_variables) == 4 * 51
    assert memory.size_of(TFKD().untracked_variables) == 0


def test_gpus_are_listed_with_what_they_have(monkeypatch):
    gpu = types.SimpleNamespace(name="/device:GPU:0", device_type="GPU", memory_limit=15 * 2**30)
    cpu = types.SimpleNamespace(name="/device:CPU:0", device_type="CPU", memory_limit=2**28)
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [gpu])
    monkeypatch.setattr(memory.device_lib, "list_local_devices", lambda: [cpu, gpu])
    monkeypatch.setattr(
        tf.config.experimental, "get_memory_info", lambda device: {"current": {"GPU:0": 100 * MIB}[device]}
    )
    assert memory._devices() == ["/device:GPU:0 15,360 MiB, 100 of them taken"]


@pytest.mark.thorough
def test_a_run_says_it_once(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(train, "fit", lambda *_, **__: pytest.fail("trained"))
    with caplog.at_level("INFO", logger="absl"), pytest.raises(pytest.fail.Exception, match="trained"):
        train.train(config_of({}), Workdir(tmp_path / "run"))
    lines = [record.getMessage() for record in caplog.records if "parameters; MiB on each replica" in record.message]
    assert len(lines) == 1


def test_averaged_weights_count():
    built = experiment.prepare(config_of({"network.width": 32, "optimizer.ema_momentum": 0.9}))
    weights = built.model.network.count_params()
    assert f"average {floats(weights)};" in memory.describe(built)
    assert weights * 4 > 2**20
