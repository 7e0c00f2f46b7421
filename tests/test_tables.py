"""The papers' tables: what they published, and `--mode=report --table=NAME`."""

import json
import pathlib

import numpy as np
import pytest

from configs import cskd_paper, published, tables
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.runs.config import Config
from cskd_tf.runs.tables import Found
from cskd_tf.runs.workdir import Workdir

# As the papers print them in brackets: CVPR Tables 1 and 2, and ICLR Table 1, of CS-KD, in per cent.
CHANGES = {
    "cvpr1": {
        "resnet18": [-11.0, -4.4, -27.7, -15.0, -9.6],
        "densenet121": [-2.4, -3.2, -27.1, -16.7, -4.2],
    },
    "cvpr2": {"": [-11.0, -4.4, -27.7, -15.0, -9.6]},
    "iclr1": {
        "cifar100": [-11.9, -3.7],
        "tiny_imagenet": [-4.9, -2.9],
        "caltech_birds2011": [-27.2, -27.2],
        "stanford_dogs": [-14.4, -17.2],
        "mit67": [-8.9, -4.9],
    },
}


def figures(name):
    """`{part: {method: [(mean, deviation)]}}` of a published table."""
    split = lambda text: tuple(map(float, text.split("±")))  # noqa: E731
    return {part: {method: list(map(split, columns)) for method, *columns in rows} for part, rows in tables.parts(name)}


@pytest.mark.parametrize("name", CHANGES)
def test_changes_follow_from_the_figures_as_the_papers_print_them(name):
    for part, changes in CHANGES[name].items():
        rows = figures(name)[part]
        first, *_, last = rows.values()
        found = [100 * (ours[0] / theirs[0] - 1) for ours, theirs in zip(last, first, strict=True)]
        assert np.round(found, 1).tolist() == changes


def test_what_tables_have_in_common_agrees():
    rows = figures("cvpr1")["resnet18"]
    for name in ("cvpr2", "cvpr3"):
        assert all(figures(name)[""][method] == rows[method] for method in ("cross_entropy", "cskd"))
    for method, row in figures("iclr2")[""].items():
        if method in ("cross_entropy", "iclr"):
            data = ("cifar100", "tiny_imagenet", "caltech_birds2011", "stanford_dogs", "mit67")
            assert row == [figures("iclr1")[part][method][0] for part in data]
            assert row == [figures("iclr4")[part][method][0] for part in data]
    assert figures("pskd1")["pyramidnet200"]["pskd"] == figures("pskd2")["pyramidnet200"]["pskd"]


def test_the_column_that_mixes_protocols_is_the_one_that_the_note_names():
    """Table 6 has the ICLR submission's figures, whose networks saw 90 %, of TinyImageNet's baselines and no others."""
    mixed = set()
    for place, metric in ((1, "top5_error"), (2, "ece"), (3, "recall_at_1")):
        for method in ("cross_entropy", "adacos_public", "virtual_softmax", "max_entropy"):
            for column, data in enumerate(("cifar100", "tiny_imagenet")):
                same = figures("cvpr6")[metric][method][column] == figures("iclr4")[data][method][place]
                mixed |= {(data, same)}
    assert mixed == {("cifar100", False), ("tiny_imagenet", True)}
    assert "TinyImageNet's column mixes protocols" in tables.FORMS["cvpr6"].notes[0]


def test_every_published_table_has_a_form_and_every_cell_an_experiment(tmp_path):
    assert list(tables.FORMS) == list(published.PUBLISHED)
    for name, form in tables.FORMS.items():
        expected = tables._expected(name, tmp_path)
        for part, rows in tables.parts_and_variants(name):
            for method, *columns in rows:
                assert len(columns) == len(form.columns)
                assert method in tables.LABELS
                for column in tables.columns(name):
                    assert form.experiment.format(part=part, column=column, method=method) in expected


@pytest.fixture
def runs(tmp_path):
    """Two seeds of cross-entropy and CS-KD on CIFAR-100, as a sweep leaves them, with random predictions."""
    for crop in ("cifar100", "cifar100_pad_crop"):
        for number, method in enumerate(("cross_entropy", "cskd")):
            for seed in (0, 1):
                config = cskd_paper.get_config(f"{crop},resnet18,{method}")
                config.seed = seed
                run = Workdir(tmp_path / "DIR" / f"{crop},resnet18,{method}" / f"seed={seed}")
                run.claim(Config.read(config))
                generator = np.random.default_rng(10 * number + seed)
                labels = np.arange(60) % 6
                logits = (1 + number) * np.eye(6)[labels] + generator.normal(size=(60, 6))
                predictions = Predictions(logits, labels, generator.normal(size=(60, 2)))
                predictions.save(run.predictions("test"))
                run.write_metrics({"test": {**predictions.metrics(ece_bins=20), "ece_bins": 20}})
    return tmp_path / "DIR"


