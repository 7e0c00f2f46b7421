import math

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.runs import evaluate, experiment, strategies, train
from cskd_tf.runs.config import Config
from cskd_tf.runs.workdir import Workdir


@pytest.mark.slow
def test_a_run_on_two_replicas_trains_resumes_and_exports(config, two_replicas, monkeypatch, tmp_path):
    monkeypatch.setitem(strategies.STRATEGIES, "mirrored", lambda: two_replicas)
    config.strategy = "mirrored"
    config.network.synchronized = True
    # A head that inference needs, a table that it does not, and a view.
    config.methods = tuple({"name": name} for name in ("AdaCos", "PSKD", "CSKD"))
    workdir = Workdir(tmp_path / "run")
    train.train(Config.read(config), workdir)
    assert [entry["epoch"] for entry in workdir.log()] == [1, 2]
    assert workdir.metrics()["saved_model"].endswith("run/1")
    before = Predictions.load(workdir.predictions("test"))
    assert len(before.labels) == 1168
    served = tf.train.load_checkpoint(workdir.metrics()["saved_model"] + "/variables/variables")
    shapes = served.get_variable_to_shape_map().items()
    sizes = [math.prod(shape) for name, shape in shapes if name.endswith("VARIABLE_VALUE")]
    network = experiment.build_network(Config.read(config), num_classes=10)
    assert sum(sizes) == network.count_params() + 1  # AdaCos' scale

    # One replica takes the same steps, because batch norm averages over all.
    single = config.copy_and_resolve_references()
    single.strategy, single.export.enabled = "single", False
    train.train(Config.read(single), Workdir(tmp_path / "single"))
    for name in ("loss", "class_wise"):
        one, two = ([entry[name] for entry in Workdir(tmp_path / part).log()] for part in ("single", "run"))
        np.testing.assert_allclose(two, one, rtol=1e-4)

    # As if it had been stopped in the second epoch.
    for path in workdir.checkpoints.glob("last/ckpt-2.*"):
        path.write_bytes(b"")
    (workdir.path / "metrics.json").unlink()
    train.train(Config.read(config), workdir)
    np.testing.assert_array_equal(Predictions.load(workdir.predictions("test")).logits, before.logits)


def test_a_finished_run_is_left_as_it_is_and_says_so(config, tmp_path, caplog):
    workdir = Workdir(tmp_path / "run")
    workdir.claim(Config.read(config))
    workdir.write_metrics({"test": {}})
    with caplog.at_level("INFO", logger="absl"):
        train.train(Config.read(config), workdir)
    assert "run is finished; remove it, or choose another --workdir" in caplog.text
    assert workdir.metrics() == {"test": {}}
    assert not workdir.checkpoints.exists()


def test_the_baseline_is_the_run_but_for_its_methods(config):
    config.baseline = True
    run = Config.read(config)
    assert train.baseline_of(run).as_dict() == {**run.as_dict(), "methods": [], "baseline": False}


def test_the_baseline_is_checked_with_the_run_before_anything_is_written(config, tmp_path):
    config.baseline = True
    config.methods[0]["weight"] = -1.0
    with pytest.raises(ValueError, match="weight"):
        train.train(Config.read(config), Workdir(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ({"name": "CSKD", "in_batch": True},), "batch_size": 15}, "a multiple of 2 as batch size"),
        ({"methods": ({"name": "Mixup"},), "batch_size": 13, "strategy": "mirrored"}, "which leaves 1 of 40 images"),
    ],
)
def test_batches_that_cannot_be_made_are_refused_before_anything_is_written(
    changes, message, config, two_replicas, monkeypatch, tmp_path
):
    monkeypatch.setitem(strategies.STRATEGIES, "mirrored", lambda: two_replicas)
    config.update(changes)
    with pytest.raises(ValueError, match=message):
        train.train(Config.read(config), Workdir(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.thorough
def test_a_student_is_evaluated_and_exported_when_its_teacher_is_gone(config, tmp_path):
    config.epochs = 1
    config.export.enabled = False
    config.network.name = "benchmarks.small_networks:with_stages"
    teacher = tmp_path / "teacher.keras"
    experiment.build_network(Config.read(config), num_classes=10).save(teacher)
    config.methods = ({"name": "Distillation", "teacher": str(teacher)}, {"name": "BYOT"})
    workdir = Workdir(tmp_path / "run")
    train.train(Config.read(config), workdir)
    before = Predictions.load(workdir.predictions("test")).logits
    teacher.unlink()
    workdir.predictions("test").unlink()
    evaluate.evaluate(workdir)
    np.testing.assert_array_equal(Predictions.load(workdir.predictions("test")).logits, before)
    assert evaluate.load_run(workdir).config == workdir.config()


@pytest.mark.thorough
@pytest.mark.parametrize(
    "split", ["train", pytest.param("test", marks=pytest.mark.slow)]
)  # the latter is read when the last epoch has been trained
def test_an_image_that_turns_out_damaged_is_named(split, config, image_folder, tmp_path):
    path = image_folder / split / "dog" / "0.png"
    contents = bytearray(path.read_bytes())
    contents[60:100] = bytes(40)  # whole at both ends
    path.write_bytes(contents)
    config.data.source.update(name="image_folder", path=str(image_folder), channels=3, memory=0.0)
    config.data.augment.update(mean=(0.5,) * 3, std=(0.5,) * 3)
    config.data.split.update(validation_fraction=0.2, train_per_class=0)
    config.batch_size = 4
    with pytest.raises(ValueError, match=rf"1 of ({split}|val) that cannot be decoded: \['.*dog/0.png'\]"):
        train.train(Config.read(config), Workdir(tmp_path / "run"))
