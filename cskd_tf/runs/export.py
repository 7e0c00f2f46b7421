"""SavedModels for serving, laid out for TensorFlow Serving, checked in a process of their own, with a model card."""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from cskd_tf.data import evaluation_dataset
from cskd_tf.data.images.decode import reason
from cskd_tf.errors import UserError
from cskd_tf.files import FULL, check_readable, full_disk_named, nearest_folder, partial_mark, remove_leftovers
from cskd_tf.runs import model_card
from cskd_tf.runs.config import Config, ExportConfig
from cskd_tf.runs.evaluate import load_run
from cskd_tf.runs.experiment import Experiment
from cskd_tf.runs.json_files import write_json
from cskd_tf.runs.served import serving_of
from cskd_tf.runs.workdir import Workdir
from cskd_tf.serving import saved_model
from cskd_tf.serving.functions import Serving
from cskd_tf.serving.runtimes import formats
from cskd_tf.serving.runtimes.base import Material
from cskd_tf.serving.runtimes.numbers import Numbers

TOLERANCE = 1e-5
RUN = "run.json"  # of which run a SavedModel is
CLASSES = "classes.json"  # and what its classes are called
CALIBRATION = "calibration.json"  # and what its probabilities and sets were fitted to
RUNTIMES = "runtimes"  # folder of what other runtimes read
CALIBRATION_IMAGES, TEST_IMAGES = 256, 2000  # for int8, of a split, at most


