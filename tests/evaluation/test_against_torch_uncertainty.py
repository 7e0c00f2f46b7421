"""The metrics are those of torch-uncertainty, in doubles; where they are not, it is said why, and by how much.

We differ in three things. Images of equal confidence count as in a random order, and not in that of a sort. A bin holds
its upper edge, as in the papers, and not its lower one. One class, one image, and more bins than images have values.
"""

import importlib.util
import inspect
import math
import warnings

import numpy as np
import pytest

from cskd_tf import metrics
from cskd_tf.evaluation.conformal import nonconformity
from tests.evaluation.cases import CASES, ORDINARY, PROBABILITIES, SCORES, tie_means
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


def case(name):
    """Probabilities and labels of a case, as arrays and as tensors."""
    probabilities, labels = PROBABILITIES[name]
    return (probabilities, labels), (torch.tensor(probabilities), torch.tensor(labels))


def value(metric, tensors):
    metric.update(*tensors)
    return float(metric.compute())


NAMES = sorted(PROBABILITIES.keys() - {"one class"})
BINS = [8, 10, 15, 20]  # 8: the edges are exact in float32 too


@pytest.mark.parametrize("name", NAMES)
def test_scores(theirs, name):
    ours, tensors = case(name)
    expected = value(theirs.CategoricalNLL(), tensors)
    assert metrics.negative_log_likelihood(*ours, from_logits=False) == pytest.approx(expected, abs=1e-6)
    expected = value(theirs.BrierScore(num_classes=ours[0].shape[1]), tensors)
    assert metrics.brier_score(*ours, from_logits=False) == pytest.approx(expected, abs=1e-6)


def of_bins(theirs, classes, bins):
    """Our measures, and a metric of theirs for each."""
    options = {"task": "multiclass", "num_classes": classes, "num_bins": bins}
    return [
        (metrics.expected_calibration_error, theirs.CalibrationError(norm="l1", **options)),
        (metrics.maximum_calibration_error, theirs.CalibrationError(norm="max", **options)),
        (metrics.classwise_calibration_error, theirs.ClasswiseCalibrationError(num_classes=classes, num_bins=bins)),
    ]


@pytest.mark.parametrize("bins", BINS)
@pytest.mark.parametrize("name", sorted(set(NAMES) - {"bin edges"}))
def test_calibration_errors(theirs, name, bins):
    ours, tensors = case(name)
    for measure, metric in of_bins(theirs, ours[0].shape[1], bins):
        assert measure(*ours, bins=bins, from_logits=False) == pytest.approx(value(metric, tensors), abs=1e-6)


@pytest.mark.parametrize("bins", [2, 4, 8])
def test_calibration_errors_on_edges(theirs, bins):
    """Of 1 - p and what is wrong theirs holds the edges that ours holds of p: the gaps are the same."""
    probabilities, labels = PROBABILITIES["bin edges"]
    right = (probabilities.argmax(axis=1) == labels).astype(float)

    def turned(columns, outcomes, norm="l1"):
        metric = theirs.CalibrationError(task="binary", num_bins=bins, norm=norm)
        return value(metric, (torch.tensor(1 - columns), torch.tensor(1 - outcomes).int()))

    confidence = probabilities.max(axis=1)
    by_class = [turned(column, labels == number) for number, column in enumerate(probabilities.T)]
    for (measure, metric), expected in zip(
        of_bins(theirs, 3, bins),
        (turned(confidence, right), turned(confidence, right, "max"), np.mean(by_class)),
        strict=True,
    ):
        measured = measure(probabilities, labels, bins=bins, from_logits=False)
        assert measured == pytest.approx(expected, abs=1e-6)
        if bins == 8:
            assert abs(measured - value(metric, case("bin edges")[1])) > 1e-3


