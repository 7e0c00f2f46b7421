import dataclasses
import json

import numpy as np
import pytest

from cskd_tf.errors import UserError
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.runs import rendering, sweep, tables
from cskd_tf.runs.grid import Run
from cskd_tf.runs.json_files import write_json
from cskd_tf.runs.workdir import Workdir
from tests.helpers import finished_run

LABELS = np.arange(30) % 3
PUBLISHED = tables.Figure(20.0, 0.5)


def expected(experiment, run):
    """What the sweep of the table has planned, of which `run` is one: three seeds."""
    config = run.config().as_dict()
    names = {seed: f"{experiment}/seed={seed}" for seed in (1, 2, 3)}
    return [Run(name, experiment, experiment, {}, {**config, "seed": seed}) for seed, name in names.items()]


@pytest.fixture
def trained(tmp_path):
    """Two finished seeds of cross-entropy and of CS-KD, with errors of our own, and a third that has only begun."""
    for experiment, methods, errors in (("base", (), (0.2, 0.3)), ("cskd", ({"name": "CSKD"},), (0.1, 0.16, 1.0))):
        for seed, error in enumerate(errors, start=1):
            run, _ = finished_run(tmp_path / experiment / f"seed={seed}", seed=seed, labels=LABELS, methods=methods)
            run.write_metrics({"test": {**run.metrics()["test"], "top1_error": error}})
    (run.path / "metrics.json").unlink()
    return tmp_path


def layout(metric="top1_error", **options):
    labels = ("base", "cskd", "none")
    rows = tuple(tables.Row("net", label, (tables.Cell(label, metric, PUBLISHED, **options),)) for label in labels)
    return tables.Layout("t", "A table", ("digits",), rows, changes=True)


def found_in(root):
    there = tables.index(root)
    planned = {name: expected(name, Workdir(root / name / "seed=1")) for name in ("base", "cskd")}
    planned["none"] = [
        Run(f"none/seed={seed}", "none", "none", {}, planned["base"][seed - 1].config) for seed in (1, 2)
    ]
    return {name: tables.find(there, runs[0]) for name, runs in planned.items()}, planned


def test_a_cell_has_mean_deviation_runs_change_and_mark(trained):
    lines = tables.lines(layout(), found_in(trained)[0])
    assert [(line.row.label, line.kind) for line in lines] == [
        (label, kind) for label in ("base", "cskd", "none") for kind in ("last epoch", "published")
    ]
    base, cskd, none = (line.entries[0] for line in lines[::2])
    assert base.figure == tables.Figure(pytest.approx(25.0), pytest.approx(50**0.5), 2)
    assert cskd.figure == tables.Figure(pytest.approx(13.0), pytest.approx(18**0.5), 2)
    assert (base.change, cskd.change, none.change) == (None, pytest.approx(-0.48), None)
    assert (base.best, cskd.best, none.best) == (False, True, False)
    assert none.figure is None


def test_a_figure_of_zero_has_its_change_too(trained):
    for seed in (1, 2):
        run = Workdir(trained / "cskd" / f"seed={seed}")
        run.write_metrics({"test": {**run.metrics()["test"], "top1_error": 0.0}})
    lines = tables.lines(layout(), found_in(trained)[0])
    assert [line.entries[0].change for line in lines[::2]] == [None, -1.0, None]


def test_latex_shows_what_it_has_other_uses_for(trained):
    found, _ = found_in(trained)
    notes = [r"C:\runs\{a}~$x^2$"]
    made = rendering.FORMATS["latex"][0](layout(), tables.lines(layout(), found), notes)
    assert r"C:\textbackslash{}runs\textbackslash{}\{a\}\textasciitilde{}\$x\textasciicircum{}2\$}" in made


def test_more_is_better_of_some_metrics(trained):
    found, _ = found_in(trained)
    last = tables.lines(layout("recall_at_1"), found)[:4:2]
    means = [line.entries[0].figure.mean for line in last]
    assert [line.entries[0].best for line in last] == [mean == max(means) for mean in means]


def test_the_best_epoch_stands_beside_the_last_where_all_runs_have_one(trained):
    for seed in (1, 2):
        run = Workdir(trained / "cskd" / f"seed={seed}")
        metrics = {"top1_error": 0.1 * seed}
        run.write_metrics({**run.metrics(), "best_epoch": {"epoch": 4, "test": metrics}})
    lines = tables.lines(layout(), found_in(trained)[0])
    (line,) = [line for line in lines if line.kind == "best epoch"]
    assert line.row.label == "cskd"
    assert line.entries[0].figure == tables.Figure(pytest.approx(15.0), pytest.approx(np.std([10, 20], ddof=1)), 2)


