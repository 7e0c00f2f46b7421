"""`train_main.py predict`: files to CSV or JSON lines."""

import csv
import errno
import io
import itertools
import json
import os

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from cskd_tf.errors import UserError
from cskd_tf.runs import predicted_file
from cskd_tf.runs.predict import UNREADABLE, Predictor, find_files, predict
from tests.selection import few

NAMES = [str(digit) for digit in range(10)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """70 files of digits, two of which are none, in two folders."""
    root = tmp_path_factory.mktemp("photos")
    (root / "more").mkdir()
    images = np.round(load_digits().images[:70] * (255 / 16)).astype(np.uint8)[..., None]
    for number, image in enumerate(images):
        encode = tf.io.encode_jpeg if number % 3 else tf.io.encode_png
        name = f"{number:02}.{'jpg' if number % 3 else 'png'}"
        (root / ("more" if number % 2 else "") / name).write_bytes(encode(image).numpy())
    (root / "05a.jpg").write_bytes(b"GIF89a")
    (root / "more" / "cut.png").write_bytes((root / "00.png").read_bytes()[:40])
    (root / "notes.txt").write_text("no image")
    return root


def csv_rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_a_workdir_and_a_saved_model_say_the_same(exported_run, exported_folder, photos, capsys, caplog):
    """Of files that can be read, at most 1e-5 apart, and as the SavedModel's signature does."""
    printed = []
    caplog.set_level("INFO", logger="absl")
    for model, config in ((exported_run.path, exported_run.config()), (exported_folder, None)):
        assert predict([str(photos)], model=str(model), config=config, form="jsonl") == UNREADABLE
        printed.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
        assert f"{model}: images to predict: 72" in caplog.text  # also where nobody has said by which model
    assert [row["path"] for row in printed[0]] == [row["path"] for row in printed[1]]
    assert len(printed[0]) == 72
    served = tf.saved_model.load(str(exported_folder))
    for mine, theirs in zip(*printed, strict=True):
        if "error" in mine:
            assert mine == theirs
            continue
        assert (mine["label"], mine["set"]) == (theirs["label"], theirs["set"])
        outputs = served.serve_bytes([tf.io.read_file(mine["path"])])
        for row in (mine, theirs):
            found = [top["probability"] for top in row["top"]]
            np.testing.assert_allclose(found, outputs["top_probabilities"][0], atol=1e-5)
            assert row["confidence"] == found[0]
            assert row["label"] == row["top"][0]["label"] == outputs["top_names"][0, 0].numpy().decode()
        assert mine["set"] == [NAMES[number] for number in np.flatnonzero(outputs["conformal_set"][0])]


def test_a_line_for_each_image_those_too_that_cannot_be_read(exported_folder, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(photos)
    os.mkfifo(tmp_path / "pipe.png")
    given = ["notes.txt", "more/0*.jpg", "05a.jpg", str(tmp_path / "pipe.png")]
    assert predict(given, model=str(exported_folder), output=str(tmp_path / "out.csv")) == UNREADABLE
    rows = csv_rows((tmp_path / "out.csv").read_text())
    classes = [f"{kind}_{place}" for place in (2, 3, 4, 5) for kind in ("label", "probability")]
    assert list(rows[0]) == ["path", "label", "confidence", *classes, "set", "error"]
    errors = {row["path"]: row["error"] for row in rows}
    assert errors == {
        "notes.txt": "Expected JPEG or PNG.", "more/01.jpg": "", "more/05.jpg": "", "more/07.jpg": "",
        "05a.jpg": "Expected JPEG or PNG.", str(tmp_path / "pipe.png"): "no file",
    }  # fmt: skip
    for row in rows:
        if not row["error"]:
            chain = [float(row[name]) for name in ("confidence", *classes[1::2])]
            assert chain == sorted(chain, reverse=True)
            assert set(json.loads(row["set"])) <= set(NAMES)
        else:
            assert row["label"] == row["confidence"] == row["set"] == ""
    assert predict(["00.png"], model=str(exported_folder)) == 0
    (row,) = csv_rows(capsys.readouterr().out)
    assert row["path"] == "00.png"


@pytest.fixture
def before_each_batch(monkeypatch):
    """Does something before a batch is predicted, with the batch's number from 0."""

    def arm(action):
        original, numbers = Predictor.rows, itertools.count()

        def rows(self, contents):
            if len(contents) > 1:  # one alone is of a batch with a file that is no image
                action(next(numbers))
            return original(self, contents)

        monkeypatch.setattr(Predictor, "rows", rows)

    return arm


@pytest.mark.parametrize("to_file", few([True, False], 1), ids=["file", "stdout"])
def test_lines_appear_batch_by_batch(to_file, exported_folder, photos, before_each_batch, tmp_path, monkeypatch):
    shown = tmp_path / ("out.unfinished.jsonl" if to_file else "stdout")
    counts = []
    before_each_batch(lambda number: counts.append(shown.read_text().count("\n") if shown.exists() else 0))
    with open(tmp_path / "stdout", "w") as stdout, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", stdout)
        output = str(tmp_path / "out.jsonl") if to_file else None
        predict([str(photos)], model=str(exported_folder), output=output, form="jsonl")
    assert counts == [0, 32, 64]
    assert (tmp_path / ("out.jsonl" if to_file else "stdout")).read_text().count("\n") == 72
    assert not (tmp_path / "out.unfinished.jsonl").exists()


def test_what_was_predicted_before_an_interruption_stays(
    exported_folder, photos, before_each_batch, command, tmp_path, caplog
):
    def interrupt(number):
        if number == 2:
            raise KeyboardInterrupt

    before_each_batch(interrupt)
    words = ("predict", f"--workdir={exported_folder}", photos, f"--output={tmp_path / 'out.csv'}")
    code, printed = command(*words)
    assert (code, printed.splitlines()[-1]) == (130, "Interrupted.")
    kept = tmp_path / "out.unfinished.csv"
    assert f"{kept} keeps what was predicted so far" in caplog.text
    assert len(csv_rows(kept.read_text())) == 64
    assert not (tmp_path / "out.csv").exists()
    content = kept.read_bytes()
    code, printed = command(*words)
    assert (code, f"of which {kept} is there" in printed) == (1, True)
    assert kept.read_bytes() == content
    kept.unlink()

    def fill_the_disk(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before_each_batch(fill_the_disk)
    code, printed = command(*words)
    assert f"No space left on device: {tmp_path}" in printed
    assert not kept.exists()  # in which nothing would be


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
def test_a_terminal_shows_how_far_it_is_and_a_pipe_nothing(kind, exported_folder, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", screen := kind())
        predict([str(photos / "more" / "01.jpg")], model=str(exported_folder), output=str(tmp_path / "out.csv"))
    assert ("Predicting" in screen.getvalue()) == (kind is Terminal)
    assert kind is Terminal or not screen.getvalue()


def test_files_are_found_once_and_in_order(photos, monkeypatch):
    monkeypatch.chdir(photos)
    found = find_files(["more/03.png", "more", "**/0[0-2].*", "05a.jpg"])
    assert found[0] == "more/03.png"
    assert found.count("more/03.png") == len([file for file in found if file.endswith("03.png")]) == 1
    assert found[1:36] == sorted(found[1:36])
    assert found[36:] == ["00.png", "02.jpg", "05a.jpg"]


def test_a_link_to_an_image_is_predicted_beside_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real.jpg").touch()
    (tmp_path / "link.jpg").symlink_to("real.jpg")
    (tmp_path / "loop").symlink_to(".")
    assert {os.path.basename(file) for file in find_files(["**"])} == {"link.jpg", "real.jpg"}
    assert len(find_files(["**"])) == 2  # though there is a loop
    assert find_files(["real.jpg", "link.jpg", "./real.jpg"]) == ["real.jpg", "link.jpg"]
    assert find_files(["."]) == ["./link.jpg", "./real.jpg"]


def test_no_half_line_is_kept_where_the_disk_is_full(tmp_path):
    output = tmp_path / "out.csv"

    def write(lines):
        with predicted_file.opened(str(output)) as stream:
            stream.write(lines)
            stream.flush()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for written, kept in (("a,b\n1,2\n3,", "a,b\n1,2\n"), ("a,", None)):
        with pytest.raises(OSError, match="No space left on device"):
            write(written)
        partial = predicted_file.unfinished(str(output))
        assert (partial.read_text() if partial.exists() else None) == kept
        partial.unlink(missing_ok=True)


def test_patterns_and_folders_pass_over_what_is_no_image(photos, monkeypatch, caplog):
    monkeypatch.chdir(photos)
    of_pattern, of_folder = find_files(["**"]), find_files(["."])
    assert len(of_pattern) == len(of_folder) == 72
    assert "notes.txt" not in of_pattern
    assert caplog.messages == [
        "**: 1 files that are neither JPEG nor PNG are passed over",
        ".: 1 files that are neither JPEG nor PNG are passed over",
    ]
    assert find_files(["notes.txt"]) == ["notes.txt"]
    with pytest.raises(UserError, match=r"a pattern that fits some\. Received: \*\.txt, with 1 other files"):
        find_files(["*.txt"])


def test_what_cannot_be_done_is_refused_before_anything_is_computed(exported_folder, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.csv").write_text("mine")
    (tmp_path / "empty").mkdir()
    image = str(photos / "00.png")
    for given, options, why in (
        ([image], {"output": "there.csv"}, "--output to be a new file .*Received: there.csv, which is there already"),
        ([image], {"output": "nowhere/out.csv"}, "nowhere/out.csv, whose folder is not there"),
        ([image], {"output": f"{'long' * 70}.csv"}, r"long.csv, where nothing can be written \(File name too long"),
        ([image], {"output": "gs://bucket/out.csv"}, "mount a bucket to use it. Received: --output=gs://bucket/out"),
        ([image], {"output": "out.txt"}, "Expected --format=csv or jsonl, or an output that ends so"),
        (["nothing.jpg"], {}, r"Expected an image, a folder of images .* or a pattern .*Received: nothing.jpg"),
        (["empty"], {}, "Received: empty"),
        ([], {}, "Expected images, folders or patterns behind predict. Received: none"),
        ([image], {"model": str(tmp_path / "empty")}, "Expected the folder of a run"),
        ([image], {"model": str(exported_folder.parent)}, "a SavedModel. Received: .*, whose newest version is .*/1"),
        ([image], {"model": str(exported_folder / "runtimes" / "litert")}, "which another runtime reads: .*1 is for"),
        ([image], {"model": str(exported_folder / "runtimes" / "litert" / "model.tflite")}, "1 is for this one"),
    ):
        with pytest.raises(UserError, match=why):
            predict(given, **{"model": str(exported_folder), **options})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "there.csv"]
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_a_saved_model_that_takes_no_files_is_refused(photos, tmp_path):
    module = tf.Module()
    spec = tf.TensorSpec([None, None, None, 1], tf.uint8)
    module.serve = tf.function(lambda images: {"probabilities": tf.cast(images, tf.float32)}, input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path / "1"))
    (tmp_path / "1" / "assets.extra").mkdir()
    (tmp_path / "1" / "assets.extra" / "classes.json").write_text("[]")
    with pytest.raises(UserError, match="Expected a SavedModel that takes files, as --mode=export"):
        predict([str(photos)], model=str(tmp_path / "1"))


def test_the_command(exported_folder, photos, command, tmp_path, caplog):
    code, printed = command(
        "predict", f"--workdir={exported_folder}", photos / "00.png", photos / "05a.jpg", "--format=jsonl"
    )
    assert code == UNREADABLE
    first, second = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert (first["label"] in NAMES, second["error"]) == (True, "Expected JPEG or PNG.")
    assert "05a.jpg: Expected JPEG or PNG." in caplog.text
    assert "1 of 2 images could not be read" in caplog.text
    code, printed = command(
        "predict", f"--workdir={exported_folder}", photos / "00.png", f"--output={tmp_path / 'out.csv'}"
    )
    assert code == 0
    assert len(csv_rows((tmp_path / "out.csv").read_text())) == 1
    for wrong in (
        ("predict", "--mode=evaluate", "x.png"),
        ("predict", "--grid=seed=1", "x.png"),
        ("--output=x.csv",),
        ("guess", "x.png"),
    ):
        code, printed = command(*wrong)
        assert code != 0
        assert "Expected flags only, launch, or predict PATH ... with --workdir, --config, --output and" in printed
    start = ("predict", f"--workdir={exported_folder}")
    code, printed = command(*start, photos / "00.png", "--format=latex")
    assert (code, "--format=csv or jsonl, for predict" in printed) == (1, True)
