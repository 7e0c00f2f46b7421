import shutil

import numpy as np
import pytest

from cskd_tf import metrics
from cskd_tf.errors import UserError
from cskd_tf.runs import report, tables
from cskd_tf.runs.json_files import write_json
from tests.helpers import finished_run


def cells(table, row):
    return [list(column.cells)[row] for column in table.columns]


def test_seeds_are_averaged_and_their_ensemble_stands_below(tmp_path):
    labels = np.arange(30) % 3
    finished = [finished_run(tmp_path / str(seed), seed=seed, labels=labels) for seed in (1, 2, 3)]
    runs, logits = zip(*finished, strict=True)
    table = report.table(runs)
    errors = [100 * run.metrics()["test"]["top1_error"] for run in runs]
    assert cells(table, 0)[:3] == [
        "CSKD(temperature=4, weight=1)", "3", f"{np.mean(errors):.2f} ± {np.std(errors, ddof=1):.2f}"
    ]  # fmt: skip
    exponents = np.exp(logits)
    mean = (exponents / exponents.sum(axis=-1, keepdims=True)).mean(axis=0)
    row = cells(table, 1)
    assert row[0].strip().startswith("their ensemble")
    assert row[2] == f"{100 * np.mean(mean.argmax(axis=1) != labels):.2f}"
    assert row[4] == f"{-np.log(mean[np.arange(30), labels]).mean():.3f}"
    assert row[5] == f"{100 * metrics.expected_calibration_error(np.log(mean), labels, bins=20):.2f}"
    assert row[6] == "-"