def test_an_ensemble_is_one_figure_of_all_seeds(trained):
    found, _ = found_in(trained)
    entry = tables.lines(layout(ensemble=True), found)[2].entries[0]
    logits = [Predictions.load(run.predictions("test")).logits for run in found["cskd"].runs]
    exponents = np.exp(logits)
    mean = (exponents / exponents.sum(axis=-1, keepdims=True)).mean(axis=0)
    assert entry.figure == tables.Figure(pytest.approx(100 * np.mean(mean.argmax(axis=1) != LABELS)), None, 2)


def test_what_is_undefined_in_one_run_says_so(trained):
    run = Workdir(trained / "cskd" / "seed=2")
    metrics = run.metrics()
    metrics["test"]["top1_error"] = None
    run.write_metrics(metrics)
    entry = tables.lines(layout(), found_in(trained)[0])[2].entries[0]
    assert rendering.printed(entry, metric="top1_error") == "undefined [2]"


def test_below_stands_what_is_missing_unfinished_and_not_as_in_the_paper(trained):
    found, planned = found_in(trained)
    for runs in (planned["base"], planned["cskd"]):
        runs[0].config["epochs"] = 200
    found = {name: tables.find(tables.index(trained), runs[0]) for name, runs in planned.items()}
    assert tables.notes(layout("ece"), found, planned) == [
        "Not as the paper's config, whose value is in brackets: epochs=60 (200). All runs.",
        "base: 2 of 3 runs; missing: seed=3.",
        "cskd: 2 of 3 runs; missing: seed=3.",
        "No finished runs: none.",
        f"Unfinished: {trained / 'cskd' / 'seed=3'}.",
        "ECE with 20 bins.",
    ]


def test_runs_that_were_chosen_stand_for_their_experiment(trained):
    for seed in (1, 2):
        folder = trained / "chosen" / "cskd,weight=3" / f"seed={seed}"
        finished_run(folder, seed=seed, labels=LABELS, methods=({"name": "CSKD", "weight": 3.0},))
    found, _ = found_in(trained)
    assert [run.config().methods[0]["weight"] for run in found["cskd"].runs] == [3.0, 3.0]
    assert found["cskd"].differs == {"methods[0].weight": (3.0, None)}
    finished_run(trained / "chosen" / "cskd,weight=2" / "seed=3", seed=3, labels=LABELS, methods=({"name": "CSKD"},))
    with pytest.raises(UserError, match=r"weight=2.*differ in methods\[0\].weight: None and 3.0"):
        found_in(trained)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 5}, "differ in epochs: 60 and 5"),
        ({"data": {"split": {"train_per_class": 7}}}, "differ in data.split.train_per_class: 30 and 7"),
    ],
)
def test_runs_that_differ_in_more_than_seeds_are_not_averaged(trained, change, message):
    finished_run(trained / "base" / "seed=4", seed=4, labels=LABELS, methods=(), **change)
    with pytest.raises(UserError, match=f"seed=1 and .*seed=4, which {message}"):
        found_in(trained)


def test_runs_with_other_bins_are_not_averaged(trained):
    run = Workdir(trained / "base" / "seed=2")
    text = (run.path / "metrics.json").read_text()
    (run.path / "metrics.json").write_text(text.replace('"ece_bins": 20', '"ece_bins": 10'))
    with pytest.raises(UserError, match="seed=1 and .*seed=2, which differ in ece_bins: 20 and 10"):
        found_in(trained)


def test_runs_whose_data_changed_in_between_are_not_averaged(trained):
    finished_run(trained / "base" / "seed=4", seed=4, labels=LABELS[::-1], methods=())
    with pytest.raises(UserError, match="the same test images. Received: .*seed=1 with .*seed=4 .*labels differ"):
        found_in(trained)


def test_a_run_counts_once(trained):
    finished_run(trained / "elsewhere" / "base", seed=1, labels=LABELS, methods=())
    with pytest.raises(UserError, match="each run once. Received: .*seed=1 and .*elsewhere.base, of the same seed"):
        found_in(trained)


def test_seeds_of_a_sweep_share_their_teacher(tmp_path):
    for seed in (1, 2):
        methods = ({"name": "Distillation", "teacher": f"{tmp_path}/large/seed={seed}"},)
        finished_run(tmp_path / "kd" / f"seed={seed}", seed=seed, labels=LABELS, methods=methods)
    runs = tables.index(tmp_path)[False, "kd"]
    tables.check_alike(runs)
    config = runs[0].config().as_dict()
    plan = Run("kd/seed=1", "kd", "kd", {}, json.loads(json.dumps(config)), ("large/seed=1",))
    assert tables.find(tables.index(tmp_path), plan).differs == {}


