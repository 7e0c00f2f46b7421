import dataclasses
import json
import math
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from configs import digits
from cskd_tf import metrics
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.runs import evaluate, experiment, strategies, train
from cskd_tf.runs.callbacks import RunLog, TensorBoard
from cskd_tf.runs.config import Config
from cskd_tf.runs.workdir import Workdir, flatten
from cskd_tf.training.callbacks import Evaluation


@pytest.fixture
def config(tmp_path):
    config = digits.get_config()
    config.deterministic = False
    config.baseline = False
    config.epochs = 2
    config.batch_size = 16
    config.verbose = 0
    config.network.width = 4
    config.data.split.train_per_class = 4
    config.export.directory = str(tmp_path / "saved_models")
    return config


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
    shapes = served.get_variable_to_shape_map().items()  # Keras writes them once more, as _all_variables
    sizes = [math.prod(shape) for name, shape in shapes if name.startswith("variables/")]
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


def test_a_student_is_evaluated_and_exported_when_its_teacher_is_gone(config, tmp_path):
    config.epochs = 1
    config.export.enabled = False
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


def test_flatten_names_every_value():
    nested = {"a": {"b": (1, 2), "c": []}, "methods": [{"name": "CSKD"}, {"name": "Mixup"}]}
    assert flatten(nested) == {
        "a.b": [1, 2], "a.c": [], "methods[0].name": "CSKD", "methods[1].name": "Mixup",
    }  # fmt: skip


def test_json_is_written_whole(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.write_metrics({"val": {"ece": 0.5}})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"val": {"ece": 0.5}}
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_what_json_lacks_becomes_null(tmp_path):
    """Python writes NaN for a metric that is undefined, which other readers refuse."""
    workdir = Workdir(tmp_path)
    workdir.write_metrics({"val": {"recall_at_1": math.nan, "nll": [math.inf, 1.5]}, "best": (np.float64("nan"), 2)})
    assert workdir.metrics() == {"val": {"recall_at_1": None, "nll": [None, 1.5]}, "best": [None, 2]}
    workdir.append_log({"epoch": 1, "val_recall_at_1": math.nan})
    workdir.append_log({"epoch": 2, "val_recall_at_1": 0.5})
    workdir.trim_log(epochs=1)
    for name in ("metrics.json", "log.jsonl"):
        json.loads((tmp_path / name).read_text(), parse_constant=pytest.fail)
    assert workdir.log() == [{"epoch": 1, "val_recall_at_1": None}]


def test_an_epoch_log_with_an_undefined_figure_is_json(linear_network, images_and_labels, tmp_path):
    images, labels = images_and_labels
    network = linear_network()
    network.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    workdir = Workdir(tmp_path)
    evaluation = Evaluation((images[5:7], labels[5:7]))
    board = TensorBoard(workdir.tensorboard, evaluation=evaluation)
    network.fit(images, labels, epochs=2, verbose=0, callbacks=[evaluation, RunLog(workdir), board])
    json.loads((tmp_path / "log.jsonl").read_text().splitlines()[1], parse_constant=pytest.fail)
    assert [entry["val_recall_at_1"] for entry in workdir.log()] == [None, None]
    assert workdir.log()[1]["val_nll"] == pytest.approx(
        metrics.negative_log_likelihood(network(images[5:7]), labels[5:7])
    )


def test_images_alone_in_their_class_are_counted(tmp_path):
    labels = np.array([0, 0, 1, 2])
    predictions = Predictions(2 * np.eye(3)[labels], labels, np.eye(3)[labels])
    alone = Predictions(2 * np.eye(3), np.arange(3), np.eye(3))
    config = types.SimpleNamespace(evaluation=types.SimpleNamespace(ece_bins=5))
    fields = dict.fromkeys(field.name for field in dataclasses.fields(experiment.Experiment))
    run = experiment.Experiment(
        **fields | {"config": config, "splits": {"train": types.SimpleNamespace(class_groups=None)}}
    )
    measured = run.metrics(predictions)
    assert (measured["recall_at_1"], measured["recall_left_out"]) == (1.0, 2)
    measured = run.metrics(alone)
    assert math.isnan(measured["recall_at_1"])
    assert measured["recall_left_out"] == 3


def test_an_image_that_turns_out_damaged_in_training_is_named(config, image_folder, tmp_path):
    path = image_folder / "train" / "dog" / "0.png"
    contents = bytearray(path.read_bytes())
    contents[60:100] = bytes(40)  # whole at both ends
    path.write_bytes(contents)
    config.data.source.update(name="image_folder", path=str(image_folder), channels=3, memory=0.0)
    config.data.augment.update(mean=(0.5,) * 3, std=(0.5,) * 3)
    config.data.split.update(validation_fraction=0.2, train_per_class=0)
    config.batch_size = 4
    with pytest.raises(ValueError, match=r"1 of (train|val) that cannot be decoded: \['.*dog/0.png'\]"):
        train.train(Config.read(config), Workdir(tmp_path / "run"))


def test_the_config_reaches_the_pairing(config, two_replicas, monkeypatch):
    monkeypatch.setitem(strategies.STRATEGIES, "mirrored", lambda: two_replicas)
    config.strategy = "mirrored"
    config.data.pairing.update(replica_local=True, exclude_self=True)
    built = experiment.prepare(Config.read(config))
    indices = built.splits["train"].load(np.arange(40)).numpy().reshape(40, -1)
    numbers = {image.tobytes(): number for number, image in enumerate(indices)}
    built.training_transform = lambda images, seeds: images
    for batch, _ in built.training_data().take(2):
        image, partner = (
            [numbers[pixels.astype(np.uint8).tobytes()] for pixels in batch[view].numpy().reshape(16, -1)]
            for view in ("image", "partner")
        )
        assert [number % 2 for number in image] == [number % 2 for number in partner] == [0] * 8 + [1] * 8
    config.data.pairing.update(replica_local=False)
    built = experiment.prepare(Config.read(config))
    built.training_transform = lambda images, seeds: images
    for batch, _ in built.training_data().take(3):
        assert not (batch["image"].numpy() == batch["partner"].numpy()).all(axis=(1, 2, 3)).any()  # exclude_self
    config.data.pairing.update(balanced=True)
    labels = np.concatenate([labels for _, labels in experiment.prepare(Config.read(config)).training_data().take(3)])
    assert np.bincount(labels).tolist() == [4] * 10
