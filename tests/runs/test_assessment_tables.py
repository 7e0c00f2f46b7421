"""The tables of an assessment say each thing once."""

import io
import re

import numpy as np
import rich.console
import rich.table

from cskd_tf import metrics
from cskd_tf.evaluation import conformal
from cskd_tf.runs import assessment_tables
from tests.evaluation.cases import ORDINARY


def printed(assessment):
    written = io.StringIO()
    console = rich.console.Console(width=200, file=written)
    for table in assessment_tables.tables(assessment, title="test split"):
        console.print(table)
    return written.getvalue()


def assessed(*, classes=4):
    """Of more classes than there are images of, where there are more than four."""
    logits, labels = ORDINARY
    logits = np.concatenate([logits, np.full((len(logits), classes - 4), -9.0)], axis=1)
    test, validation = (metrics.Predictions(logits[part], labels[part]) for part in (slice(300), slice(300, None)))
    return {"of": ["run"], **metrics.assess(test, validation=validation, resamples=5)}


def test_of_few_classes_all_are_shown():
    text = printed(assessed())
    assert "Classes, by recall" in text
    assert "lowest recall" not in text
    many = assessed(classes=11)
    for row in many["per_class"]:
        row.update(images=5, recall=0.5)
    assert "The 10 classes with the lowest recall, of 11" in printed(many)


def test_recalibration_has_one_calibration_error():
    tables = [table for table in assessment_tables.tables(assessed(), title="") if isinstance(table, rich.table.Table)]
    (recalibrated,) = (table for table in tables if table.title == "Recalibrated on validation images")
    assert [str(column.header) for column in recalibrated.columns if "ECE" in str(column.header)] == ["ECE %, 15 bins"]


def test_an_order_that_stays_is_one_line():
    assessment = assessed()
    for norm, line in ((None, True), (3, False)):
        text = printed({**assessment, "normalized_logits": {**assessment["normalized_logits"], "norm": norm}})
        assert ("put the validation images in no better order than the largest probability" in text) == line
        assert ("Answering first what it is surest of" in text) != line


def test_what_was_not_fitted_is_one_line_that_says_what_it_is():
    assessment = assessed()
    few = {"undefined": "too few"}
    scaling = {**assessment["scaling"], "vector": few, "matrix": few}
    (line,) = [line for line in printed({**assessment, "scaling": scaling}).splitlines() if "Not fitted" in line]
    assert line == (
        "Not fitted to the validation images: vector scaling, a factor and an offset of each class's logit, "
        "matrix scaling, a linear map of the logits of an image to other logits (too few)"
    )


def test_what_scalings_and_sets_are_stands_below_their_tables():
    assessment = assessed()
    lines = [part for part in assessment_tables.tables(assessment, title="") if isinstance(part, str)]
    (fitted,) = [line for line in lines if line.startswith("Fitted: ")]
    assert fitted == (
        "Fitted: temperature scaling, one divisor of all logits; vector scaling, a factor and an offset of each "
        "class's logit; matrix scaling, a linear map of the logits of an image to other logits."
    )
    (sets,) = [line for line in lines if line.startswith("Sets: ")]
    assert re.findall(r"(\w+), (?:all|the most|as)", sets) == list(conformal.KINDS)
    few = {**assessment["scaling"], "vector": {"undefined": "too few"}}
    assert "Fitted: temperature scaling, one divisor of all logits; matrix" in printed({**assessment, "scaling": few})


def test_what_is_undefined_is_one_line_by_reason():
    assessment = assessed()
    undefined = {"nll_calibration": "all are right", "nll_refinement": "all are right", "recall_at_1": "one image"}
    text = printed({**assessment, "undefined": undefined})
    assert (
        "Undefined, or left out: the NLL's part of calibration, the NLL's part of refinement (all are right); "
        "R@1 % (one image)\n"
    ) in text


def test_why_images_are_not_told_apart_by_a_score_stands_below():
    numbers = {key: 0.5 for key, _ in assessment_tables.DETECTION}
    detection = {"other_images": 9, "against": "others", "maximum_probability": numbers}
    detection |= {"energy": {"undefined": "an ensemble"}, "feature_distance": {"undefined": "no embeddings"}}
    text = printed({**assessed(), "detection": detection})
    assert "Energy: an ensemble\n" in text
    assert "Feature distance: no embeddings\n" in text


def test_what_rounds_to_zero_has_no_sign():
    assessment = assessed()
    assessment["metrics"]["nll_calibration"] = -1e-7
    assessment["metrics"]["nll"] = -1.25
    text = printed(assessment)
    assert "-0.000" not in text
    assert "-1.250" in text
