"""SavedModels as TensorFlow Serving reads them, and whether they compute what they should where nothing of ours is."""

import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from cskd_tf.serving.functions import IMAGE_BYTES, Serving

# Runs where this package cannot be imported, as on a server. Of each signature it saves every output.
_CHECK = """
import sys
sys.modules["cskd_tf"] = None
import numpy as np
import tensorflow as tf

folder, images, results = sys.argv[1:]
model = tf.saved_model.load(folder)
images = tf.constant(np.load(images))
contents = tf.map_fn(tf.io.encode_png, images, fn_output_signature=tf.string)
outputs = {}
for name, signature in model.signatures.items():
    (given,) = signature.structured_input_signature[1]
    for output, value in signature(**{given: contents if given == "image_bytes" else images}).items():
        outputs[f"{name}/{output}"] = value.numpy().astype("S") if value.dtype == tf.string else value.numpy()
np.savez(results, **outputs)
"""


def write(serving: Serving, folder: pathlib.Path) -> None:
    """Writes the signatures of a classifier, and the variables that these read, to a folder that is not there."""
    archive = keras.export.ExportArchive()  # told of no model: Keras would write its variables once more
    for name, (function, spec) in serving.signatures.items():
        archive.add_endpoint(name, function, [spec])
    archive.write_out(str(folder), verbose=False)


def difference_in_fresh_process(folder: pathlib.Path, serving: Serving, images: tf.Tensor) -> float:
    """The largest difference between what a SavedModel's signatures return in a process of their own, and here.

    Of probabilities it is absolute; of embeddings and logits, relative to the largest of them where that is above 1.
    Classes, names and sets may differ where probabilities that do not differ by more say so.

    Args:
        folder: of the SavedModel.
        serving: what was written to it.
        images: uint8 `[N, H, W, C]`, on which all signatures are called, and on PNG files of them.

    Raises:
        RuntimeError: it cannot be loaded or called there.
    """
    contents = tf.map_fn(tf.io.encode_png, images, fn_output_signature=tf.string)
    expected = {}
    for name, (function, spec) in serving.signatures.items():
        given = contents if spec.name == IMAGE_BYTES else images
        # As a graph, as it is served: run op by op, half precision rounds in other places.
        outputs = tf.function(function, input_signature=[spec], autograph=False)(given)
        expected[name] = {output: value.numpy() for output, value in outputs.items()}
    expected["serving_default"] = expected["serve"]
    with tempfile.TemporaryDirectory() as scratch:
        inputs, results = pathlib.Path(scratch) / "images.npy", pathlib.Path(scratch) / "outputs.npz"
        np.save(inputs, images.numpy())
        command = [sys.executable, "-I", "-c", _CHECK, folder.name, str(inputs), str(results)]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        # There, since TensorFlow takes a path with brackets, such as that of the current folder, for a pattern.
        finished = subprocess.run(
            command, cwd=folder.parent, env=environment, capture_output=True, text=True, check=False
        )
        if finished.returncode:
            raise RuntimeError(f"The SavedModel does not load in a process of its own:\n{finished.stderr[-2000:]}")
        with np.load(results) as arrays:
            found = {key: arrays[key] for key in arrays.files}
    if missing := {f"{name}/{output}" for name in expected for output in expected[name]} ^ set(found):
        raise RuntimeError(f"The SavedModel's outputs are others than the model's: {sorted(missing)}")
    logits = {"serve": "embeddings", "serve_bytes": "embeddings_bytes", "serving_default": "embeddings"}
    differences = [
        difference(
            {output: found[f"{name}/{output}"] for output in outputs},
            outputs,
            raw=tf.nn.softmax(expected[logits.get(name, name)]["logits"]).numpy(),
            serving=serving,
        )
        for name, outputs in expected.items()
    ]
    return float(np.max(differences))


def difference(
    found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], *, raw: np.ndarray, serving: Serving
) -> float:
    """The largest difference of any output, measured as `difference_in_fresh_process` says; NaN where one is NaN.

    Args:
        found: outputs of `Serving` by name, which something else has computed.
        expected: the same by `serving`.
        raw: probabilities `[N, C]` before the temperature.
        serving: of the classifier.
    """
    differences = [0.0]
    for name in ("probabilities", "confidence", "top_probabilities", "embedding", "logits"):
        if name in expected:
            size = max(1.0, float(np.abs(expected[name]).max()))
            differences.append(float(np.abs(found[name] - expected[name]).max()) / size)
    if "top_classes" in expected:
        chosen = np.take_along_axis(expected["probabilities"], found["top_classes"], axis=1)
        differences.append(float(np.abs(chosen - expected["top_probabilities"]).max()))
    if "top_names" in expected:
        names = np.array([os.fsencode(name) for name in serving.class_names])[found["top_classes"]]
        differences.append(0.0 if (names == found["top_names"]).all() else np.inf)
    if "conformal_set" in expected:
        other = found["conformal_set"] != expected["conformal_set"]
        differences.append(float(np.abs(raw - serving.calibration.threshold)[other].max(initial=0.0)))
    return float(np.max(differences))  # which, unlike max, lets NaN through