def export(experiment: Experiment, workdir: Workdir) -> pathlib.Path:
    """Writes the next version of `DIRECTORY/<workdir name>/`, after it has been loaded afresh and compared.

    Returns:
        The folder of the new version.

    Raises:
        UserError: as of `check`, or predictions that the calibration and the card need are not there, or a format of
            `config.export.formats` returns something else; nothing is left behind then.
        RuntimeError: the SavedModel does not load by itself, or what it returns differs from what the model does;
            nothing is left behind then.
        OSError: it cannot be written, such as on a full disk, its own or that of temporary files; nothing is left
            behind.
    """
    _check(experiment.config.export, workdir)
    root = pathlib.Path(experiment.config.export.directory) / _name(workdir)
    made = [folder for folder in root.parents if not folder.exists()]
    serving = serving_of(experiment, workdir)
    for part, why in serving.calibration.left_out.items():
        logging.warning("Exported without %s: %s", part, why)
    try:
        root.mkdir(parents=True, exist_ok=True)
        remove_leftovers(root)
        with (
            tempfile.TemporaryDirectory(dir=root, prefix=".", suffix=partial_mark()) as partial,
            full_disk_named(root, tempfile.gettempdir()),
        ):
            folder = pathlib.Path(partial) / "model"
            _write(folder, serving, experiment=experiment, workdir=workdir, name=_title(workdir))
            images = experiment.splits["test"].examples(32)
            difference = saved_model.difference_in_fresh_process(folder, serving, images)
            if not difference <= TOLERANCE:
                raise RuntimeError(f"What the SavedModel returns differs from what the model does by {difference:.2e}")
            target = _publish(folder, root)
    except (OSError, tf.errors.OpError) as error:
        why = getattr(error, "strerror", None) or reason(error).split("; ")[-1]  # of TensorFlow's "path; reason"
        if isinstance(error, OSError) and error.errno in FULL:
            why = f"{why}: {error.filename}"
        raise OSError(
            f"The SavedModel could not be written to {root} ({why}). Nothing of it is left there, and the same command "
            "writes it once that is mended"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # it has something in it
            for folder in (root, *made):
                folder.rmdir()
    logging.info("%s: loaded in a fresh process, largest difference %.1e", target, difference)
    return target


def _write(folder: pathlib.Path, serving: Serving, *, experiment: Experiment, workdir: Workdir, name: str) -> None:
    """The SavedModel, what belongs to it, and its card."""
    saved_model.write(serving, folder)
    extra = folder / "assets.extra"
    extra.mkdir()
    (extra / CLASSES).write_text(json.dumps(serving.class_names))
    (extra / RUN).write_text(json.dumps(_stamp(experiment, workdir)))
    reports = {}
    if names := experiment.config.export.formats:
        reports = formats.write_all(names, folder / RUNTIMES, _material(serving, experiment))
        write_json(folder / RUNTIMES / formats.REPORT, reports)
    calibration = serving.calibration
    fitted = {key: getattr(calibration, key) for key in ("temperature", "threshold", "coverage")}
    write_json(extra / CALIBRATION, {**fitted, "left_out": dict(calibration.left_out)})
    model_card.write(folder, serving, experiment=experiment, workdir=workdir, name=name, runtimes=reports)


def _material(serving: Serving, experiment: Experiment) -> Material:
    """What files for other runtimes are made of: images are the pipeline's, before normalisation."""

    def pixels(split: str, most: int) -> tuple[np.ndarray, np.ndarray]:
        source = experiment.splits[split]
        count = len(source.labels)
        chosen = np.linspace(0, count - 1, min(count, most)).astype(np.int64)  # of all classes
        batches = evaluation_dataset(source.subset(chosen), batch_size=256, transform=serving.resize)
        return np.concatenate([images for images, _ in batches]), source.labels[chosen]

    # Of all images that were not trained on, because the ECE of few jumps with each one.
    judged = [pixels(split, TEST_IMAGES) for split in experiment.evaluation_splits]
    raw = experiment.splits["test"].examples(32).numpy()
    # Of another size too, and neither square nor a multiple of anything.
    other = np.random.default_rng(0).integers(0, 256, (2, serving.size + 7, 2 * serving.size + 3, serving.channels))
    return Material(
        numbers=Numbers(serving),
        images=[raw, other.astype(np.uint8)],
        training_pixels=lambda: pixels("train", CALIBRATION_IMAGES)[0],
        test_pixels=np.concatenate([images for images, _ in judged]),
        test_labels=np.concatenate([labels for _, labels in judged]),
        ece_bins=experiment.config.evaluation.ece_bins,
        opset=experiment.config.export.opset,
    )


def check(config: Config, workdir: Workdir) -> None:
    """Raises UserError where a finished run could not be exported to its directory, or in its formats."""
    if config.export.enabled:
        _check(config.export, workdir)


def _check(settings: ExportConfig, workdir: Workdir) -> None:
    formats.check_installed(settings.formats)
    check_readable(settings.directory, name="export.directory")
    if not settings.directory:
        raise UserError("Expected export.directory to name a folder. Received: export.directory=''")
    directory, inside = pathlib.Path(settings.directory).resolve(), workdir.path.resolve()
    if directory.is_relative_to(inside) and any(map(workdir.is_own, directory.relative_to(inside).parts[:1])):
        raise UserError(
            "Expected export.directory elsewhere than where the run has files of its own. "
            f"Received: {settings.directory}, in the workdir {workdir.path}"
        )
    nearest = nearest_folder(settings.directory)
    try:
        # Permissions say too little: root has all of them in /proc, where nothing can be made. What is made here has no
        # name where the system can do that: a process that is killed leaves nothing.
        tempfile.TemporaryFile(dir=nearest, prefix=".", suffix=partial_mark()).close()
    except OSError as error:
        raise UserError(
            "Expected export.directory to be a folder that can be written to, or made. Received: "
            f"{settings.directory}, where {nearest} {'takes none' if nearest.is_dir() else 'is no folder'} "
            f"({error.strerror})"
        ) from error
    root = pathlib.Path(settings.directory) / _name(workdir)
    of_others = [name for name, stamp in _published(root) if stamp.get("workdir", _place(workdir)) != _place(workdir)]
    if of_others:  # a server would go over from that model to this one
        raise UserError(
            f"Expected {root} to have versions of the run in {workdir.path} alone; export.directory can be another. "
            f"Received: version {of_others[0]} of a run in another workdir, whose path with dashes is the same"
        )


def export_once(experiment: Experiment, workdir: Workdir) -> pathlib.Path:
    """The version that `exported` finds, beside which nothing half written stays, or else `export`'s next."""
    if (found := exported(experiment, workdir)) is None:
        return export(experiment, workdir)
    remove_leftovers(found.parent)
    return found


def exported(experiment: Experiment, workdir: Workdir) -> pathlib.Path | None:
    """The newest version that this very run has published already, before it was interrupted; None: it has not."""
    root = pathlib.Path(experiment.config.export.directory) / _name(workdir)
    stamp = _stamp(experiment, workdir)
    versions = [name for name, found in _published(root) if found == stamp]
    return root / max(versions, key=int) if versions else None


def _published(root: pathlib.Path) -> Iterator[tuple[str, dict]]:
    """The versions that there are, and of which run each is, in no order; nothing of files that are damaged."""
    for file in root.glob(f"*/assets.extra/{RUN}"):
        version = file.parents[1].name
        with contextlib.suppress(ValueError):
            if version.isdigit() and isinstance(stamp := json.loads(file.read_text()), dict):
                yield version, stamp


def _stamp(experiment: Experiment, workdir: Workdir) -> dict[str, Any]:
    """Of which run a SavedModel is, and how it was exported."""
    how = json.loads(json.dumps(dataclasses.asdict(experiment.config.export)))
    settings = {key: how[key] for key in how if key not in ("enabled", "directory")}
    return {"run": workdir.identity(), "workdir": _place(workdir), **settings}


def _place(workdir: Workdir) -> str:
    """A digest of the workdir's path from here: a SavedModel that is given away shall not tell it."""
    return hashlib.sha256("/".join(_parts(workdir)).encode()).hexdigest()


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
    parts = _parts(workdir)
    return "-".join(parts[1:] if parts[0] == "workdirs" and len(parts) > 1 else parts)


def _title(workdir: Workdir) -> str:
    """What a card calls the model: its name, without the path to somewhere else."""
    return _name(workdir) if workdir.path.resolve().is_relative_to(pathlib.Path.cwd()) else workdir.path.resolve().name


def _parts(workdir: Workdir) -> tuple[str, ...]:
    """The workdir's path from here, its own name where it is here."""
    path, here = workdir.path.resolve(), pathlib.Path.cwd().resolve()
    if path == here:
        return (path.name or "workdir",)
    return path.relative_to(here).parts if path.is_relative_to(here) else path.parts[1:]


def _publish(folder: pathlib.Path, root: pathlib.Path) -> pathlib.Path:
    """Moves the finished folder to the next free version number."""
    versions = [int(entry.name) for entry in root.iterdir() if entry.name.isdigit()]
    target = root / str(max(versions, default=0) + 1)
    shutil.move(folder, target)
    return target
