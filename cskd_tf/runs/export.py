"""SavedModels for serving: raw uint8 images in, probabilities out, checked in a process of their own."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from cskd_tf.errors import UserError
from cskd_tf.files import nearest_folder, partial_mark, remove_leftovers
from cskd_tf.runs.config import Config
from cskd_tf.runs.evaluate import load_run
from cskd_tf.runs.experiment import Experiment
from cskd_tf.runs.workdir import Workdir

TOLERANCE = 1e-5
RUN = "run.json"  # of which run a SavedModel is
CLASSES = "classes.json"  # and what its classes are called

# Runs where this package cannot be imported, as on a server.
_CHECK = """
import sys
sys.modules["cskd_tf"] = None
import numpy as np
import tensorflow as tf

folder, images, results = sys.argv[1:]
model = tf.saved_model.load(folder)
probabilities = model.serve(tf.constant(np.load(images)))["probabilities"]
np.save(results, probabilities.numpy())
"""


def export(experiment: Experiment, workdir: Workdir) -> pathlib.Path:
    """Writes the next version of `DIRECTORY/<workdir name>/`, after it has been loaded afresh and compared.

    Returns:
        The folder of the new version.

    Raises:
        RuntimeError: the SavedModel does not load by itself, or its probabilities differ from the model's; nothing is
            left behind then.
    """
    root = pathlib.Path(experiment.config.export.directory) / _name(workdir)
    root.mkdir(parents=True, exist_ok=True)
    remove_leftovers(root)
    with tempfile.TemporaryDirectory(dir=root, prefix=".", suffix=partial_mark()) as partial:
        folder = pathlib.Path(partial) / "model"
        serve = _serving_function(experiment)
        channels = experiment.splits["test"].image_shape[2]
        archive = keras.export.ExportArchive()
        archive.track(experiment.model.classifier())  # and nothing that training alone needs
        archive.add_endpoint("serve", serve, [tf.TensorSpec([None, None, None, channels], tf.uint8, name="images")])
        archive.write_out(str(folder), verbose=False)
        extra = folder / "assets.extra"
        extra.mkdir()
        (extra / CLASSES).write_text(json.dumps(experiment.splits["train"].class_names))
        (extra / RUN).write_text(json.dumps(workdir.identity()))
        difference = _difference_in_fresh_process(folder, experiment)
        if not difference <= TOLERANCE:
            raise RuntimeError(f"The SavedModel's probabilities differ from the model's by {difference:.2e}")
        target = _publish(folder, root)
    logging.info("%s: loaded in a fresh process, largest difference %.1e", target, difference)
    return target


def check_directory(config: Config) -> None:
    """Raises UserError where a finished run could not be exported to its directory."""
    directory = pathlib.Path(config.export.directory)
    nearest = nearest_folder(directory)
    if config.export.enabled and not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
        raise UserError(
            f"Expected export.directory to be a folder that can be written to, or made. Received: {directory}, where "
            f"{nearest} is {'read-only' if nearest.is_dir() else 'no folder'}"
        )


def exported(experiment: Experiment, workdir: Workdir) -> pathlib.Path | None:
    """The version that this very run has published already, before it was interrupted; None: it has not."""
    root = pathlib.Path(experiment.config.export.directory) / _name(workdir)
    for file in root.glob(f"*/assets.extra/{RUN}"):
        if file.read_text(errors="replace") == json.dumps(workdir.identity()):
            return file.parents[1]
    return None


def export_run(workdir: Workdir, *, config: Config | None = None) -> pathlib.Path:
    """Exports the last epoch of a run again, as its next version. Arguments and errors as of `load_run`."""
    with workdir.locked():
        target = export(load_run(workdir, config=config), workdir)
        workdir.write_metrics({**workdir.metrics(), "saved_model": str(target)})
    return target


def _name(workdir: Workdir) -> str:
    """The workdir's path from here, with dashes.

    Example:
        >>> _name(Workdir("workdirs/digits/cross_entropy"))
        'digits-cross_entropy'
    """
    path, here = workdir.path.resolve(), pathlib.Path.cwd().resolve()
    parts = path.relative_to(here).parts if path.is_relative_to(here) else path.parts[1:]
    return "-".join(parts[1:] if parts[0] == "workdirs" and len(parts) > 1 else parts)


def _serving_function(experiment: Experiment):
    def serve(images):
        inputs = experiment.evaluation_transform(tf.cast(images, tf.float32), None)
        return {"probabilities": tf.nn.softmax(tf.cast(experiment.model(inputs, training=False), tf.float32))}

    return serve


def _difference_in_fresh_process(folder: pathlib.Path, experiment: Experiment) -> float:
    """Largest difference between the model's probabilities and the SavedModel's, on raw images of the test split."""
    images = experiment.splits["test"].examples(32)
    # As a graph, as it is served: run op by op, half precision rounds in other places.
    expected = tf.function(_serving_function(experiment))(images)["probabilities"].numpy()
    with tempfile.TemporaryDirectory() as scratch:
        inputs, outputs = pathlib.Path(scratch) / "images.npy", pathlib.Path(scratch) / "probabilities.npy"
        np.save(inputs, images.numpy())
        command = [sys.executable, "-I", "-c", _CHECK, str(folder.resolve()), str(inputs), str(outputs)]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        finished = subprocess.run(command, cwd=scratch, env=environment, capture_output=True, text=True, check=False)
        if finished.returncode:
            raise RuntimeError(f"The SavedModel does not load in a process of its own:\n{finished.stderr[-2000:]}")
        return float(np.abs(np.load(outputs) - expected).max())


def _publish(folder: pathlib.Path, root: pathlib.Path) -> pathlib.Path:
    """Moves the finished folder to the next free version number."""
    versions = [int(entry.name) for entry in root.iterdir() if entry.name.isdigit()]
    target = root / str(max(versions, default=0) + 1)
    shutil.move(folder, target)
    return target
