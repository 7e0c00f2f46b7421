"""Every metric: of whole splits, and ECE for `compile(metrics=[...])`."""

from cskd_tf.evaluation.assessment import assess, detect
from cskd_tf.evaluation.calibration import (
    DEFAULT_ECE_BINS,
    adaptive_calibration_error,
    classwise_calibration_error,
    confidence_bins,
    expected_calibration_error,
    maximum_calibration_error,
)
from cskd_tf.evaluation.comparison import compare
from cskd_tf.evaluation.conformal import ConformalSets, coverage_and_size
from cskd_tf.evaluation.detection import detection, maximum_probability, negative_distance, negative_energy
from cskd_tf.evaluation.groups import group_error, per_class, per_group
from cskd_tf.evaluation.metrics import (
    DIRECTIONS,
    brier_score,
    ensemble,
    negative_log_likelihood,
    summarize,
    top_k_error,
)
from cskd_tf.evaluation.neighbours import alone_in_class, recall_at_k
from cskd_tf.evaluation.normalization import LogitNormalization, normalized_maximum_logit
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.evaluation.scaling import MatrixScaling, TemperatureScaling, VectorScaling
from cskd_tf.evaluation.selective import (
    area_under_generalized_risk_coverage,
    area_under_risk_coverage,
    coverage_at_risk,
    excess_area_under_risk_coverage,
    risk_at_coverage,
    risk_coverage_curve,
)
from cskd_tf.training.keras_metrics import ExpectedCalibrationError

__all__ = [
    "DEFAULT_ECE_BINS",
    "DIRECTIONS",
    "ConformalSets",
    "ExpectedCalibrationError",
    "LogitNormalization",
    "MatrixScaling",
    "Predictions",
    "TemperatureScaling",
    "VectorScaling",
    "adaptive_calibration_error",
    "alone_in_class",
    "area_under_generalized_risk_coverage",
    "area_under_risk_coverage",
    "assess",
    "brier_score",
    "classwise_calibration_error",
    "compare",
    "confidence_bins",
    "coverage_and_size",
    "coverage_at_risk",
    "detect",
    "detection",
    "ensemble",
    "excess_area_under_risk_coverage",
    "expected_calibration_error",
    "group_error",
    "maximum_calibration_error",
    "maximum_probability",
    "negative_distance",
    "negative_energy",
    "negative_log_likelihood",
    "normalized_maximum_logit",
    "per_class",
    "per_group",
    "recall_at_k",
    "risk_at_coverage",
    "risk_coverage_curve",
    "summarize",
    "top_k_error",
]
