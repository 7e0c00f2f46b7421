import json
import math

import numpy as np
import pytest

from cskd_tf import metrics
from cskd_tf.evaluation.assessment import FITTED, decompose
from cskd_tf.evaluation.selective import risks
from tests.evaluation.cases import CASES, NAMES, ORDINARY
from tests.helpers import ROOT, softmax


def predictions(logits, labels, *, embeddings=None):
    logits = np.asarray(logits)
    return metrics.Predictions(logits, np.asarray(labels), logits if embeddings is None else embeddings)


def numbers(value):
    if isinstance(value, dict):
        return [number for part in value.values() for number in numbers(part)]
    if isinstance(value, list):
        return [number for part in value for number in numbers(part)]
    return [value] if isinstance(value, float) else []


@pytest.mark.parametrize(("name", "logits", "labels"), CASES, ids=NAMES)
def test_whatever_the_input_a_number_or_a_reason(name, logits, labels):
    """No NaN, nothing but JSON, and for each metric that is None a reason."""
    validation = predictions(*ORDINARY) if logits.shape[1] == 4 else predictions(logits, labels)
    groups = ["even" if number % 2 == 0 else "odd" for number in range(logits.shape[1])]
    if logits.shape[1] == 1:
        with pytest.raises(ValueError, match="Expected logits of at least two classes"):
            metrics.assess(predictions(logits, labels))
        return
    result = metrics.assess(predictions(logits, labels), validation=validation, class_groups=groups, resamples=20)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert all(math.isfinite(number) for number in numbers(result))
    for metric, value in result["metrics"].items():
        if value is None or (metric in result["intervals"] and result["intervals"][metric] is None):
            assert result["undefined"][metric], metric
    for part in result["scaling"].values():
        assert "undefined" in part or part["nll"] >= 0
    assert (result["images"], result["classes"]) == logits.shape
    assert len(result["per_class"]) == logits.shape[1]
    assert sum(result["per_group"]["images"]) == len(labels)


def test_the_split_parts_sum_to_the_cross_entropy():
    logits, labels = ORDINARY
    for scale in (0.2, 1, 5):
        parts = decompose(scale * logits, labels)
        nll = metrics.negative_log_likelihood(scale * logits, labels)
        assert sum(parts.values()) == pytest.approx(nll, abs=1e-12)
        assert parts["nll_refinement"] == pytest.approx(decompose(logits, labels)["nll_refinement"], abs=1e-9)
        assert parts["nll_calibration"] >= 0
        lowest = min(
            metrics.negative_log_likelihood(scale * logits / temperature, labels)
            for temperature in np.geomspace(0.01, 100, 200)
        )
        assert parts["nll_refinement"] <= lowest


def test_what_is_fitted_on_validation_is_reported_of_the_split():
    logits, labels = ORDINARY
    test, validation = predictions(5 * logits[:300], labels[:300]), predictions(5 * logits[300:], labels[300:])
    result = metrics.assess(test, validation=validation, resamples=20)
    for name, scaling in (
        ("temperature", metrics.TemperatureScaling),
        ("vector", metrics.VectorScaling),
        ("matrix", metrics.MatrixScaling),
    ):
        scaled = scaling.fit(validation.logits, validation.labels).apply(test.logits)
        after = result["scaling"][name]
        assert after["nll"] == pytest.approx(metrics.negative_log_likelihood(scaled, test.labels), abs=1e-12)
        assert after["ece_15"] == pytest.approx(metrics.expected_calibration_error(scaled, test.labels, bins=15))
        assert after["nll"] < result["metrics"]["nll"]
    assert result["scaling"]["temperature"]["top1_error"] == result["metrics"]["top1_error"]
    for kind in ("threshold", "aps", "raps"):
        sets = metrics.ConformalSets.fit(validation.logits, validation.labels, kind=kind).sets(test.logits)
        measured = dict(result["conformal"][kind])
        ends = measured.pop("intervals")
        assert measured == metrics.coverage_and_size(sets, test.labels)
        assert all(ends[name][0] <= value <= ends[name][1] for name, value in measured.items())
        assert ends["coverage"][0] < ends["coverage"][1]
    normalization = metrics.LogitNormalization.fit(validation.logits, validation.labels)
    curve = risks(normalization.confidence(test.logits), test.logits.argmax(axis=1) == test.labels)
    normalized = result["normalized_logits"]
    assert (normalized["norm"], normalized["aurc"]) == (normalization.norm, pytest.approx(curve.mean()))
    shares = [0, *(curve * np.arange(1, 301) / 300)]
    assert normalized["augrc"] == pytest.approx(np.trapezoid(shares, dx=1 / 300))


