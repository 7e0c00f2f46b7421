"""The formats there are: what they need, how they are written, and when they are refused."""

import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from cskd_tf.errors import UserError, installing
from cskd_tf.evaluation.calibration import expected_calibration_error
from cskd_tf.files import full_disk_named
from cskd_tf.serving.runtimes.base import Format, Material, Run
from cskd_tf.serving.runtimes.litert import LiteRt, LiteRtInt8
from cskd_tf.serving.runtimes.onnx import Onnx
from cskd_tf.serving.runtimes.openvino import OpenVino
from cskd_tf.serving.runtimes.web import Web
from cskd_tf.serving.saved_model import difference

FORMATS: Mapping[str, Format] = {
    "onnx": Onnx(),
    "litert": LiteRt(),
    "litert_int8": LiteRtInt8(),
    "openvino": OpenVino(),
    "web": Web(),
}
TOLERANCE = 1e-5  # of probabilities, as of the SavedModel's
# Of embeddings and logits, over the largest: other kernels add up in another order. In a MobileNetV2 of random weights
# TensorFlow's logits and onnxruntime's are both 1e-5 from those of float64.
FEATURES_TOLERANCE = 1e-4
FEATURES = ("embedding", "logits")
ECE_TOLERANCE = 0.005  # of int8
REPORT = "parity.json"
GRAPH = 10**6  # bytes, of a file beside its weights


def check_names(names: Sequence[Any]) -> None:
    """Raises UserError for a format that is not there, or is named twice."""
    if unknown := [name for name in names if name not in list(FORMATS)]:
        raise UserError(f"Unknown format; expected some of {list(FORMATS)}. Received: export.formats={unknown}")
    if len(set(names)) < len(names):
        raise UserError(f"Expected each format once. Received: export.formats={list(names)}")


def check_installed(names: Sequence[str]) -> None:
    """Raises UserError where packages are missing that formats need, with the extras that install them."""
    missing = {name: packages for name in names if (packages := FORMATS[name].missing())}
    if missing:
        extras = ",".join(dict.fromkeys(FORMATS[name].extra for name in missing))
        raise UserError(
            f"Expected the packages of export.formats={list(missing)}; {installing(extras)} installs them. "
            f"Received: no {', '.join(sorted({package for each in missing.values() for package in each}))}"
        )


def write_all(names: Sequence[str], folder: pathlib.Path, material: Material) -> dict[str, dict[str, Any]]:
    """Writes formats to `folder/NAME/` and compares what each returns with the classifier.

    Returns:
        For each format its `bytes` and what `judge` says of it.

    Raises:
        UserError: a format that cannot be written or run, or that returns something else.
        OSError: files that cannot be written, such as on a full disk, which its `filename` names.
    """
    reports = {}
    room = 4 * material.numbers.serving.model.count_params() + GRAPH
    for name in names:
        target = folder / name
        target.mkdir(parents=True)
        try:
            # In float32, because a SavedModel's writer traces anew.
            with full_disk_named(folder, tempfile.gettempdir(), room=room), material.numbers.in_float32():
                FORMATS[name].write(target, material)
            judged = judge(FORMATS[name], FORMATS[name].load(target), material)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # converters raise whatever they like
            why = (str(error).strip().splitlines() or [""])[0][:300]
            raise _refusal(name, f"{type(error).__name__}: {why}") from error
        for key, tolerance in (("largest_difference", TOLERANCE), ("features_difference", FEATURES_TOLERANCE)):
            if FORMATS[name].exact and not judged[key] <= tolerance:
                raise _refusal(name, f"its outputs differ by {judged[key]:.1e}, above {tolerance:g}")
        if not FORMATS[name].exact and not abs(judged["ece"] - judged["ece_of_the_saved_model"]) <= ECE_TOLERANCE:
            raise _refusal(
                name,
                f"its ECE is {judged['ece']:.4f}, and not {judged['ece_of_the_saved_model']:.4f} to {ECE_TOLERANCE}; "
                f"top-1 agreement {judged['top1_agreement']:.4f}, {len(material.test_labels)} test images",
            )
        size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
        reports[name] = {**judged, "bytes": size}
        said = ", ".join(f"{key.replace('_', ' ')} {value:.4g}" for key, value in judged.items())
        logging.info("%s: %s, %.2f MB", name, said, size / 1e6)
    return reports


def judge(form: Format, run: Run, material: Material) -> dict[str, float]:
    """How near to the classifier a format is.

    Returns:
        `largest_difference` of probabilities, classes and sets, and `features_difference` of embeddings and logits, as
        of `saved_model.difference`. Of a format that is not exact, of all test images: `top1_agreement`, the share with
        the same most probable class, `ece` and `ece_of_the_saved_model`.
    """
    numbers = material.numbers
    if form.exact:
        batches = material.images if form.takes_images else [material.test_pixels[:32]]
        differences = np.array([_differences(run(batch), numbers.expected(batch), material) for batch in batches])
        return dict(zip(("largest_difference", "features_difference"), differences.max(axis=0).tolist(), strict=True))
    found, expected = (
        np.concatenate([function(batch)["probabilities"] for batch in _batches(material.test_pixels)])
        for function in (run, numbers.expected)
    )
    judged = {"top1_agreement": float((found.argmax(axis=1) == expected.argmax(axis=1)).mean())}
    for key, probabilities in (("ece", found), ("ece_of_the_saved_model", expected)):
        judged[key] = expected_calibration_error(
            probabilities, material.test_labels, bins=material.ece_bins, from_logits=False
        )
    return judged


def _differences(
    found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], material: Material
) -> tuple[float, float]:
    """Of all outputs but the features, and of the features."""
    if set(found) != set(expected):
        raise UserError(f"Expected outputs {sorted(expected)}. Received: {sorted(found)}")
    raw, serving = tf.nn.softmax(expected["logits"]).numpy(), material.numbers.serving
    features = {name: expected[name] for name in FEATURES}
    others = {name: value for name, value in expected.items() if name not in FEATURES}
    return (
        difference(found, others, raw=raw, serving=serving),
        difference(found, features, raw=raw, serving=serving),
    )


def _batches(pixels: np.ndarray, size: int = 32) -> list[np.ndarray]:
    return [pixels[start : start + size] for start in range(0, len(pixels), size)]


def _refusal(name: str, why: str) -> UserError:
    return UserError(
        f"Expected {name} to return what the SavedModel does; without it in export.formats the rest is exported. "
        f"Received: {why}. Nothing was published"
    )