def test_a_table_in_every_format(trained):
    found, _ = found_in(trained)
    lines = tables.lines(layout(), found)
    made = {form: write(layout(), lines, ["100 % of a_b."]) for form, (write, _) in rendering.FORMATS.items()}
    assert " 25.00 ± 7.07 [2]\n" in made["text"]
    assert " 13.00 ± 4.24 [2] (-48.0 %)*\n" in made["text"]
    assert " 25.00 ± 7.07 [2] |" in made["markdown"]
    assert " **13.00 ± 4.24 [2] (-48.0 %)** |" in made["markdown"]
    assert len({len(line) for line in made["markdown"].splitlines() if line.startswith("|")}) == 1
    assert r" & 25.00 $\pm$ 7.07 [2] \\" in made["latex"]
    assert r" & \textbf{13.00 $\pm$ 4.24 [2] (-48.0 \%)} \\" in made["latex"]
    assert r"100 \% of a\_b." in made["latex"]
    first, *rows = [line.split(",") for line in made["csv"].splitlines()]
    assert " ".join(first) == "table part method column experiment metric figures mean deviation runs change best"
    assert [row[6] for row in rows] == ["last epoch", "published"] * 2 + ["published"]
    assert (float(rows[0][7]), *rows[0][9:]) == (pytest.approx(25.0), "2", "", "0")
    assert rows[1][7:10] == ["20.0", "0.5", ""]


def test_best_and_changes_are_of_a_part(trained):
    """As of one network: another's error is no baseline."""
    rows = tuple(
        tables.Row(part, label, (tables.Cell(label, "top1_error", PUBLISHED),))
        for part, label in (("one", "base"), ("one", "none"), ("two", "cskd"), ("two", "none"))
    )
    table = tables.Layout("t", "A table", ("digits",), rows, changes=True)
    base, _, cskd, _ = tables.lines(table, found_in(trained)[0])[::2]
    assert cskd.entries[0].change is None
    assert (base.entries[0].best, cskd.entries[0].best) == (False, False)


def test_changes_are_told_on_request(trained):
    plain = dataclasses.replace(layout(), changes=False)
    assert [line.entries[0].change for line in tables.lines(plain, found_in(trained)[0])] == [None] * 6


def test_the_best_epoch_of_some_runs_is_not_shown(trained):
    run = Workdir(trained / "cskd" / "seed=1")
    run.write_metrics({**run.metrics(), "best_epoch": {"epoch": 4, "test": {"top1_error": 0.1}}})
    assert {line.kind for line in tables.lines(layout(), found_in(trained)[0])} == {"last epoch", "published"}


def test_a_chosen_point_of_an_experiment_whose_name_begins_alike_is_of_another(trained):
    folder = trained / "chosen" / "cskd_mixup,weight=3" / "seed=1"
    finished_run(folder, seed=1, labels=LABELS, methods=({"name": "CSKD"}, {"name": "Mixup"}))
    assert [len(run.config().methods) for run in found_in(trained)[0]["cskd"].runs] == [1, 1]


def test_one_seed_with_two_splits_is_two_runs(trained):
    finished_run(trained / "base" / "seed=1,split.seed=1", seed=1, split_seed=1, labels=LABELS, methods=())
    assert len(found_in(trained)[0]["base"].runs) == 3


def test_an_earlier_choice_is_in_no_table(trained):
    """As where a seed was added, and another point is the best: its runs may not even have finished."""
    for point in (2, 3):
        folder = trained / "chosen" / f"cskd,weight={point}" / "seed=1"
        finished_run(folder, seed=1, labels=LABELS, methods=({"name": "CSKD", "weight": float(point)},))
    write_json(trained / "chosen" / "cskd.json", {"chosen": {}})
    with pytest.raises(UserError, match="differ in seeds alone"):  # of a version that did not note it
        found_in(trained)
    finished_run(trained / "chosen" / "none,weight=1" / "seed=1", seed=1, labels=LABELS, methods=())
    assert sweep.note_chosen("cskd", trained, point="cskd,weight=3") == [trained / "chosen" / "cskd,weight=2"]
    runs = found_in(trained)[0]["cskd"].runs
    assert [run.config().methods[0]["weight"] for run in runs] == [3.0]
    (trained / "chosen" / "cskd,weight=3" / "seed=1" / "metrics.json").unlink()
    found = found_in(trained)[0]["cskd"]
    assert (len(found.runs), len(found.unfinished)) == (0, 1)
