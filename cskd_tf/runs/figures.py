"""Draws the papers' figures of finished runs, from what these have saved."""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence

import matplotlib.figure
import numpy as np
import tensorflow as tf
from absl import logging

from cskd_tf.errors import UserError
from cskd_tf.evaluation.figures import (
    courses,
    hierarchy,
    misclassified,
    neighbourhoods,
    reliability,
    rescaling,
    selection,
)
from cskd_tf.evaluation.figures.style import as_image, save
from cskd_tf.files import full_disk_named, read_arrays, remove_leftovers
from cskd_tf.runs.json_files import read_json, write_json
from cskd_tf.runs.report import find_runs
from cskd_tf.runs.subjects import SPLIT, Subject, subjects_of
from cskd_tf.runs.workdir import Workdir

MANIFEST = "figures.json"  # names the files that are ours, in each folder of figures
EVENTS = "tensorboard"


@dataclasses.dataclass(frozen=True)
class Kind:
    """A figure that there is.

    Attributes:
        draw: returns it; UserError, where the runs do not have what it shows.
        shows: what, in a few words.
    """

    draw: Callable[[Subject], matplotlib.figure.Figure]
    shows: str


def _top_five(subject: Subject) -> matplotlib.figure.Figure:
    compared, runs = subject.same_images
    indices, images = pictures_of(runs, len(compared[0].seeds[0].labels))
    names, title = subject.class_names, f"{subject.title}: five most probable classes"
    return misclassified.top_five(compared, indices=indices, images=images, class_names=names, title=title)


