import importlib
import re
import shutil
import types

import numpy as np
import PIL.Image
import pytest

from configs import evidence, recommendation
from cskd_tf.data import ImageFolder
from cskd_tf.data.sources.inspection import inspect
from cskd_tf.runs import doctor, experiment
from cskd_tf.runs.config import Config
from cskd_tf.runs.doctor import contents, costs
from tests.data.helpers import write_classes


def config_of(folder, **changes):
    config = importlib.import_module("configs.image_folder").get_config()
    config.deterministic = False
    config.network.name = "tests.runs.helpers:small_network"
    config.network.width = 4
    config.batch_size = 4
    config.data.augment.image_size = 8
    config.data.source.path = str(folder)
    config.data.split.validation_fraction = 0.3
    config.update(changes)
    return Config.read(config)


def row(printed, heading):
    (line,) = [line for line in printed.splitlines() if line.strip().startswith(heading)]
    return re.split(r"\s{2,}", line.strip())[1:]


@pytest.mark.thorough
def test_a_sound_folder_is_described_and_timed(image_folder, capsys):
    doctor.examine(config_of(image_folder))
    printed = capsys.readouterr().out
    assert row(printed, "images  ") == ["8", "4", "6"]
    assert row(printed, "classes  ") == ["2", "2", "2"]
    assert row(printed, "images per class: fewest") == ["4", "2", "3"]
    assert row(printed, "unreadable images") == ["0", "0", "0"]
    assert row(printed, "also in an earlier split") == ["0", "0", "0"]
    assert row(printed, "smallest, pixels")[2] == "20 x 24"
    assert row(printed, "largest")[2] == "22 x 22"
    assert row(printed, "steps") == ["2"]
    assert float(row(printed, "per step, s")[0]) > 0
    assert float(row(printed, "most memory so far")[0]) > 0.1
    assert "Nothing here keeps the run from training." in printed


@pytest.mark.slow
@pytest.mark.parametrize("per_execution", [1, 2])
def test_a_step_is_timed_alone_however_many_keras_runs_at_a_time(per_execution, image_folder, monkeypatch):
    config = config_of(image_folder, batch_size=2, steps_per_execution=per_execution)
    built = experiment.prepare(config)
    timed = []
    monkeypatch.setattr(costs.statistics, "median", lambda seconds: timed.extend(seconds) or 1.0)
    assert costs.measure(built).step == 1.0 / per_execution
    assert len(timed) == 4 // per_execution - 1  # but for the first, which compiles


@pytest.mark.slow
def test_findings_that_do_not_keep_from_training(image_folder, capsys, caplog):
    train, test = image_folder / "train", image_folder / "test"
    shutil.copy(train / "cat" / "1.jpg", test / "cat" / "copy.jpg")
    (train / "owl").mkdir()
    (test / "owl").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12), np.uint8)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(pixels).save(train / "owl" / "grey.jpg", exif=exif)
    PIL.Image.fromarray(pixels.astype(np.uint16) * 256).save(test / "owl" / "deep.png")
    PIL.Image.fromarray(pixels).save(test / "cat" / "profile.png", icc_profile=bytes(2_000_000))  # too much for PIL
    doctor.examine(config_of(image_folder))
    printed = capsys.readouterr().out
    assert row(printed, "classes of a single image")[0] == "1"
    assert (
        "Classes of a single training image, its own partner where a method pairs images: 1 of 3 (owl)" in caplog.text
    )
    assert "test: R@1 leaves out 1 of 9 images, alone in their class\n" in printed
    assert "train: 1 images are grey" in printed
    assert "train: 1 images are rotated by EXIF, used as stored" in printed
    assert "test: 1 images are 16-bit, of which 8 are used" in printed
    assert "test: 1 images are sound but for what PIL cannot read of their metadata" in printed
    assert row(printed, "also in an earlier split") == ["0", "0", "1"]
    words = " ".join(printed.split())
    assert re.search(r"test: 1 images are in an earlier split as well, to the byte: .*cat/1.jpg.*cat/copy.jpg", words)


def test_copies_within_a_split_are_named_and_those_under_another_label(image_folder):
    for number in range(7):
        shutil.copy(image_folder / "train" / "cat" / "0.png", image_folder / "train" / "cat" / f"copy{number}.png")
    shutil.copy(image_folder / "train" / "cat" / "1.jpg", image_folder / "train" / "dog" / "copy.jpg")
    source = ImageFolder(image_folder / "train")
    copies, torn = contents.remarks({"train": source}, {"train": inspect(source, name="train")})
    assert re.match(r"train: 8 images are copies of others in it, to the byte: .* and 3 more$", copies)
    assert re.search(r": 1 images have a copy under another label: \S*cat/1.jpg \(cat\) and \S*copy.jpg \(dog\)$", torn)