def test_intervals_of_all_but_what_the_page_names():
    """Each is that of draws of the images, as of a function on whole splits; of calibration errors without its bias."""
    logits, labels = ORDINARY
    groups = ["even", "odd", "even", "odd"]
    result = metrics.assess(predictions(logits, labels), class_groups=groups, resamples=40)
    without = {"nll_calibration", "nll_refinement", "classwise_ece"}
    assert result["metrics"].keys() - result["intervals"].keys() == without
    page = (ROOT / "docs" / "metrics.md").read_text()
    said = page.partition("**Without an interval**")[2].partition("\n\n")[0]
    assert all(f"`{name}`" in said for name in without)
    generator = np.random.default_rng(0)
    draws = [generator.integers(500, size=500) for _ in range(40)]
    for name, measure in (
        ("mce", lambda chosen: metrics.maximum_calibration_error(logits[chosen], labels[chosen], bins=15)),
        ("adaptive_ece", lambda chosen: metrics.adaptive_calibration_error(logits[chosen], labels[chosen], bins=15)),
        ("group_error", lambda chosen: metrics.group_error(logits[chosen], labels[chosen], groups=groups)),
    ):
        drawn = np.array([measure(chosen) for chosen in draws])
        if name != "group_error":
            assert drawn.mean() > measure(slice(None))
            drawn += measure(slice(None)) - drawn.mean()
        expected = np.quantile(drawn, [0.025, 0.975])
        assert result["intervals"][name] == pytest.approx(expected, abs=1e-12)


def test_without_validation_images_it_is_said():
    result = metrics.assess(predictions(*ORDINARY), resamples=20, why_no_validation="none were kept")
    assert {str(result[name]) for name in FITTED} == {"{'undefined': 'none were kept'}"}
    few = predictions(ORDINARY[0][:5], ORDINARY[1][:5])
    result = metrics.assess(predictions(*ORDINARY), validation=few, resamples=20)
    assert result["conformal"] == {"undefined": "5 validation images, of at least 9 that alpha needs"}
    assert "as many validation images as there are parameters, 8" in result["scaling"]["vector"]["undefined"]


def test_without_embeddings_nothing_is_recalled():
    logits, labels = ORDINARY
    result = metrics.assess(predictions(logits, labels, embeddings=np.zeros((500, 0))), resamples=20)
    assert result["undefined"]["recall"] == "there are no embeddings"
    assert not [name for name in result["metrics"] if name.startswith("recall")]


def test_images_of_one_class_and_classes_of_one_group_have_nothing_to_confuse():
    logits, _ = ORDINARY
    result = metrics.assess(predictions(logits, np.ones(500, int)), class_groups=["all"] * 4, resamples=20)
    assert result["undefined"]["recall"] == "all images are of one class, and so is every neighbour"
    assert result["undefined"]["group_error"] == "all classes are of one group"
    assert not [name for name in result["metrics"] if name.startswith(("recall", "group"))]


def test_a_calibrated_network_has_its_figure_within_its_interval():
    generator = np.random.default_rng(6)
    for _ in range(5):
        logits = generator.normal(size=(400, 10))
        labels = (softmax(logits).cumsum(axis=1) < generator.uniform(size=(400, 1))).sum(axis=1)
        result = metrics.assess(predictions(logits, labels), resamples=100)
        for name in ("ece_10", "ece_15", "ece_20", "adaptive_ece", "mce"):
            low, high = result["intervals"][name]
            assert low <= result["metrics"][name] <= high


def test_the_same_predictions_give_the_same_assessment():
    one, again = (metrics.assess(predictions(*ORDINARY), validation=predictions(*ORDINARY), resamples=20) for _ in "12")
    assert one == again


def test_detection_by_each_score():
    logits, labels = ORDINARY
    generator = np.random.default_rng(3)
    own = predictions(logits, labels, embeddings=np.eye(4)[labels] + 0.1 * generator.normal(size=(500, 4)))
    others = predictions(
        generator.normal(size=(200, 4)), np.zeros(200, int), embeddings=generator.normal(size=(200, 4))
    )
    result = metrics.detect(own, against=others, reference=own)
    confidence = [softmax(each.logits).max(axis=1) for each in (own, others)]
    assert result["maximum_probability"] == metrics.detection(*confidence)
    energy = [np.log(np.exp(each.logits).sum(axis=1)) for each in (own, others)]
    assert result["energy"] == pytest.approx(metrics.detection(*energy))
    assert result["feature_distance"]["neighbours"] == 50
    assert result["feature_distance"]["auroc"] > 0.9
    with pytest.raises(ValueError, match="embeddings of one length"):
        metrics.detect(own, against=predictions(logits, labels, embeddings=np.ones((500, 3))), reference=own)


