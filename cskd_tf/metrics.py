"""Every metric: of whole splits, and ECE for `compile(metrics=[...])`."""

from cskd_tf.evaluation.calibration import DEFAULT_ECE_BINS, confidence_bins, expected_calibration_error
from cskd_tf.evaluation.metrics import (
    DIRECTIONS,
    area_under_risk_coverage,
    ensemble,
    group_error,
    negative_log_likelihood,
    summarize,
    top_k_error,
)
from cskd_tf.evaluation.neighbours import alone_in_class, recall_at_k
from cskd_tf.training.keras_metrics import ExpectedCalibrationError

__all__ = [
    "DEFAULT_ECE_BINS",
    "DIRECTIONS",
    "ExpectedCalibrationError",
    "alone_in_class",
    "area_under_risk_coverage",
    "confidence_bins",
    "ensemble",
    "expected_calibration_error",
    "group_error",
    "negative_log_likelihood",
    "recall_at_k",
    "summarize",
    "top_k_error",
]