def test_what_is_undefined_says_so(tmp_path):
    """Every image alone in its class: R@1 is null in the file, and no number in the table."""
    labels = np.arange(3)
    runs = [finished_run(tmp_path / str(seed), seed=seed, labels=labels)[0] for seed in (1, 2)]
    assert '"recall_at_1": null' in (tmp_path / "1" / "metrics.json").read_text()
    assert cells(report.table(runs), 0)[6] == "undefined"
    assert cells(report.table(runs[:1]), 0)[6] == "undefined"
    # Of two seeds with other splits, one may have it: a mean would be of the other alone.
    other, _ = finished_run(tmp_path / "3", seed=3, labels=np.arange(3) // 2, split_seed=1)
    assert other.metrics()["test"]["recall_at_1"] is not None
    row = cells(report.table([runs[0], other]), 0)
    assert (row[1], row[6]) == ("2", "undefined")


def test_rows_say_in_what_they_differ(tmp_path):
    labels = np.arange(30) % 3
    changes = ({"epochs": 60}, {"epochs": 60}, {"epochs": 80}, {"epochs": 80, "batch_size": 16}, {"methods": ()})
    runs = [finished_run(tmp_path / str(n), seed=n, labels=labels, **change)[0] for n, change in enumerate(changes)]
    names = report.name_groups(report.group_by_seed(runs))
    assert report.name_groups(report.group_by_seed(runs[:2])) == ["CSKD(temperature=4, weight=1)"]
    cskd = "CSKD(temperature=4, weight=1)"
    assert names == [
        "cross-entropy, epochs=60, batch_size=32",
        f"{cskd}, epochs=60, batch_size=32",
        f"{cskd}, epochs=80, batch_size=32",
        f"{cskd}, epochs=80, batch_size=16",
    ]


@pytest.mark.parametrize("difference", [{"split_seed": 1}, {"labels": np.arange(30)[::-1] % 3}])
def test_runs_on_different_images_have_no_ensemble(difference, tmp_path):
    labels = np.arange(30) % 3
    first, _ = finished_run(tmp_path / "1", seed=1, labels=labels)
    second, _ = finished_run(tmp_path / "2", seed=2, **{"labels": labels, **difference})
    assert report.ensemble_metrics([first, second], split="test") is None
    assert report.ensemble_metrics([first], split="test") is None


def test_runs_whose_data_changed_in_between_are_not_averaged(tmp_path):
    runs = [finished_run(tmp_path / str(n), seed=n, labels=np.arange(n) % 3)[0] for n in (30, 33)]
    with pytest.raises(UserError, match=r"the same test images. Received: .*30 with 30 and .*33 with 33, whose labels"):
        report.table(runs)


def test_runs_of_other_images_of_the_same_labels_are_not_averaged(tmp_path):
    runs = [finished_run(tmp_path / str(seed), seed=seed, labels=np.arange(30) % 3)[0] for seed in (1, 2, 3)]
    images = {"classes": ["a", "b", "c"], "splits": {"test": {"images": 30, "sha256": "1"}}}
    for run in runs[:2]:
        write_json(run.path / "images.json", images)
    report.table(runs)  # of which one is of a version that noted none
    write_json(runs[1].path / "images.json", {**images, "splits": {"test": {"images": 30, "sha256": "2"}}})
    with pytest.raises(UserError, match=r"to have the same images. Received: .*1 and .*2, whose images.json differ"):
        report.table(runs)


def test_methods_with_other_images_are_named_and_stand_side_by_side(caplog, capsys, tmp_path):
    methods = {"plain": (), "cskd": ({"name": "CSKD"},), "pskd": ({"name": "PSKD"},)}
    for name, listed in methods.items():
        run, _ = finished_run(tmp_path / name, seed=1, labels=np.arange(30) % 3, methods=listed)
        images = {"classes": ["a", "b", "c"], "splits": {"test": {"images": 30, "sha256": str(name == "cskd")}}}
        write_json(run.path / "images.json", images)
    report.report(tmp_path)
    (warning,) = caplog.messages
    assert warning.endswith(f"{tmp_path / 'cskd'}; {tmp_path / 'plain'} and 1 more")
    assert capsys.readouterr().out.count("cross-entropy") == 1


def test_calibration_errors_of_other_bins_are_not_averaged(tmp_path):
    runs = [finished_run(tmp_path / str(seed), seed=seed, labels=np.arange(30) % 3)[0] for seed in (1, 2)]
    measured = runs[1].metrics()
    runs[1].write_metrics({**measured, "test": {**measured["test"], "ece_bins": 5}})
    with pytest.raises(UserError, match=r"one number of bins of the ECE. Received: 20 in .*1, 5 in .*2; --mode="):
        report.table(runs)


def test_a_run_that_is_there_twice_counts_once(caplog, tmp_path):
    labels = np.arange(30) % 3
    runs = [finished_run(tmp_path / name, seed=1, labels=labels)[0] for name in ("a", "b")]
    assert [[run.path.name for run in group] for group in report.group_by_seed(runs)] == [["a"]]
    assert f"{tmp_path / 'b'} is left out: it has the config and the seeds of {tmp_path / 'a'}" in caplog.text


def test_unfinished_and_damaged_runs_are_named_beside_others(caplog, capsys, tmp_path):
    labels = np.arange(30) % 3
    for name in ("done", "half", "damaged"):
        finished_run(tmp_path / name, seed=1, labels=labels)
    (tmp_path / "folder/config.json").mkdir(parents=True)
    for name, files in (("foreign", ["metrics"]), ("other", ["config"]), ("both", ["config", "metrics"])):
        (tmp_path / name).mkdir()  # of another program
        for file in files:
            (tmp_path / name / f"{file}.json").write_text('{"accuracy": 0.5}')
    (tmp_path / "half/metrics.json").unlink()
    shutil.copytree(tmp_path / "done", tmp_path / "old [1]")
    (tmp_path / "damaged/metrics.json").write_text("{")
    report.report(tmp_path)
    assert "CSKD(temperature=4, weight=1)      1" in capsys.readouterr().out
    assert f"{tmp_path / 'half'} is left out: it has not finished" in caplog.text
    assert f"{tmp_path / 'damaged'} is left out: Expected a JSON object in" in caplog.text
    assert f"{tmp_path / 'foreign'} is left out: it is no run's folder, for it lacks config.json" in caplog.text
    assert f"{tmp_path / 'other'} is left out: it is no run's folder, or its config is damaged: " in caplog.text
    assert f"{tmp_path / 'old [1]'} is left out: Expected a path without * ? [" in caplog.text
    assert f"{tmp_path / 'both'} is left out: {tmp_path / 'both'}/config.json: " in caplog.text
    with pytest.raises(ValueError, match="Expected a JSON object"):
        report.report(tmp_path / "damaged")


def test_each_column_is_in_its_unit(tmp_path):
    run, _ = finished_run(tmp_path / "1", seed=1, labels=np.arange(30) % 3)
    own = {"top1_error": 0.5, "top5_error": 0.25, "nll": 1.5, "ece": 0.125, "recall_at_1": 0.75, "aurc": 0.0625}
    run.write_metrics({"test": {**run.metrics()["test"], **own}})
    assert cells(report.table([run]), 0)[2:] == ["50.00", "25.00", "1.500", "12.50", "75.00", "62.50"]


def test_an_imported_run_is_no_seed_of_those_trained_here(tmp_path):
    runs = [finished_run(tmp_path / str(seed), seed=seed, labels=np.arange(30) % 3)[0] for seed in (1, 2)]
    write_json(runs[1].path / "imported.json", {"checkpoint": "a.pth"})
    assert [len(group) for group in report.group_by_seed(runs)] == [1, 1]
    with pytest.raises(UserError, match="differ in imported"):
        tables.check_alike(runs)


def test_runs_of_other_splits_are_not_said_to_have_other_images(tmp_path, caplog):
    for split in (0, 1):
        run, _ = finished_run(tmp_path / str(split), seed=1, split_seed=split, labels=np.arange(30) % 3)
        images = {"classes": ["a", "b", "c"], "splits": {"test": {"images": 30, "sha256": str(split)}}}
        write_json(run.path / "images.json", images)
    report.name_other_images(report.find_runs(tmp_path))
    assert not caplog.messages
