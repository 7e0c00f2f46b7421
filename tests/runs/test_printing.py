"""Tables on terminals of several widths: no figure is lost or cut, and rows can be told apart."""

import collections
import io
import re

import numpy as np
import pytest
import rich.console

from configs import advice, evidence, method_costs, recommendation
from cskd_tf import metrics
from cskd_tf.data.sources.arrays import ArraySource
from cskd_tf.data.sources.inspection import inspect
from cskd_tf.runs import assessment_tables, printing, report
from cskd_tf.runs.doctor import contents
from tests.evaluation.cases import ORDINARY
from tests.findings import findings
from tests.helpers import finished_run

NUMBER = re.compile(r"\d(?:[\d.,]*\d)?")


def printed(made, *, width):
    output = io.StringIO()
    printing.show(rich.console.Console(file=output, width=width, soft_wrap=True, markup=False, highlight=False), made)
    return output.getvalue()


def check(made, *, width):
    """Every number is there, whole and as often as in the table, and every word of names and of figures' headings."""
    text = printed(made, width=width)
    names, *columns = ([str(cell) for cell in column.cells] for column in made.columns)
    headings = {word for column in made.columns[1:] for word in str(column.header).split()}
    assert max(map(len, text.splitlines())) <= width, text
    assert headings <= set(re.split(r"[\s:]+", text)), text
    for parts, cells in ((NUMBER.findall, sum(columns, names)), (str.split, names)):
        assert not collections.Counter(parts(" ".join(cells))) - collections.Counter(parts(text)), text


@pytest.fixture(scope="module")
def five_seeds(tmp_path_factory):
    """The report of five seeds of cross-entropy, and of CS-KD with two weights."""
    folder, labels = tmp_path_factory.mktemp("runs"), np.arange(90) % 3
    methods = [(), *(({"name": "CSKD", "temperature": 4.0, "weight": weight},) for weight in (1.0, 3.0))]
    return report.table(
        [
            finished_run(folder / f"{number}_{seed}", seed=seed, labels=labels, methods=listed)[0]
            for number, listed in enumerate(methods)
            for seed in range(5)
        ]
    )


@pytest.fixture(scope="module")
def assessment():
    """Of a classifier beside another one, with images of other data."""
    logits, labels = ORDINARY
    embeddings = np.random.default_rng(0).normal(size=(len(labels), 3))
    test, validation = (
        metrics.Predictions(logits[part], labels[part], embeddings[part]) for part in (slice(300), slice(300, None))
    )
    other = metrics.Predictions(logits[::-1][:300], labels[:300], embeddings[:300])
    detected = metrics.detect(test, against=validation, reference=other)
    return {
        "of": ["workdirs/digits/seed=0"],
        **metrics.assess(test, validation=validation, class_groups=["pets", "pets", "wild", "wild"], resamples=20),
        "compared": {"workdirs/digits/seed=1": metrics.compare(test, other, resamples=20)},
        "detection": {"against": "fonts", **detected},
    }


def of_the_doctor():
    found = findings([30] * 40, side=300, held_out=100)
    yield evidence.table([*evidence.published(), *evidence.own(), *evidence.embedded()])
    yield evidence.table_of_pskd(evidence.published_of_pskd())
    yield method_costs.table(found, step=0.5, ratios={"cskd": 1.3})
    yield advice._table(recommendation.recommend(found, evidence.published()), found.config)
    source = ArraySource(np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), np.uint8), np.arange(60) % 3)
    splits = {"train": source, "val": source, "test": source}
    yield contents.table("photos", splits, {name: inspect(images, name=name) for name, images in splits.items()})


@pytest.mark.parametrize("width", [40, 60, 80])
def test_no_figure_of_a_report_is_lost(width, five_seeds):
    check(five_seeds, width=width)


@pytest.mark.parametrize("width", [40, 60, 80])
def test_no_figure_of_the_doctor_is_lost(width):
    for made in of_the_doctor():
        check(made, width=width)


@pytest.mark.parametrize("width", [40, 60, 80])
def test_no_figure_of_an_evaluation_is_lost(width, assessment):
    parts = [part for part in assessment_tables.tables(assessment, title="test split") if not isinstance(part, str)]
    assert len(parts) == 7
    for made in parts:
        check(made, width=width)


def test_rows_of_a_report_can_be_told_apart(five_seeds):
    text = printed(five_seeds, width=80)
    assert "─" in text  # a table still
    assert [text.count(f"weight={weight})") for weight in (1, 3)] == [2, 2]  # and of either the ensemble


def test_names_that_are_one_long_word_are_broken_and_square_brackets_kept():
    made = printing.table("Two", ["", "figure"])
    made.add_row("x" * 30, "1.25")
    made.add_row("[bold]", "2.5")
    text = printed(made, width=34)
    assert re.findall("x+", text) == ["x" * 21, "x" * 9]
    assert "[bold]" in text