def test_damage_is_named_and_fails(image_folder, capsys):
    path = image_folder / "test" / "dog" / "1.jpg"
    contents = bytearray(path.read_bytes())
    contents[4:40] = bytes(36)  # whole at both ends
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=r"1 images of test cannot be decoded: .*dog/1.jpg \(.+\)"):
        doctor.examine(config_of(image_folder))
    assert row(capsys.readouterr().out, "unreadable images") == ["0", "0", "1"]


def test_a_file_that_is_no_image_is_in_the_table(image_folder, capsys):
    (image_folder / "train" / "cat" / "0.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 images of (train|val) cannot be decoded: .*cat/0.jpg \(empty file\)"):
        doctor.examine(config_of(image_folder))
    assert "1" in row(capsys.readouterr().out, "unreadable images")


def advice(findings):
    return recommendation.mending(recommendation.recommend(findings, evidence.published()), findings)


@pytest.mark.thorough
def test_settings_that_cannot_be_trained_are_mended_after_all_was_said(image_folder, capsys):
    config = config_of(image_folder, batch_size=9)
    with pytest.raises(ValueError, match=r"batch_size from 1 to 8.*\nIt can be trained with --config.batch_size=2$"):
        doctor.examine(config, advise=advice)
    printed = capsys.readouterr().out
    assert row(printed, "images per class: fewest") == ["4", "2", "3"]
    assert "labels are not checked" in printed
    assert "Nothing here keeps the run from training." not in printed
    with pytest.raises(ValueError, match=r"Received: batch_size=9$"):  # what does not help is not offered
        doctor.examine(config, advise=lambda findings: {"batch_size": 10})


@pytest.mark.parametrize(
    ("images", "classes", "problem"),
    [({"cat": 5}, "1", "at least two classes"), ({"cat": 1, "dog": 1}, "2", "a class of two images to take the test")],
)
def test_classes_that_are_too_small_are_shown_before_they_are_refused(images, classes, problem, tmp_path, capsys):
    write_classes(tmp_path / "few", images)
    with pytest.raises(ValueError, match=problem):
        doctor.examine(config_of(tmp_path / "few"))
    assert row(capsys.readouterr().out, "classes  ")[0] == classes


@pytest.mark.slow
def test_lines_of_a_table_are_named(image_folder, capsys):
    files = sorted(path.relative_to(image_folder) for path in image_folder.glob("*/*/*"))
    rows = "".join(f"{path},{path.parts[1]},{path.parts[0]}\n" for path in files)
    (image_folder / "table.csv").write_text(f"path,label,split\n{rows}")
    config = config_of(image_folder / "table.csv", data={"source": {"name": "csv"}})
    doctor.examine(config)
    assert row(capsys.readouterr().out, "images  ") == ["8", "4", "6"]
    (image_folder / files[1]).write_bytes(b"no image")
    with pytest.raises(ValueError, match=rf"1 images of test cannot be decoded: \S+table.csv, line 3: {files[1]} \("):
        doctor.examine(config)


def found_in(folder):
    """What advice on a run is given to go by."""
    seen = []
    doctor.examine(config_of(folder), check_labels=0, advise=lambda findings: seen.append(findings) or {})
    return seen[0]


def test_advice_goes_by_what_the_images_are(image_folder, monkeypatch):
    monkeypatch.setattr(doctor, "_timed", lambda findings, screen: (findings, None))  # which trains
    found = found_in(image_folder)
    assert (found.counts.tolist(), found.held_out, found.tested) == ([4, 4], 4, 6)
    assert max(found.sides) <= 22  # the shorter ones, of 20 x 24 to 25 x 19 pixels
    assert not found.same_size
    for path in image_folder.glob("*/*/*"):
        PIL.Image.fromarray(np.zeros((20, 24, 3), np.uint8)).save(path)
    assert found_in(image_folder).same_size
    assert set(found_in(image_folder).sides) == {20}


def test_what_an_epoch_and_all_of_them_take(capsys):
    experiment = types.SimpleNamespace(steps_per_epoch=120, config=types.SimpleNamespace(epochs=200))
    doctor.show(doctor.console(piped=doctor.PROSE), costs.table(costs.Cost(0.5, 0.25), experiment))
    printed = capsys.readouterr().out
    assert row(printed, "a training epoch, minutes") == ["1.0"]
    assert row(printed, "all 200 epochs, hours") == ["3.3"]