@pytest.mark.parametrize("bins", BINS)
@pytest.mark.parametrize("name", NAMES)
def test_adaptive_calibration_error(theirs, name, bins):
    """Ours is theirs of images that carry the mean of their ties; with more bins than images each is a bin."""
    (probabilities, labels), tensors = case(name)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    filled = min(bins, len(labels))
    inputs = [torch.tensor(each) for each in (confidence, tie_means(confidence, right))]
    expected = float(inspect.getmodule(theirs.AdaptiveCalibrationError)._ace_compute(*inputs, num_bins=filled))
    measured = metrics.adaptive_calibration_error(probabilities, labels, bins=bins, from_logits=False)
    assert measured == pytest.approx(expected, abs=1e-6)
    options = {"task": "multiclass", "num_classes": probabilities.shape[1], "num_bins": bins}
    as_it_is = value(theirs.AdaptiveCalibrationError(norm="l1", **options), tensors)
    if bins > len(labels):
        assert math.isnan(as_it_is)
    elif len(set(confidence)) == len(confidence):
        assert measured == pytest.approx(as_it_is, abs=1e-6)


def test_their_adaptive_error_of_equal_images_depends_on_their_order(theirs):
    logits = np.zeros((8, 2))
    orders = np.repeat([0, 1], 4), np.arange(8) % 2
    options = {"task": "multiclass", "num_classes": 2, "num_bins": 2}
    for labels, expected in zip(orders, (0.5, 0.0), strict=True):
        tensors = torch.tensor(softmax(logits)), torch.tensor(labels)
        metric = theirs.AdaptiveCalibrationError(norm="l1", **options)
        assert value(metric, tensors) in (pytest.approx(expected, abs=1e-6), pytest.approx(0.5 - expected, abs=1e-6))
        assert metrics.adaptive_calibration_error(logits, labels, bins=2) == pytest.approx(0, abs=1e-12)


def test_one_class(theirs):
    """Theirs refuses it, or takes it for a probability of two; beside a class that is never probable it is the same."""
    probabilities, labels = PROBABILITIES["one class"]
    two = torch.tensor(np.concatenate([probabilities, 0 * probabilities], axis=1)), torch.tensor(labels)
    for measure, metric in of_bins(theirs, 2, 15):
        expected = value(metric, two)
        assert measure(probabilities, labels, bins=15, from_logits=False) == pytest.approx(expected, abs=1e-6)
    expected = value(theirs.BrierScore(num_classes=2), two)
    assert metrics.brier_score(probabilities, labels, from_logits=False) == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="num_classes"):
        theirs.CalibrationError(task="multiclass", num_classes=1, num_bins=15)