def test_detection_without_embeddings_or_with_some_that_are_not_finite():
    own = predictions(*ORDINARY, embeddings=np.ones((500, 3)))
    without = predictions(*ORDINARY, embeddings=np.zeros((500, 0)))
    for one, other in ((own, without), (without, own)):
        found = metrics.detect(one, against=other, reference=own)
        assert found["feature_distance"] == {"undefined": "there are no embeddings of the images"}
    with pytest.raises(ValueError, match="Expected finite embeddings"):
        metrics.detect(own, against=predictions(*ORDINARY, embeddings=np.full((500, 3), np.nan)), reference=own)


def test_an_ensemble_has_no_energy():
    """Its logits are logarithms of probabilities: what is left of their energy is rounding."""
    logits, labels = ORDINARY
    others = predictions(metrics.ensemble([logits / 3, logits / 4]).astype("float32"), labels)
    own = predictions(metrics.ensemble([logits, logits + 1]).astype("float32"), labels)
    found = metrics.detect(own, against=others)
    assert found["energy"] == {"undefined": "the logits are logarithms of probabilities, as those of ensembles are"}
    assert found["maximum_probability"]["auroc"] > 0.5
    assert metrics.detect(own, against=predictions(logits, labels))["energy"]["auroc"] < 0.5


def test_detection_by_embeddings_of_some_images_is_refused():
    own = predictions(*ORDINARY, embeddings=np.ones((500, 3)))
    some = metrics.Predictions(*ORDINARY, np.ones((5, 3)))
    for parts in ({"against": some}, {"against": own, "reference": some}):
        with pytest.raises(ValueError, match=f"of all images of {list(parts)[-1]}. Received: 5 for 500 images"):
            metrics.detect(own, **parts)


NONE = np.array([[np.nan, 1.0]])
TEMPERATURE, VECTOR = metrics.TemperatureScaling(1.0), metrics.VectorScaling(np.ones(2), np.zeros(2))


@pytest.mark.parametrize(
    "call",
    [
        metrics.maximum_probability,
        metrics.negative_energy,
        lambda logits: metrics.normalized_maximum_logit(logits, norm=2),
        lambda logits: metrics.ensemble([logits]),
        metrics.ConformalSets("aps", 0.1, 0.5).sets,
        TEMPERATURE.apply,
        VECTOR.apply,
    ],
)
def test_logits_that_are_none_are_refused(call):
    for wrong, message in (
        (NONE, "Expected finite scores"),
        (NONE[0], r"Expected logits \[N, classes\]. Received: shape \(2,\)"),
        ([[1e308, -1e308]], r"Expected scores that float32 holds. Received: 1e\+308"),
    ):
        with pytest.raises(ValueError, match=message):
            call(wrong)
    assert np.isfinite(call([[3e38, -3e38]])).all()  # what float32 can hold, a network can return


def test_scalings_and_sets_of_other_classes_are_refused():
    with pytest.raises(ValueError, match=r"Expected logits \[N, 2\]. Received: shape \(1, 3\)"):
        VECTOR.apply(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="Expected integer labels from 0 to 1"):
        metrics.coverage_and_size(np.ones((1, 2), bool), np.array([5]))
    with pytest.raises(ValueError, match="Expected at least one image"):
        metrics.coverage_and_size(np.ones((0, 2), bool), np.zeros(0, int))


def test_predictions_of_other_classes_are_refused():
    ordinary, other = predictions(*ORDINARY), predictions(3 * np.eye(2), [0, 1])
    with pytest.raises(ValueError, match="of the same classes. Received: predictions with 4, validation with 2"):
        metrics.assess(ordinary, validation=other)
    with pytest.raises(ValueError, match="of the same classes. Received: predictions with 4, against with 2"):
        metrics.detect(ordinary, against=other)


def test_probabilities_cause_one_warning_that_says_what_to_do():
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 3
    probabilities = metrics.Predictions(softmax(np.eye(3)[labels] + generator.normal(size=(60, 3))), labels)
    with pytest.warns(UserWarning, match="look like probabilities.*logits are expected, or np.log") as caught:
        metrics.assess(probabilities, validation=probabilities, resamples=5)
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(UserWarning, match="look like probabilities") as caught:
        metrics.compare(probabilities, probabilities, resamples=5)
    assert [warning.filename for warning in caught] == [__file__]
