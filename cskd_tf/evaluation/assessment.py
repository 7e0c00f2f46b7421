"""Everything that is known of a classifier's calibration and uncertainty, of one split, in one plain dictionary."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cskd_tf.errors import UserError
from cskd_tf.evaluation.calibration import classwise_calibration_error
from cskd_tf.evaluation.conformal import DEFAULT_ALPHA, KINDS, ConformalSets, SetOutcomes, fewest
from cskd_tf.evaluation.detection import (
    NEIGHBOURS,
    detection,
    maximum_probability,
    negative_distance,
    negative_energy,
)
from cskd_tf.evaluation.groups import crosses_groups, per_class, per_group
from cskd_tf.evaluation.intervals import LEVEL, RESAMPLES, interval, resampled
from cskd_tf.evaluation.neighbours import alone_in_class
from cskd_tf.evaluation.normalization import LogitNormalization
from cskd_tf.evaluation.outcomes import BINS, ECE_BINS, RECALLS, Outcomes, metric_intervals
from cskd_tf.evaluation.predictions import Predictions, check_same_classes, check_several_classes
from cskd_tf.evaluation.scaling import SCALINGS, TemperatureScaling
from cskd_tf.evaluation.scores import taken_for_logits

FITTED = ("scaling", "normalized_logits", "conformal")  # on validation images
NO_ENERGY = 1e-4  # nats: what is smaller, of all images, is rounding of float32
NO_REFERENCE = "there are no embeddings of training images"
SELECTIVE = ("aurc", "e_aurc", "augrc", "coverage_at_5_risk", "risk_at_80_coverage")


def assess(
    predictions: Predictions,
    *,
    validation: Predictions | None = None,
    class_names: Sequence[str] | None = None,
    class_groups: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    why_no_validation: str = "no validation images were given",
) -> dict[str, Any]:
    """Metrics with intervals, what recalibration and conformal sets make of them, and the parts by class and group.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> labels = np.arange(60) % 3
        >>> logits = 2 * np.eye(3)[labels] + generator.normal(size=(60, 3))
        >>> result = assess(Predictions(logits, labels, logits), resamples=50)
        >>> list(result)[:6]
        ['images', 'classes', 'metrics', 'intervals', 'undefined', 'scaling']
        >>> result["scaling"]
        {'undefined': 'no validation images were given'}

    Args:
        predictions: of the split.
        validation: of validation images of the same network, which are not those of the split; None: nothing is scaled
            and there are no conformal sets.
        class_names: C names; by default their numbers.
        class_groups: the group of each class.
        resamples: draws of the bootstrap.
        why_no_validation: what is said in place of what is fitted on validation images, where there are none.

    Returns:
        Plain numbers, lists and dictionaries. What is undefined is None in `metrics` and `intervals`, and `undefined`
        there or in a part says why. All fractions and nats; `docs/metrics.md` lists the names.

    Raises:
        UserError: shapes or labels that do not fit, validation images of other classes, or a single class.
    """
    check_several_classes(predictions)
    check_same_classes({"predictions": predictions, "validation": validation})
    fitted = [validation.logits] if validation else []
    with taken_for_logits(predictions.logits, *fitted):
        result = _measured(predictions, class_groups=class_groups, resamples=resamples)
        if validation is None:
            result |= {name: {"undefined": why_no_validation} for name in FITTED}
        else:
            result |= _fitted(predictions, validation, resamples=resamples)
    names = class_names or [str(number) for number in range(predictions.logits.shape[1])]
    result["per_class"] = per_class(predictions.logits, predictions.labels, class_names=names)
    if class_groups:
        result["per_group"] = per_group(predictions.logits, predictions.labels, groups=class_groups)
    return result


def _measured(predictions: Predictions, *, class_groups: Sequence[str] | None, resamples: int) -> dict[str, Any]:
    """The metrics of a split with their intervals, and why some are undefined."""
    logits, labels, embeddings = predictions.logits, predictions.labels, predictions.given_embeddings
    outcomes = Outcomes.of(logits, labels, embeddings)
    groups = class_groups if len(set(class_groups or ())) > 1 else None
    crossed = crosses_groups(logits, labels, groups=groups) if groups else None

    def measured(chosen: np.ndarray | slice) -> dict[str, float]:
        of_groups = {} if crossed is None else {"group_error": float(crossed[chosen].mean())}
        return {**outcomes.metrics(chosen), **of_groups}

    drawn = resampled(measured, len(labels), resamples=resamples)
    metrics = {**measured(slice(None)), **_without_intervals(logits, labels)}
    intervals = metric_intervals(drawn, metrics)
    undefined = _reasons(metrics, intervals, labels=labels, with_embeddings=embeddings is not None)
    if class_groups and crossed is None:
        undefined["group_error"] = "all classes are of one group"
    return {
        "images": len(labels),
        "classes": logits.shape[1],
        "metrics": {name: None if math.isnan(value) else value for name, value in metrics.items()},
        "intervals": {"level": LEVEL, "resamples": resamples, **intervals},
        "undefined": undefined,
    }


def _fitted(predictions: Predictions, validation: Predictions, *, resamples: int) -> dict[str, Any]:
    """The parts of `FITTED`."""
    return {
        "scaling": {name: _scaled(name, predictions, validation) for name in SCALINGS},
        "normalized_logits": _by_normalized_logits(predictions, validation),
        "conformal": _conformal(predictions, validation, resamples=resamples),
    }


def decompose(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The cross-entropy as what a temperature would mend and what is left: calibration and refinement.

    Berta et al., 2025 (Rethinking Early Stopping: Refine, Then Calibrate). The temperature is that of these very
    images: it measures, and nothing is ever scaled by it.

    Example:
        Three of four images like this one are of class 0; logits half as large would say so.

        >>> parts = decompose(np.array([[2 * math.log(3), 0.0]] * 4), np.array([0, 0, 0, 1]))
        >>> {name: round(value, 6) for name, value in parts.items()}
        {'nll_calibration': 0.092332, 'nll_refinement': 0.562335}

    Returns:
        Nats, which sum to the cross-entropy; NaN where no temperature is the best.
    """
    nll = float(Outcomes.of(logits, labels).nll.mean())
    try:
        scaled = TemperatureScaling.fit(logits, labels).apply(logits)
    except UserError:
        return {"nll_calibration": math.nan, "nll_refinement": math.nan}
    refinement = float(Outcomes.of(scaled, labels).nll.mean())
    return {"nll_calibration": nll - refinement, "nll_refinement": refinement}