@pytest.mark.parametrize(("form", "suffix"), [("text", "txt"), ("markdown", "md"), ("latex", "tex"), ("csv", "csv")])
def test_a_table_is_shown_and_written(command, runs, form, suffix):
    code, printed = command("--mode=report", "--workdir=DIR", "--table=cvpr1", f"--format={form}")
    assert code == 0
    written = (runs / "tables" / f"cvpr1.{suffix}").read_text()
    assert written in printed
    means = [
        100 * np.mean([json.loads(path.read_text())["test"]["top1_error"] for path in sorted(runs.glob(pattern))])
        for pattern in ("cifar100,resnet18,cross_entropy/*/metrics.json", "cifar100,resnet18,cskd/*/metrics.json")
    ]
    assert means[1] < means[0]
    if form == "csv":
        rows = [line for line in written.splitlines() if '"cifar100,resnet18,cskd",top1_error,last epoch' in line]
        assert float(rows[0].split(",")[-5]) == pytest.approx(means[1])
    else:
        assert f"{means[1]:.2f}" in written
        assert f"({100 * (means[1] / means[0] - 1):+.1f} " in written
        assert "21.99" in written
        for note in ("cifar100,resnet18,cskd: 2 of 3 runs; missing: seed=2.", "No finished runs: "):
            assert note.replace("_", r"\_" if form == "latex" else "_") in written
    assert "CIFAR-100, padded and cropped" in written


def test_a_variant_of_a_data_set_is_a_part_where_data_sets_are_parts(tmp_path):
    nothing = dict.fromkeys(tables._expected("iclr4", tmp_path), Found((), (), {}))
    some = nothing | {"cifar100_pad_crop,resnet18,iclr": Found((Workdir(tmp_path),), (), {})}
    rows = [tables._layout("iclr4", found).rows for found in (nothing, some)]
    published = [row for row in rows[0] if row.part == "CIFAR-100"]
    added = rows[1][len(rows[0]) :]
    assert {row.part for row in added} == {"CIFAR-100, padded and cropped"}
    assert [[cell.published for cell in row.cells] for row in added] == [
        [cell.published for cell in row.cells] for row in published
    ]


def test_all_are_those_of_which_there_are_runs(command, runs):
    code, printed = command("--mode=report", "--workdir=DIR", "--table=all")
    assert code == 0
    assert sorted(path.stem for path in (runs / "tables").iterdir()) == ["cvpr1", "cvpr2", "cvpr3", "cvpr6"]
    assert "mixes protocols" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--table=cvpr7"], "error: Unknown table; expected some of ['cvpr1'"),
        (["--table=pskd1"], "error: Expected finished runs of pskd1 in DIR, as --mode=sweep names their folders. "),
        (["--table=cvpr1", "--workdir=nowhere"], "Received: none among 0 runs"),
        (["--table=cvpr1", "--mode=evaluate"], "error: Expected --mode=report beside --table"),
        (["--format=latex"], "error: Expected --table=NAME beside --format: some of ['cvpr1'"),
    ],
)
def test_a_table_that_cannot_be_made(command, runs, arguments, message):
    code, printed = command("--mode=report", "--workdir=DIR", *arguments)
    assert (code, message in printed) == (1, True), printed
    assert not pathlib.Path("nowhere").exists()


def figures_of(name, data):
    """What a table has of a data set: mean and deviation by method and by network or metric, "" where there is one."""
    found = {}
    for part, lines in tables.parts(name):
        for method, *cells in lines:
            for column, cell in zip(tables.FORMS[name].columns, cells, strict=True):
                if data in (part, column):
                    other = part if column == data else column
                    found[method, other] = [float(number) for number in cell.split("±")]
    return found


BASELINES = ("cross_entropy", "adacos_public", "virtual_softmax", "max_entropy")


@pytest.mark.parametrize("data", cskd_paper.FINE_GRAINED)
@pytest.mark.parametrize(
    ("name", "submission", "shared", "own"),
    [
        ("cvpr1", "iclr1", BASELINES, "cskd"),
        ("cvpr3", "iclr2", ("cross_entropy", "mixup"), "cskd"),
        ("cvpr4", "iclr3", ("cross_entropy", "cskd"), "kd_cskd"),
        ("cvpr6", "iclr4", BASELINES, "cskd"),
    ],
)
def test_notes_say_which_figures_are_the_submissions(name, submission, shared, own, data):
    ours, theirs = figures_of(name, data), figures_of(submission, data)
    theirs = {
        ({"iclr": "cskd", "kd_iclr": "kd_cskd"}.get(method, method), of): cell for (method, of), cell in theirs.items()
    }
    both = {key for key in ours if key in theirs}
    assert {key for key in both if key[0] in shared}
    assert all(ours[key] == theirs[key] for key in both if key[0] in shared)
    assert all(ours[key] != theirs[key] for key in both if key[0] == own)
    assert any("are the ICLR submission's" in note and "best epoch" in note for note in tables.FORMS[name].notes)
