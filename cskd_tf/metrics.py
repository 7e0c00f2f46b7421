"""Every metric: of whole splits, and ECE for `compile(metrics=[...])`."""

from cskd_tf.evaluation.metrics import (
    DEFAULT_ECE_BINS,
    DIRECTIONS,
    alone_in_class,
    area_under_risk_coverage,
    confidence_bins,
    ensemble,
    expected_calibration_error,
    group_error,
    negative_log_likelihood,
    recall_at_k,
    summarize,
    top_k_error,
)
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