def pictures_of(runs: Sequence[Workdir], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and thumbnails of some of the `count` images, of the first run that has them.

    Raises:
        UserError: none has, or they are damaged, or of other images.
    """
    files = [run.thumbnails(SPLIT) for run in runs if run.thumbnails(SPLIT).exists()]
    if not files:
        raise UserError(f"Expected pictures of {SPLIT} images; --mode=evaluate writes them. Received: none of any run")
    pictures = read_arrays(files[0], ["indices", "images"])
    indices, images = pictures["indices"], pictures["images"]
    if images.ndim != 4 or len(indices) != len(images) or (len(indices) and not 0 <= indices.max() < count):
        raise UserError(f"Expected pictures of {count} images in {files[0]}. Received: others")
    return indices, images


def _tsne(subject: Subject, *, by_group: bool) -> matplotlib.figure.Figure:
    kind_of_class, kind_names = np.arange(len(subject.class_names)), subject.class_names
    if by_group:
        kind_names = hierarchy.group_names(subject.groups)
        kind_of_class = np.array([kind_names.index(group) for group in subject.groups])
    compared, runs = subject.same_images
    labels = compared[0].seeds[0].labels
    chosen = neighbourhoods.chosen_images(len(labels))
    kinds = kind_of_class[labels[chosen]]
    shown = f"{len(chosen)} of {len(labels)}" if len(chosen) < len(labels) else f"{len(chosen)}"
    count = len(np.unique(kinds))
    one, several = ("group", "groups") if by_group else ("class", "classes")
    title = f"{subject.title}\nt-SNE of {shown} images, {count} {one if count == 1 else several}"
    return neighbourhoods.scattered(
        [subject.places(run) for run in runs],
        names=[each.name for each in compared],
        kinds=kinds,
        kind_names=kind_names,
        title=title,
    )


def _hard_images(subject: Subject) -> matplotlib.figure.Figure:
    histories = subject.histories()
    if not histories:
        raise UserError("Expected a log of training images, as log_images=1 writes it. Received: none of any run")
    return courses.hard_images(histories, title=f"{subject.data}, {subject.network}: hardest images")


KINDS = {
    "reliability": Kind(
        lambda subject: reliability.reliability_curves(subject.all_seeds(), bins=subject.bins, title=subject.title),
        "accuracy against confidence",
    ),
    "risk_coverage": Kind(
        lambda subject: selection.risk_coverage_curves(subject.all_seeds(), title=subject.title),
        "error among the most confident images",
    ),
    "log_probabilities": Kind(
        lambda subject: misclassified.log_probability_histograms(subject.same_images[0], title=subject.title),
        "log-probabilities of images that all get wrong",
    ),
    "top_five": Kind(_top_five, "most probable classes of single images"),
    "tsne_classes": Kind(lambda subject: _tsne(subject, by_group=False), "embeddings by class"),
    "tsne_groups": Kind(lambda subject: _tsne(subject, by_group=True), "embeddings by group of classes"),
    "group_confusion": Kind(
        lambda subject: hierarchy.group_confusions(subject.all_seeds(), groups=subject.groups, title=subject.title),
        "which groups of classes are taken for which",
    ),
    "group_error": Kind(
        lambda subject: hierarchy.group_errors(subject.all_seeds(), groups=subject.groups, title=subject.title),
        "error within each group of classes",
    ),
    "training_curves": Kind(
        lambda subject: courses.training_curves(subject.logs(), title=f"{subject.data}, {subject.network}"),
        "loss and metrics over the epochs",
    ),
    "hard_images": Kind(_hard_images, "the hardest training images over the epochs"),
    "rescaling": Kind(lambda _: rescaling.rescaling_curves(), "equation 11 of PS-KD"),
}


def draw(root: pathlib.Path) -> None:
    """Draws all figures of the finished runs at and below a folder, as PNG and SVG and for TensorBoard.

    They are in `ROOT/figures/SUBJECT/`, a subject for each data set and network. What cannot be drawn is left out, and
    the log and `figures.json` say why.

    Raises:
        UserError: no finished run, or files that are not ours where figures belong.
    """
    runs = find_runs(root)
    subjects = subjects_of(runs)
    folders = [root / "figures" / name for name in _folder_names(subjects)]
    for folder in folders:
        _refuse_foreign(folder)
    for folder, subject in zip(folders, subjects, strict=True):
        with full_disk_named(folder):
            _draw_subject(subject, folder, root=root)


def _folder_names(subjects: Sequence[Subject]) -> list[str]:
    """One for each, such as `digits_preact_resnet10`, and a number behind those that another has already."""
    names: list[str] = []
    for subject in subjects:
        name = re.sub(r"[^\w.+-]+", "_", f"{subject.data}_{subject.network}")
        while name in names:
            stem, _, number = name.rpartition("-")
            name = f"{stem}-{int(number) + 1}" if number.isdigit() and stem else f"{name}-2"
        names.append(name)
    return names


def _refuse_foreign(folder: pathlib.Path) -> None:
    """Refuses a folder where a file that is not ours has the name of one of ours."""
    ours = set(read_json(folder / MANIFEST)) if (folder / MANIFEST).exists() else set()
    targets = {f"{name}.{kind}" for name in KINDS for kind in ("png", "svg")}
    if foreign := sorted(name for name in targets - ours if (folder / name).exists()):
        raise UserError(f"Expected no file of others in {folder}, where figures are written. Received: {foreign}")


def _draw_subject(subject: Subject, folder: pathlib.Path, *, root: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    ours = dict.fromkeys(read_json(folder / MANIFEST) if (folder / MANIFEST).exists() else {}, "")
    targets = {f"{name}.{kind}": each.shows for name, each in KINDS.items() for kind in ("png", "svg")}
    # First the names and then the files: what is killed in between leaves none that would be taken for another's.
    write_json(folder / MANIFEST, {**ours, **targets})
    drawn: dict[str, np.ndarray] = {}
    told: dict[str, str] = {}
    missing: dict[str, list[str]] = {}  # by why
    for name, kind in KINDS.items():
        for old in ("png", "svg"):
            (folder / f"{name}.{old}").unlink(missing_ok=True)
        try:
            figure = kind.draw(subject)
        except UserError as error:
            told[name] = f"not drawn: {error}"
            missing.setdefault(str(error), []).append(kind.shows)
            continue
        for path in save(figure, folder / name):
            told[path.name] = kind.shows
        drawn[name] = as_image(figure)
    told["runs"] = ", ".join(str(run.path.relative_to(root)) for run in subject.runs)
    write_json(folder / MANIFEST, told)
    _write_events(folder / EVENTS, drawn)
    if missing:
        reasons = "; ".join(f"{', '.join(shows)} ({why})" for why, shows in missing.items())
        logging.info("%s: not drawn: %s", folder.name, reasons)
    logging.info("%s of %s in %s", _counted(len(drawn), "figure"), _counted(len(subject.runs), "run"), folder)


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _write_events(folder: pathlib.Path, drawn: Mapping[str, np.ndarray]) -> None:
    """TensorBoard's file of these images, in place of the one before."""
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default(step=0):
        for name, image in drawn.items():
            tf.summary.image(name, image)
    writer.close()