def _without_intervals(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """What is more than a function of a few numbers per image, so that a thousand draws of it would take minutes."""
    classwise = classwise_calibration_error(logits, labels, bins=BINS)
    return {**decompose(logits, labels), "classwise_ece": classwise}


def _reasons(
    metrics: Mapping[str, float], intervals: Mapping[str, Any], *, labels: np.ndarray, with_embeddings: bool
) -> dict[str, str]:
    """Why metrics or their intervals are undefined."""
    reasons = {
        "nll_calibration": "no temperature is the best: all images are right, or the logits say nothing of the labels",
        "coverage_at_5_risk": "more than 5 % of the images are wrong at every coverage",
        "recall_at_1": "every image is alone in its class" if len(labels) > 1 else "there is one image",
    }
    reasons["nll_refinement"] = reasons["nll_calibration"]
    reasons |= {f"recall_at_{k}": reasons["recall_at_1"] for k in RECALLS}
    found = {name: reasons[name] for name, value in metrics.items() if math.isnan(value)}
    if not with_embeddings:
        found["recall"] = "there are no embeddings"
    elif len(labels) > 1 and (labels == labels[0]).all():
        found["recall"] = "all images are of one class, and so is every neighbour"
    elif missing := [k for k in RECALLS if k >= len(labels)]:
        found["recall"] = f"{len(labels)} images have no {missing[0]} nearest others"
    for name, ends in intervals.items():
        if ends is None and name not in found:
            found[name] = "there is no interval: some draws of the images leave it undefined"
    if alone := alone_in_class(labels) if with_embeddings else 0:
        found.setdefault("recall_left_out", f"{alone} images are alone in their class, and left out of R@k")
    return found


def _scaled(name: str, predictions: Predictions, validation: Predictions) -> dict[str, Any]:
    """What was fitted, and the metrics that it changes, after it; those before stand in `metrics`."""
    try:
        scaling = SCALINGS[name].fit(validation.logits, validation.labels)
    except UserError as error:
        return {"undefined": str(error)}
    logits = scaling.apply(predictions.logits)
    after = Outcomes.of(logits, predictions.labels).metrics()
    kept = ("top1_error", "nll", "brier", *(f"ece_{bins}" for bins in ECE_BINS), "aurc", "augrc")
    return {**scaling.parameters(), **{key: after[key] for key in kept}}


def _by_normalized_logits(predictions: Predictions, validation: Predictions) -> dict[str, Any]:
    """The metrics of selective classification where the images are answered in another order."""
    normalization = LogitNormalization.fit(validation.logits, validation.labels)
    confidence = normalization.confidence(predictions.logits)
    outcomes = Outcomes.of(predictions.logits, predictions.labels)
    metrics = dataclasses.replace(outcomes, confidence=confidence).metrics()
    values = {name: None if math.isnan(metrics[name]) else metrics[name] for name in SELECTIVE}
    return {"norm": normalization.norm, **values}


def _conformal(predictions: Predictions, validation: Predictions, *, resamples: int) -> dict[str, Any]:
    """Coverage and size of each kind of sets, with intervals of the images that they are asked of."""
    result: dict[str, Any] = {"alpha": DEFAULT_ALPHA}
    for kind in KINDS:
        fitted = ConformalSets.fit(validation.logits, validation.labels, kind=kind)
        if math.isinf(fitted.largest):
            have, need = len(validation.labels), fewest(DEFAULT_ALPHA)
            return {"undefined": f"{have} validation images, of at least {need} that alpha needs"}
        measured = SetOutcomes.of(fitted.sets(predictions.logits), predictions.labels).metrics
        drawn = resampled(measured, len(predictions.labels), resamples=resamples)
        result[kind] = {**measured(), "intervals": {name: interval(values) for name, values in drawn.items()}}
    return result


def _by_energy(own: np.ndarray, others: np.ndarray) -> dict[str, Any]:
    """As `detection`; undefined of logarithms of probabilities, which have an energy of 0, but for rounding."""
    energies = [negative_energy(logits) for logits in (own, others)]
    if all((np.abs(energy) < NO_ENERGY).all() for energy in energies):
        return {"undefined": "the logits are logarithms of probabilities, as those of ensembles are"}
    return detection(*energies)


def detect(
    predictions: Predictions,
    *,
    against: Predictions,
    reference: Predictions | None = None,
    why_no_reference: str = NO_REFERENCE,
) -> dict[str, Any]:
    """How well the network's outputs tell another data set's images from those of a split.

    Example:
        >>> own, other = np.array([[4.0, 0.0], [3.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 0.5]])
        >>> labels, nothing = np.zeros(2, int), np.zeros((2, 0))
        >>> result = detect(Predictions(own, labels, nothing), against=Predictions(other, labels, nothing))
        >>> result["maximum_probability"]["auroc"], result["feature_distance"]
        (1.0, {'undefined': 'there are no embeddings of training images'})

    Args:
        predictions: of images like those of the training.
        against: of the other images; their labels do not matter.
        reference: of training images, for distances of features.
        why_no_reference: what is said in place of these distances, where there is none.

    Returns:
        The results of `detection` by `maximum_probability`, `energy` and `feature_distance`.

    Raises:
        UserError: shapes, numbers of classes or of embeddings that do not fit.
    """
    given = {"predictions": predictions, "against": against, "reference": reference}
    check_same_classes(given)
    for name, each in given.items():
        if each is not None and each.given_embeddings is not None and len(each.embeddings) != len(each.labels):
            counts = f"{len(each.embeddings)} for {len(each.labels)} images"
            raise UserError(f"Expected embeddings of all images of {name}. Received: {counts}")
    result: dict[str, Any] = {
        "images": len(predictions.labels),
        "other_images": len(against.labels),
        "maximum_probability": detection(maximum_probability(predictions.logits), maximum_probability(against.logits)),
        "energy": _by_energy(predictions.logits, against.logits),
    }
    if reference is None or reference.given_embeddings is None:
        why = why_no_reference if reference is None else NO_REFERENCE
        return {**result, "feature_distance": {"undefined": why}}
    if predictions.given_embeddings is None or against.given_embeddings is None:
        return {**result, "feature_distance": {"undefined": "there are no embeddings of the images"}}
    neighbours = min(NEIGHBOURS, len(reference.labels))
    own, others = (
        negative_distance(each.embeddings, reference=reference.embeddings, neighbours=neighbours)
        for each in (predictions, against)
    )
    return {**result, "feature_distance": {"neighbours": neighbours, **detection(own, others)}}
