"""Predicts image files: a line of CSV or JSON for each, as they are read."""

import csv
import glob
import json
import os
import pathlib
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, Literal

import numpy as np
import tensorflow as tf
from absl import logging

from cskd_tf.data.images.decode import reason
from cskd_tf.data.sources.folders import SUFFIXES, files_below
from cskd_tf.data.sources.passes import track
from cskd_tf.errors import UserError
from cskd_tf.runs.classifiers import is_saved_model, load_saved_model, refuse_own_network
from cskd_tf.runs.config import Config
from cskd_tf.runs.evaluate import load_run
from cskd_tf.runs.predicted_file import check_new, opened
from cskd_tf.runs.served import serving_of
from cskd_tf.runs.workdir import Workdir
from cskd_tf.serving.functions import TOP

Form = Literal["csv", "jsonl"]
BATCH_SIZE = 32  # images at a time: so many are lost to sight while they are computed, and decoded in memory
UNREADABLE = 3  # the exit code where some images could not be read, and all others were predicted


class Predictor:
    """A run or a SavedModel that predicts files.

    Args:
        path: a workdir, or the folder of a SavedModel.
        config: of the run, see `load_run`; a SavedModel takes none.

    Attributes:
        class_names: C names.
        has_sets: whether there are conformal sets.

    Raises:
        UserError: neither of the two, a run that has not finished, or a SavedModel that takes no files.
    """

    def __init__(self, path: str, *, config: Config | None = None):
        self._run: Callable[[tf.Tensor], Mapping[str, tf.Tensor]]
        if is_saved_model(path):
            self._model, self.class_names = load_saved_model(pathlib.Path(path))  # whose variables go with it
            if not hasattr(self._model, "serve_bytes"):
                raise UserError(
                    "Expected a SavedModel that takes files, as --mode=export of the run writes it now. "
                    f"Received: {path}, which takes images alone"
                )
            self._run = self._model.serve_bytes
            self.has_sets = "conformal_set" in self._model.signatures["serve_bytes"].structured_outputs
        else:
            workdir = Workdir(path)
            if config is None:
                refuse_own_network(workdir)
            else:
                workdir.check_owner(config, images_compared=True)
            serving = serving_of(load_run(workdir, config=config), workdir)
            function, spec = serving.signatures["serve_bytes"]
            self._run = tf.function(function, input_signature=[spec], autograph=False)
            self.class_names, self.has_sets = serving.class_names, serving.calibration.threshold is not None

    def rows(self, contents: Sequence[bytes]) -> list[dict[str, Any]]:
        """What is predicted of each file, or why nothing is: `label`, `confidence`, `top` and `set`, or `error`."""
        try:
            outputs = {name: value.numpy() for name, value in self._run(tf.constant(contents)).items()}
        except tf.errors.InvalidArgumentError as error:
            if len(contents) == 1:
                empty = not contents[0]
                return [{"error": "empty file" if empty else reason(error)}]
            return [row for content in contents for row in self.rows([content])]
        return [self._row({name: value[number] for name, value in outputs.items()}) for number in range(len(contents))]

    def _row(self, outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        names = [_readable(self.class_names[number]) for number in outputs["top_classes"]]
        # The shortest decimal number that is this float32, not all digits of the float64 that equals it.
        probabilities = [float(str(value)) for value in outputs["top_probabilities"]]
        row: dict[str, Any] = {
            "label": names[0],
            "confidence": float(str(outputs["confidence"])),
            "top": [{"label": name, "probability": value} for name, value in zip(names, probabilities, strict=True)],
        }
        if self.has_sets:
            row["set"] = [_readable(self.class_names[number]) for number in np.flatnonzero(outputs["conformal_set"])]
        return row


def predict(
    paths: Sequence[str],
    *,
    model: str,
    config: Config | None = None,
    output: str | None = None,
    form: Form | None = None,
) -> int:
    """Writes a line for each image of files, folders and patterns, and names what cannot be read on stderr.

    Args:
        paths: of image files, and of folders and patterns as `photos/**`, of which all files with the suffix of JPEG or
            PNG count.
        model: a workdir, or the folder of a SavedModel.
        config: see `Predictor`.
        output: a file that is not there yet, which appears when all is done; until then lines go to `unfinished` beside
            it, which stays where the work breaks off. None: stdout. Lines appear batch by batch.
        form: by default that of the output's suffix, `.csv` or `.jsonl`, and of stdout CSV.

    Returns:
        The exit code: 0, or `UNREADABLE`.

    Raises:
        UserError: no images, a file that is there already, or a model that cannot be used.
    """
    form = form or _form_of(output)
    if output is not None:
        check_new(output)
    elif sys.stdout is None:
        raise UserError("Expected --output=FILE where stdout is closed. Received: neither")
    files = find_files(paths)
    logging.info("%s: images to predict: %d", model, len(files))  # by default a folder that nobody has named
    predictor = Predictor(model, config=config)
    unreadable = 0
    with opened(output) as stream:
        writer = _WRITERS[form](stream, predictor)
        starts = range(0, len(files), BATCH_SIZE)
        for start in track(starts, total=len(starts), description="Predicting"):
            for file, row in _predicted(files[start : start + BATCH_SIZE], predictor):
                writer({"path": _readable(file), **row})
                if "error" in row:
                    logging.error("%s: %s", _readable(file), row["error"])
                    unreadable += 1
            stream.flush()
    if unreadable:
        logging.error("%d of %d images could not be read", unreadable, len(files))
    return UNREADABLE if unreadable else 0


def find_files(paths: Sequence[str]) -> list[str]:
    """The image files that paths name, each once, those of a folder or a pattern sorted.

    What a folder or a pattern has beside files with the suffix of JPEG or PNG is passed over, which is logged; a file
    that is named by itself counts, whatever its suffix.

    Example:
        >>> for name in ("b.png", "a.jpg", "notes.txt"):
        ...     pathlib.Path(name).touch()
        >>> find_files(["notes.txt", "b*", "."]), find_files(["*"])
        (['notes.txt', 'b.png', './a.jpg'], ['a.jpg', 'b.png'])

    Raises:
        UserError: a path or a pattern that leads to no image, or nothing at all.
    """
    found: dict[tuple[str, str], str] = {}  # by its folder and name: a link to an image is another, one to a folder not
    for path in paths:
        if os.path.lexists(path) and not os.path.isdir(path):
            files, others = [path], set[str]()
        else:
            below = _files_of(path)
            files = [file for file in below if file.lower().endswith(SUFFIXES)]
            others = {os.path.realpath(file) for file in set(below) - set(files)}
        if not files:
            other = f", with {len(others)} other files" if others else ""
            raise UserError(
                f"Expected an image, a folder of images ({', '.join(SUFFIXES)}) or a pattern that fits some. "
                f"Received: {path}{other}"
            )
        if others:
            logging.warning("%s: %d files that are neither JPEG nor PNG are passed over", _readable(path), len(others))
        for file in files:
            folder, name = os.path.split(file)
            found.setdefault((os.path.realpath(folder), name), file)
    if not found:
        raise UserError("Expected images, folders or patterns behind predict. Received: none")
    return list(found.values())


def _files_of(path: str) -> list[str]:
    """The files of a folder, or of what a pattern fits, those of its folders too."""
    files: list[str] = []
    for each in [path] if os.path.isdir(path) else sorted(glob.glob(path, recursive=True)):
        files += sorted(files_below(pathlib.Path(each))) if os.path.isdir(each) else [each]
    return files


def _predicted(files: Sequence[str], predictor: Predictor) -> Iterator[tuple[str, dict[str, Any]]]:
    """Files with what is predicted of each, in their order."""
    read = {file: _read(file) for file in files}
    contents = {file: content for file, content in read.items() if isinstance(content, bytes)}
    rows = dict(zip(contents, predictor.rows([*contents.values()]) if contents else [], strict=True))
    for file in files:
        yield file, rows[file] if file in rows else {"error": str(read[file])}


def _read(file: str) -> bytes | str:
    """The bytes of a file, or why there are none."""
    try:
        # Opening a pipe would wait for somebody who writes into it.
        with open(file, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as opened:
            return opened.read() if stat.S_ISREG(os.fstat(opened.fileno()).st_mode) else "no file"
    except OSError as error:
        return error.strerror or str(error)


def _readable(name: str) -> str:
    """A name of the file system, which may be no Unicode, as text."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _form_of(output: str | None) -> Form:
    suffix = pathlib.Path(output).suffix if output is not None else ".csv"
    if suffix not in (".csv", ".jsonl"):
        raise UserError(f"Expected --format=csv or jsonl, or an output that ends so. Received: --output={output}")
    return "csv" if suffix == ".csv" else "jsonl"


class _Lines:
    """JSON lines: the row as it is."""

    def __init__(self, stream: IO[str], predictor: Predictor):
        self._stream = stream

    def __call__(self, row: Mapping[str, Any]) -> None:
        self._stream.write(json.dumps(row, ensure_ascii=False) + "\n")


class _Csv:
    """CSV, with a heading: path, label, confidence, the classes behind the first, the set as a JSON list, the error."""

    def __init__(self, stream: IO[str], predictor: Predictor):
        places = range(2, min(TOP, len(predictor.class_names)) + 1)
        classes = [f"{kind}_{place}" for place in places for kind in ("label", "probability")]
        names = ["path", "label", "confidence", *classes, *(["set"] if predictor.has_sets else []), "error"]
        self._writer = csv.DictWriter(stream, names, lineterminator="\n")
        self._writer.writeheader()

    def __call__(self, row: Mapping[str, Any]) -> None:
        cells = {name: value for name, value in row.items() if name not in ("top", "set")}
        for place, top in enumerate(row.get("top", ())):
            if place:
                cells |= {f"label_{place + 1}": top["label"], f"probability_{place + 1}": top["probability"]}
        if "set" in row:
            cells["set"] = json.dumps(row["set"], ensure_ascii=False)
        self._writer.writerow(cells)


_WRITERS: dict[str, type[_Csv] | type[_Lines]] = {"csv": _Csv, "jsonl": _Lines}
