"""The folder of a run: which config it belongs to, and the files that others read."""

import contextlib
import dataclasses
import hashlib
import itertools
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, TypeGuard

from cskd_tf.errors import UserError
from cskd_tf.files import check_readable, is_partial, remove_leftovers, written_whole
from cskd_tf.runs import provenance
from cskd_tf.runs.config import Config
from cskd_tf.runs.earlier_configs import upgraded
from cskd_tf.runs.json_files import as_json, flatten, parsed_json, read_json, write_json
from cskd_tf.runs.lock import LOCK, FolderLock

CONFIG, LOG, METRICS, IMPORTED = "config.json", "log.jsonl", "metrics.json", "imported.json"
CLASSES = "classes.json"
IMAGES = "images.json"  # which images the run was begun with
WHERE_IMAGES_ARE = {"data.source.path", "data.source.archive", "data.source.memory"}
TRAINED_BY = "trained_by.json"
REMEDY = "; put a copy back, or train in another --workdir"  # of what nothing but a training writes
CLASSIFIER = "classifier.keras"  # what inference needs, for Keras; a teacher for other runs


def _is_strings(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


class Workdir:
    """A run's folder.

    Args:
        path: the folder, which need not exist.
        tensorboard: folder for TensorBoard's files, where it is another run's; else it lies in `path`.

    Raises:
        UserError: an address, as of a bucket.
    """

    def __init__(self, path: str | pathlib.Path, *, tensorboard: pathlib.Path | None = None):
        check_readable(path, name="workdir")
        self.path = pathlib.Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = tensorboard or self.path / "tensorboard"
        self.figures = self.path / "figures"
        self.image_log = self.path / "image_log"
        self.classifier = self.path / CLASSIFIER
        self._lock = FolderLock(self.path)
        self._locking = False

    @contextlib.contextmanager
    def locked(self, *, make: bool = False) -> Iterator[None]:
        """Keeps other processes out of the folder: from now where it is a run's, else from when `claim` makes it one.

        The lock goes with its process, whatever ends that.

        Args:
            make: whether from now in any case. A folder that is made for it goes with the lock, unless it is claimed.

        Raises:
            UserError: another process has it, or the folder cannot be written to.
        """
        self._locking, made = True, []
        try:
            if make:
                made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
            if make or (self.path / CONFIG).exists():
                self._lock.take()
                self._remove_leftovers()
            yield
        finally:
            self._locking = False
            if self._lock.held and make and not (self.path / CONFIG).exists():
                self._remove_unclaimed(made)
            self._lock.release()

    def _remove_unclaimed(self, made: Sequence[pathlib.Path]) -> None:
        """Removes the lock's file, and the folders that were made for it."""
        with contextlib.suppress(OSError):  # somebody has put something there, or it is gone
            if self.is_new():
                (self.path / LOCK).unlink()
            for folder in made:
                folder.rmdir()

    def settled(self, config: Config) -> Config:
        """The config, with the precision that the run began with where it leaves that to the hardware."""
        if config.precision != "auto" or not (self.path / CONFIG).exists():
            return config
        return dataclasses.replace(config, precision=self.config().precision)

    def check_owner(self, config: Config, *, images_compared: bool = False) -> None:
        """Refuses a folder that `config` may not write to; some keys may change while a run goes on.

        Args:
            config: of who comes.
            images_compared: whether the images are compared with those of the run, so that they may lie elsewhere.

        Raises:
            UserError: the folder belongs to another config (the keys that differ are named) or is somebody else's.
        """
        if (self.path / CONFIG).exists():
            there = self.config()
            mine, given = flatten(there.as_dict()), flatten(self.settled(config).as_dict())
            free = there.may_change & config.may_change
            if images_compared and (self.path / IMAGES).exists():
                free |= WHERE_IMAGES_ARE
            fixed = (mine.keys() | given.keys()) - free
            differ = sorted(key for key in fixed if mine.get(key) != given.get(key))
            if differ:
                changes = ", ".join(f"{key}: {mine.get(key)!r} there, {given.get(key)!r} here" for key in differ[:5])
                why = " (the order of the images depends on it)" if "strategy" in differ else ""
                raise UserError(
                    f"Expected the config that {self.path} belongs to; give the --config and keys that it was begun "
                    f"with, or choose another --workdir. Received: {changes}{why}"
                )
        elif not self.is_new():
            raise UserError(f"Expected a new or empty folder, or one of ours. Received: workdir {self.path}")

    def is_new(self) -> bool:
        """Whether there is nothing in the folder but what a process left that was killed before it wrote a config."""
        if not self.path.exists():
            return True
        before_config = (LOCK, IMPORTED)
        return self.path.is_dir() and all(
            path.name in before_config or is_partial(path) for path in self.path.iterdir()
        )

    def claim(self, config: Config, *, imported_from: str | None = None) -> None:
        """Makes the folder belong to `config`; a run may be made of a checkpoint. Errors as `check_owner`.

        A run that goes on keeps the config that it began with: its file is what tells it from every other.
        """
        self.check_owner(config, images_compared=True)
        self.path.mkdir(parents=True, exist_ok=True)
        if self._locking:
            self._lock.take()
            self.check_owner(config, images_compared=True)  # which another process may have made it, so far
        self._remove_leftovers()
        if imported_from is not None:
            write_json(self.path / IMPORTED, {"checkpoint": imported_from})
        if not (self.path / CONFIG).exists():
            write_json(self.path / CONFIG, config.as_dict())

    def _remove_leftovers(self) -> None:
        for folder in (self.path, self.figures):
            remove_leftovers(folder)

    def config(self) -> Config:
        """The config that the run belongs to; its file may have the names that keys had before."""
        if not (self.path / CONFIG).exists():
            raise UserError(f"Expected the folder of a run, with {CONFIG}. Received: workdir {self.path}")
        values = read_json(self.path / CONFIG, advice=REMEDY)
        try:
            return Config.read(upgraded(values))
        except UserError as error:
            raise UserError(f"{self.path / CONFIG}: {error}") from None

    def identity(self) -> str:
        """What tells this run from every other, and from one that comes to lie in the same folder later."""
        config = self.path / CONFIG
        return hashlib.sha256(f"{config.resolve()} {config.stat().st_mtime_ns}".encode()).hexdigest()

    def log(self) -> list[dict[str, Any]]:
        """The log, one entry per epoch; a last line that was cut off is left out."""
        if not (self.path / LOG).exists():
            return []
        text = (self.path / LOG).read_text(errors="replace")
        lines = [
            parsed_json(line, name=f"line {number} of {self.path / LOG}", advice=REMEDY)
            for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), start=1)
        ]
        if wrong := [line for line in lines if not isinstance(line.get("epoch"), int)]:
            raise UserError(f"Expected the number of the epoch in each line of {self.path / LOG}. Received: {wrong[0]}")
        for line in lines:
            if wrong_values := {key: value for key, value in line.items() if not _is_logged(value)}:
                where = f"{self.path / LOG}, epoch {line['epoch']}: {wrong_values}"
                raise UserError(f"Expected a number, or null, for each metric of the log. Received: {where}")
        return lines

    def check_there(self) -> None:
        """Raises FileNotFoundError where somebody removed the folder of the run that is under way."""
        if not self.path.is_dir():
            raise FileNotFoundError(f"The workdir {self.path} is gone, and with it what could be gone on with")

    def append_log(self, entry: dict[str, Any]) -> None:
        """Adds what an epoch has logged. Errors as of `check_there`."""
        self.check_there()
        with open(self.path / LOG, "a") as file:
            file.write(as_json(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())  # before the checkpoint of the epoch, which cannot be gone on from without it

    def logged_epochs(self, *, monitor: str | None = None) -> int:
        """How many epochs the log has from the first on, with none left out, nor the number that it calls `monitor`."""
        found = {
            entry["epoch"] for entry in self.log() if monitor is None or isinstance(entry.get(monitor), (int, float))
        }
        return next(epoch for epoch in itertools.count() if epoch + 1 not in found)

    def trim_log(self, *, epochs: int) -> None:
        """Keeps the entries of the first `epochs` epochs; what follows will be trained, and logged, again."""
        if (self.path / LOG).exists():
            kept = "".join(as_json(entry) + "\n" for entry in self.log() if entry["epoch"] <= epochs)
            with written_whole(self.path / LOG) as partial:
                partial.write_text(kept)

    def metrics(self) -> dict[str, Any]:
        """The final metrics, empty while the run has not finished."""
        path = self.path / METRICS
        again = "; remove it, and the command that started the run writes it again"
        return read_json(path, advice=again) if path.exists() else {}

    def metrics_of(self, split: str) -> dict[str, Any]:
        """The final metrics of one split of a finished run: numbers, or None for what is undefined."""
        metrics = self.metrics().get(split)
        if not isinstance(metrics, dict) or "ece_bins" not in metrics or not all(map(_is_logged, metrics.values())):
            raise UserError(
                f"Expected metrics of the {split} split as a run writes them. Received: {self.path / METRICS} with "
                f"{split}={metrics!r}"
            )
        return metrics

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        write_json(self.path / METRICS, metrics)

    def imported_from(self) -> str | None:
        """The checkpoint that the run was made of, where it was not trained here."""
        path = self.path / IMPORTED
        return str(read_json(path).get("checkpoint")) if path.exists() else None

    def is_own(self, name: str) -> bool:
        """Whether a name in the folder is that of a file or folder which the run itself writes."""
        folders = (self.checkpoints, self.tensorboard, self.figures, self.image_log)
        suffixes = (".json", ".jsonl", ".npz", ".keras")
        return name.endswith(suffixes) or name == LOCK or name in [folder.name for folder in folders]

    def note_code(self) -> None:
        """Writes by which code the run is trained from now on."""
        before = self.trained_by()
        if before[-1:] != [code := provenance.code()]:
            write_json(self.path / TRAINED_BY, {"code": [*before, code]})

    def trained_by(self) -> list[str]:
        """By which code the run was trained, in turn; empty of runs of versions that did not note it."""
        path = self.path / TRAINED_BY
        if not path.exists():
            return []
        again = "; without it, nothing but by which code the run was trained is lost: remove it"
        if not _is_strings(code := read_json(path, advice=again).get("code")):
            raise UserError(f"Expected by which code the run was trained in {path}{again}. Received: {str(code)[:60]}")
        return code

    def predictions(self, split: str) -> pathlib.Path:
        return self.path / f"predictions_{split}.npz"

    def assessment(self, split: str) -> pathlib.Path:
        return self.path / f"assessment_{split}.json"

    def thumbnails(self, split: str) -> pathlib.Path:
        return self.path / f"thumbnails_{split}.npz"

    def write_classes(self, names: Sequence[str], groups: Sequence[str] | None) -> None:
        """Writes the names of the classes, and of the group of each, where they have groups."""
        write_json(self.path / CLASSES, {"names": list(names), "groups": None if groups is None else list(groups)})

    def classes(self) -> tuple[list[str], list[str] | None] | None:
        """What `write_classes` wrote; None of runs of versions that did not."""
        path = self.path / CLASSES
        if not path.exists():
            return None
        values = read_json(path, advice="; remove it, and --mode=evaluate writes it again")
        names, groups = values.get("names"), values.get("groups")
        if not _is_strings(names) or not (groups is None or (_is_strings(groups) and len(groups) == len(names))):
            raise UserError(f"Expected the names of classes in {path}. Received: {str(values)[:60]}")
        return names, groups


def _is_logged(value: Any) -> bool:
    """Whether it is what metrics and logs hold: a number that a float can be, or null for what is undefined."""
    if value is None:
        return True
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True
