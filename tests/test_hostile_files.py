"""Files that others have made, with code in them or worse, at every door by which they come in: nothing of it runs.

Networks and their weights: test_hostile_networks.py. Archives: tests/data/catalogue/builders.
"""

import json
import os
import pickle

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import ImageFolder
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.runs.config import Config
from cskd_tf.runs.figures import pictures_of
from cskd_tf.runs.image_log import read_image_log
from tests.helpers import ALONE, SMALL, files, finished_run, load_splits
from tests.hostile import Pickled, npz_of


def test_the_traps_work(canary):
    pickle.loads(pickle.dumps(Pickled(canary)))
    assert canary.exists()


HOSTILE_ARRAYS = {
    "pickled": lambda canary: npz_of(logits=np.array([Pickled(canary)], object)),
    "a pickle": lambda canary: pickle.dumps(Pickled(canary)),
    "one array": lambda canary: pickle.dumps(np.zeros(3)),
    "other arrays": lambda canary: npz_of(weights=np.zeros(3)),
    "cut off": lambda canary: npz_of(logits=np.zeros(300))[:400],
    "empty": lambda canary: b"",
}


@pytest.mark.parametrize("kind", HOSTILE_ARRAYS)
def test_predictions_with_code_in_them_are_refused_by_the_report(kind, command, canary):
    labels = np.arange(30) % 3
    for seed in (0, 1):
        run, _ = finished_run(canary.with_name("runs") / str(seed), seed=seed, labels=labels)
    run.predictions("test").write_bytes(HOSTILE_ARRAYS[kind](canary))
    with pytest.raises(ValueError, match=r"numpy with the arrays .*Received: .*predictions_test.npz \("):
        Predictions.load(run.predictions("test"))
    code, printed = command("--mode=report", "--workdir=runs")
    assert (code, "error: Expected a file of numpy with" in printed, "Traceback" in printed) == (1, True, False), (
        printed
    )
    assert not canary.exists()


@pytest.mark.parametrize("kind", HOSTILE_ARRAYS)
def test_arrays_with_code_in_them_are_refused_by_the_figures(kind, canary):
    run, _ = finished_run(canary.with_name("run"), seed=0, labels=np.arange(30) % 3)
    log = run.image_log / "epoch-1.npz"
    log.parent.mkdir()
    doors = {log: lambda: read_image_log(run), run.thumbnails("test"): lambda: pictures_of([run], 30)}
    for path, read in doors.items():
        path.write_bytes(HOSTILE_ARRAYS[kind](canary))
        with pytest.raises(ValueError, match=rf"numpy with the arrays .*Received: .*{path.name} \("):
            read()
    assert not canary.exists()


@pytest.mark.parametrize("name", ["evil:network", "given.evil:network"])
@pytest.mark.parametrize("mode", ["evaluate", "export"])
def test_a_given_folder_chooses_no_code_to_run(name, mode, command, canary):
    run, _ = finished_run(canary.with_name("given"), seed=0, labels=np.arange(30) % 3)
    values = run.config().as_dict()
    values["network"]["name"] = name
    (run.path / "config.json").write_text(json.dumps(Config.read(values).as_dict()))
    (run.path / "evil.py").write_text(canary.with_name("evil.py").read_text())
    before = files(run.path)
    code, printed = command(f"--mode={mode}", "--workdir=given")
    assert code == 1
    assert "Expected --config=FILE of the run as well" in printed, printed
    assert not canary.exists()
    assert files(run.path) == before


@pytest.mark.slow
def test_the_owner_of_a_network_evaluates_it_by_the_config(command, monkeypatch, tmp_path):
    (tmp_path / "my_own_network.py").write_text(
        "from cskd_tf import networks\n"
        "def small(**arguments): return networks.build('preact_resnet10', **{**arguments, 'width': 2})\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = ("--workdir=run", "--config.network.name=my_own_network:small", "--config.epochs=1", *ALONE, *SMALL)
    for mode in ("train", "evaluate"):
        code, printed = command(*settings, f"--mode={mode}")
        assert code == 0, printed
    assert "Expected --config=FILE of the run as well" in command("--workdir=run", "--mode=evaluate")[1]


@pytest.mark.parametrize("kind", ["pipe", "device", "nothing"])
@pytest.mark.parametrize("check_files", [True, False])
def test_an_image_that_is_no_file_is_refused(kind, check_files, image_folder):
    path = image_folder / "train" / "cat" / "9.jpg"
    if kind == "pipe":
        os.mkfifo(path)  # to read from it would be to wait for somebody who writes
    else:
        path.symlink_to("/dev/zero" if kind == "device" else image_folder / "nothing")
    with pytest.raises(ValueError, match=r"Received: 1 that are (no|not whole) .*train/cat/9.jpg"):
        ImageFolder(image_folder / "train", check_files=check_files)


def test_code_of_others_is_not_downloaded_as_a_data_set(canary):
    with pytest.raises(ValueError, match="comes with TFDS, because .*Received: 'kaggle:evil'"):
        load_splits("tfds:kaggle:evil", path=str(canary.parent))


@pytest.mark.parametrize("key", ["type", "pythonClassName", "python_class_name"])
def test_a_prepared_data_set_imports_nothing(key, canary):
    folder = canary.parent / "photos" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "features.json").write_text(
        json.dumps(
            {
                "featuresDict": {"features": {"image": {key: "evil.Image"}}},
                key: ("tensorflow_datasets.core.features.features_dict.FeaturesDict"),
                "content": {},
            }
        )
    )
    (folder / "dataset_info.json").write_text(json.dumps({"name": "photos", "version": "1.0.0"}))
    with pytest.raises(
        ValueError, match=r"TFDS' own classes. Received: .*photos/1.0.0/features.json with \['evil.Image'\]"
    ):
        load_splits("tfds:photos", path=str(canary.parent))
    assert not canary.exists()


@pytest.mark.parametrize("kind", ["pickled", "other arrays", "cut off", "empty"])
def test_the_index_of_records_holds_no_code(kind, canary, monkeypatch):
    from cskd_tf.data.sources import tfrecords

    records = canary.with_name("photos.tfrecord")
    with tf.io.TFRecordWriter(str(records)) as writer:
        writer.write(tf.train.Example(features=tf.train.Features(feature={
            "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[1])),
        })).SerializeToString())  # fmt: skip
    assert tfrecords._index(canary.parent, [str(records)], "label")["labels"].tolist() == [1]
    (cache,) = canary.parent.glob("cskd_tf_index_*.npz")
    assert tfrecords._index(canary.parent, [str(records)], "label")["labels"].tolist() == [1]
    cache.write_bytes(HOSTILE_ARRAYS[kind](canary).replace(b"logits", b"shards"))
    with pytest.raises(ValueError, match="Expected a file of numpy with the arrays .*cskd_tf_index"):
        tfrecords._index(canary.parent, [str(records)], "label")
    assert not canary.exists()
