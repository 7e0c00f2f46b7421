"""The metrics are those of torch-uncertainty, where that computes the same: images without ties, in doubles."""

import importlib.util
import warnings

import numpy as np
import pytest

from cskd_tf import metrics
from cskd_tf.evaluation.conformal import nonconformity
from tests.evaluation.cases import CASES
from tests.helpers import softmax

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make parity installs it")
if not all(importlib.util.find_spec(name) for name in ("torch_uncertainty", "lightning", "torchvision")):
    pytest.skip("torch-uncertainty is not installed: make parity installs it", allow_module_level=True)
pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),  # that a metric keeps all predictions
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
# Of operators that torchvision of PyPI cannot load beside PyTorch's build for the CPU, and that no metric uses.
OPERATORS = ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d")


@pytest.fixture(scope="module")
def theirs():
    """The module of their metrics."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import torchvision  # noqa: F401
        except RuntimeError:  # without its operators, declared ones will do
            library = torch.library.Library("torchvision", "DEF")
            for name in ("nms", "qnms", *OPERATORS, *(f"_{name}_backward" for name in OPERATORS)):
                library.define(f"{name}(Tensor x) -> Tensor")
        from torch_uncertainty.metrics import classification
    return classification


def untied(name):
    """Probabilities and labels of a case, as arrays and as tensors."""
    logits, labels = next((logits.astype(float), labels) for known, logits, labels in CASES if known == name)
    probabilities = softmax(logits)
    return (probabilities, labels), (torch.tensor(probabilities), torch.tensor(labels))


def value(metric, tensors):
    metric.update(*tensors)
    return float(metric.compute())


NAMES = ["random", "half", "one label", "all right", "all wrong"]


@pytest.mark.parametrize("name", NAMES)
def test_scores(theirs, name):
    ours, tensors = untied(name)
    expected = value(theirs.CategoricalNLL(), tensors)
    assert metrics.negative_log_likelihood(*ours, from_logits=False) == pytest.approx(expected, abs=1e-6)
    expected = value(theirs.BrierScore(num_classes=6), tensors)
    assert metrics.brier_score(*ours, from_logits=False) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("bins", [10, 15, 20])
@pytest.mark.parametrize("name", NAMES)
def test_calibration_errors(theirs, name, bins):
    ours, tensors = untied(name)
    options = {"task": "multiclass", "num_classes": 6, "num_bins": bins}
    for measure, metric in (
        (metrics.expected_calibration_error, theirs.CalibrationError(norm="l1", **options)),
        (metrics.maximum_calibration_error, theirs.CalibrationError(norm="max", **options)),
        (metrics.adaptive_calibration_error, theirs.AdaptiveCalibrationError(norm="l1", **options)),
        (metrics.classwise_calibration_error, theirs.ClasswiseCalibrationError(num_classes=6, num_bins=bins)),
    ):
        assert measure(*ours, bins=bins, from_logits=False) == pytest.approx(value(metric, tensors), abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_selective_classification(theirs, name):
    """Theirs are areas by trapezoids from 1/N on; ours are means, of the same curve."""
    ours, tensors = untied(name)
    metric = theirs.AURC()
    metric.update(*tensors)
    coverage, risk = metrics.risk_coverage_curve(*ours, from_logits=False)
    np.testing.assert_allclose(risk, metric.partial_compute().numpy(), atol=1e-6)
    width = 1 - 1 / len(risk)
    assert np.trapezoid(risk, coverage) / width == pytest.approx(float(metric.compute()), abs=1e-6)
    expected = value(theirs.AUGRC(), tensors)
    assert np.trapezoid(risk * coverage, coverage) / width == pytest.approx(expected, abs=1e-6)
    for measure, metric in (
        (metrics.coverage_at_risk, theirs.CovAt5Risk()),
        (metrics.risk_at_coverage, theirs.RiskAt80Cov()),
    ):
        assert measure(*ours, from_logits=False) == pytest.approx(value(metric, tensors), abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("rounded", [False, True])
def test_false_positives_at_95_percent(theirs, rounded):
    generator = np.random.default_rng(0)
    own, others = generator.normal(1, 1, 203), generator.normal(0, 1, 100)
    own, others = (np.round(part, 1) if rounded else part for part in (own, others))
    tensors = torch.tensor(np.concatenate([own, others])), torch.tensor(np.repeat([1, 0], [203, 100]))
    expected = value(theirs.FPR95(pos_label=1), tensors)
    assert metrics.detection(own, others)["fpr_at_95_recall"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("penalty", "free_ranks"), [(0.0, 1), (0.2, 2)])
def test_nonconformity(theirs, penalty, free_ranks):
    from torch_uncertainty.post_processing.conformal import ConformalClsRAPS

    (probabilities, _), (tensor, _) = untied("random")
    options = {"randomized": False, "penalty": penalty, "regularization_rank": free_ranks, "enable_ts": False}
    expected = ConformalClsRAPS(alpha=0.1, **options)._calculate_all_labels(tensor).numpy()
    zeros = np.zeros(len(probabilities))
    ours = nonconformity(probabilities, kind="raps", uniforms=zeros, penalty=penalty, free_ranks=free_ranks)
    np.testing.assert_allclose(ours, expected, atol=1e-6)