@pytest.mark.parametrize("name", sorted(PROBABILITIES))
def test_selective_classification(theirs, name):
    """Theirs are areas by trapezoids from 1/N on, of the same curve; our AURC is a mean, our AUGRC begins at 0.

    Ties carry their mean error.
    """
    (probabilities, labels), tensors = case(name)
    confidence, wrong = probabilities.max(axis=1), probabilities.argmax(axis=1) != labels
    errors = torch.tensor(tie_means(confidence, wrong))
    of_theirs = {}
    for kind in (theirs.AURC, theirs.AUGRC, theirs.CovAt5Risk, theirs.RiskAt80Cov):
        metric = of_theirs[kind] = kind()
        metric.update(*tensors)
        if len(set(confidence)) == len(confidence):
            assert metric.errors[0].tolist() == errors.tolist()
        metric.errors = [errors]
    curve = of_theirs[theirs.AURC].partial_compute().numpy()
    coverage, risk = metrics.risk_coverage_curve(probabilities, labels, from_logits=False)
    np.testing.assert_allclose(risk, curve, atol=1e-6)
    if len(labels) > 1:
        width = 1 - 1 / len(risk)
        areas = [np.trapezoid(each, coverage) / width for each in (risk, risk * coverage)]
        expected = [float(of_theirs[kind].compute()) for kind in (theirs.AURC, theirs.AUGRC)]
        assert areas == pytest.approx(expected, abs=1e-6)
        first = (risk * coverage)[0] / len(risk) / 2
        ours = metrics.area_under_generalized_risk_coverage(probabilities, labels, from_logits=False)
        assert ours == pytest.approx(expected[1] * width + first, abs=1e-6)
    else:
        assert math.isnan(float(of_theirs[theirs.AURC].compute()))  # one point has no area
    assert metrics.area_under_risk_coverage(probabilities, labels, from_logits=False) == pytest.approx(curve.mean())
    best = theirs.AURC()  # of a network that is surest of what is right
    best.scores, best.errors = [torch.tensor(1.0 - wrong)], [torch.tensor(1.0 * wrong)]
    excess = metrics.excess_area_under_risk_coverage(probabilities, labels, from_logits=False)
    assert excess == pytest.approx(curve.mean() - best.partial_compute().numpy().mean(), abs=1e-6)
    for measure, kind in (
        (metrics.coverage_at_risk, theirs.CovAt5Risk),
        (metrics.risk_at_coverage, theirs.RiskAt80Cov),
    ):
        expected = float(of_theirs[kind].compute())
        measured = measure(probabilities, labels, from_logits=False)
        assert measured == pytest.approx(expected, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("name", SCORES)
def test_false_positives_at_95_percent(theirs, name):
    own, others = (part.astype(float) for part in SCORES[name])
    tensors = torch.tensor(np.concatenate([own, others])), torch.tensor(np.repeat([1, 0], [len(own), len(others)]))
    expected = value(theirs.FPR95(pos_label=1), tensors)
    assert metrics.detection(own, others)["fpr_at_95_recall"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("penalty", "free_ranks"), [(0.0, 1), (0.2, 2)])
def test_nonconformity(theirs, penalty, free_ranks):
    from torch_uncertainty.post_processing.conformal import ConformalClsRAPS

    (probabilities, _), (tensor, _) = case("random")
    options = {"randomized": False, "penalty": penalty, "regularization_rank": free_ranks, "enable_ts": False}
    expected = ConformalClsRAPS(alpha=0.1, **options)._calculate_all_labels(tensor).numpy()
    zeros = np.zeros(len(probabilities))
    ours = nonconformity(probabilities, kind="raps", uniforms=zeros, penalty=penalty, free_ranks=free_ranks)
    np.testing.assert_allclose(ours, expected, atol=1e-6)


def fitted(scaler, logits, labels):
    """A scaler of theirs at its optimum, in doubles, and the probabilities that it gives."""
    loader = [(torch.tensor(logits), torch.tensor(labels))]
    scaler.fit(loader, progress=False)
    return torch.softmax(scaler._scale(loader[0][0]), dim=1).detach().numpy()


@pytest.mark.parametrize("name", ["ordinary", "random", "tied", "half", "too sure", "hardly sure"])
def test_scalings(theirs, name, monkeypatch):
    """Their scalers by their optimiser; vector scaling with the biases of Guo et al., which theirs leaves out."""
    from torch_uncertainty.post_processing import MatrixScaler, TemperatureScaler, VectorScaler
    from torch_uncertainty.post_processing.calibration.scaler import Scaler

    # They stop where the loss no longer changes by 1e-9: of a larger loss that is nearer to its optimum.
    larger = staticmethod(lambda *args: 1e6 * torch.nn.functional.cross_entropy(*args))
    monkeypatch.setattr(Scaler, "criterion", larger)

    class WithBiases(VectorScaler):
        def set_temperature(self, val):
            super().set_temperature(val)
            self.biases = torch.nn.Parameter(torch.zeros(self.num_classes))

        @property
        def inv_temperature(self):
            return [self.inv_temp, self.biases]

        def _scale(self, logits):
            return self.inv_temp * logits + self.biases

    cases = {case: (logits.astype(float), labels) for case, logits, labels in CASES}
    cases |= {"ordinary": ORDINARY, "too sure": (20 * ORDINARY[0], ORDINARY[1])}
    cases["hardly sure"] = ORDINARY[0] / 20, ORDINARY[1]
    logits, labels = cases[name]
    size = logits.std()  # their steps are made for logits of about 1
    classes = logits.shape[1]
    options = {"lr": 1, "max_iter": 2000}
    for ours, scaler in (
        (metrics.TemperatureScaling, TemperatureScaler(**options)),
        (metrics.VectorScaling, WithBiases(classes, **options)),
        (metrics.MatrixScaling, MatrixScaler(classes, **options)),
    ):
        expected = fitted(scaler.double(), logits / size, labels)
        measured = softmax(ours.fit(logits, labels).apply(logits))
        np.testing.assert_allclose(measured, expected, atol=1e-6)
