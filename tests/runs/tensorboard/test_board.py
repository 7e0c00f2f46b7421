"""What a run shows of each epoch, and of itself, in TensorBoard's files."""

import json
import math

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from cskd_tf.data import ArraySource, paired_dataset
from cskd_tf.files import read_arrays
from cskd_tf.runs import train
from cskd_tf.runs.callbacks import RunLog
from cskd_tf.runs.tensorboard.about import hyperparameters, name_of_run
from cskd_tf.runs.tensorboard.board import TensorBoard
from cskd_tf.runs.tensorboard.pictures import Pictures
from cskd_tf.runs.workdir import Workdir
from cskd_tf.training.callbacks import Evaluation
from tests.helpers import trainable_model
from tests.runs.helpers import config_of

EVALUATED = {
    "quality/top1_error", "quality/top5_error", "quality/recall_at_1", "quality/aurc", "calibration/nll",
    "calibration/ece", "loss/cross_entropy",
}  # fmt: skip
PICTURES = {"calibration/reliability", "quality/confusion", "quality/mistakes"}


def read(folder):
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return events


def values(events, tag):
    return [(event.step, float(tf.make_ndarray(event.tensor_proto))) for event in events.Tensors(tag)]


@pytest.mark.thorough
def test_training_and_validation_share_tags_in_sections(linear_network, images_and_labels, tmp_path):
    images, labels = images_and_labels
    model = trainable_model(linear_network())
    evaluation = Evaluation(images_and_labels)
    source = ArraySource(np.uint8(255 * (images - images.min()) / np.ptp(images)), labels)
    pictures = Pictures(source, bins=5)
    workdir = Workdir(tmp_path)
    board = TensorBoard(tmp_path / "tensorboard", evaluation=evaluation, pictures=pictures)
    data = paired_dataset(*images_and_labels, batch_size=8, seed=0, epochs=2)
    history = model.fit(data, epochs=2, verbose=0, callbacks=[evaluation, RunLog(workdir), board]).history
    assert sorted(path.name for path in (tmp_path / "tensorboard").iterdir()) == ["train", "val"]
    training, validation = (read(tmp_path / "tensorboard" / name) for name in ("train", "val"))
    losses = {"loss/loss", "loss/cross_entropy", "loss/class_wise"}
    assert set(training.Tags()["tensors"]) == {*losses, "training/learning_rate"}
    assert set(validation.Tags()["tensors"]) == {*EVALUATED, *PICTURES}
    for events, tag, log in (
        (training, "loss/class_wise", "class_wise"),
        (training, "loss/cross_entropy", "cross_entropy"),
        (validation, "loss/cross_entropy", "val_nll"),
        (validation, "calibration/ece", "val_ece"),
    ):
        assert values(events, tag) == [(step + 1, pytest.approx(value)) for step, value in enumerate(history[log])]
    png = tf.make_ndarray(validation.Tensors("calibration/reliability")[1].tensor_proto)[2]
    pixels = tf.io.decode_png(png).numpy()
    assert pixels.shape == (540, 440, 3)
    blue = np.all(np.abs(pixels.astype(int) - [0x2A, 0x6F, 0x97]) < 8, axis=-1)
    assert blue.sum() > 500  # the bars are there


def test_an_undefined_figure_is_none_of_zero(linear_network, images_and_labels, tmp_path):
    images, labels = images_and_labels
    network = linear_network()
    network.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    evaluation = Evaluation((images[5:7], labels[5:7]))  # each alone in its class
    board = TensorBoard(tmp_path, evaluation=evaluation)
    network.fit(images, labels, verbose=0, callbacks=[evaluation, board])
    ((_, recall),) = values(read(tmp_path / "val"), "quality/recall_at_1")
    assert math.isnan(recall)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of two epochs, its config, and the folder of its events."""
    network = {"network.name": "tests.runs.helpers:small_network", "network.width": 4}
    config = config_of({**network, "epochs": 2, "export.enabled": False})
    workdir = Workdir(tmp_path_factory.mktemp("runs") / "run")
    train.train(config, workdir)
    return workdir, config, workdir.tensorboard / "cskd"


@pytest.mark.thorough
def test_a_run_is_named_after_its_methods(run):
    _, config, folder = run
    assert name_of_run(config) == "cskd"
    assert name_of_run(train.baseline_of(config)) == "cross_entropy"
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["test", "train", "val"]
    assert not list(folder.parent.glob("*tfevents*"))


@pytest.mark.thorough
def test_a_run_has_its_hyperparameters_its_config_and_its_graph(run):
    _, config, folder = run
    events = read(folder)
    content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    found = metadata.parse_session_start_info_plugin_data(content).hparams
    assert found["methods"].string_value == "CSKD(temperature=4, weight=1)"
    assert found["methods[0].weight"].number_value == 1
    assert found["schedule.learning_rate"].number_value == config.schedule.learning_rate
    assert "verbose" not in found
    assert set(found) == set(hyperparameters(config))
    text = tf.make_ndarray(events.Tensors("config")[0].tensor_proto).item().decode()
    assert json.loads(text.partition("```json")[2].partition("```")[0]) == config.as_dict()
    assert [node.op for node in events.Graph().node if "conv" in node.name and node.op == "Conv2D"] == ["Conv2D"]


@pytest.mark.thorough
def test_the_other_split_is_shown_when_the_run_has_finished(run):
    workdir, config, folder = run
    events = read(folder / "test")
    assert set(events.Tags()["tensors"]) == EVALUATED
    assert values(events, "calibration/ece") == [(config.epochs, pytest.approx(workdir.metrics()["test"]["ece"]))]


@pytest.mark.thorough
def test_the_projector_finds_embeddings_classes_and_pictures(run):
    from google.protobuf import text_format
    from tensorboard.plugins.projector import ProjectorConfig

    workdir, _, folder = run
    shown = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig()).embeddings[0]
    thumbnails = read_arrays(workdir.thumbnails("test"), ["images", "indices"])
    predictions = read_arrays(workdir.predictions("test"), ["logits", "labels", "embeddings"])
    count = len(thumbnails["indices"])
    assert list(shown.tensor_shape) == [count, predictions["embeddings"].shape[1]]
    tensors = np.loadtxt(folder / shown.tensor_path, delimiter="\t")
    np.testing.assert_allclose(tensors, predictions["embeddings"][thumbnails["indices"]], rtol=1e-5, atol=1e-12)
    header, *rows = (line.split("\t") for line in (folder / shown.metadata_path).read_text().splitlines())
    assert header == ["class", "predicted", "confidence"]
    assert [int(row[0]) for row in rows] == predictions["labels"][thumbnails["indices"]].tolist()
    wrong = sum(row[0] != row[1] for row in rows)
    assert wrong == (predictions["logits"].argmax(axis=1) != predictions["labels"])[thumbnails["indices"]].sum()
    width, height = shown.sprite.single_image_dim
    with PIL.Image.open(folder / shown.sprite.image_path) as image:
        sprite = np.asarray(image)
    columns = sprite.shape[1] // width
    last = count - 1
    cell = sprite[last // columns * height :, last % columns * width :][:height, :width]
    np.testing.assert_array_equal(cell[:: height // 8, :: width // 8, :1], thumbnails["images"][last])
