"""What can be compared: finished runs on the same classes by one network, and what figures need of them."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import logging

from cskd_tf.errors import UserError
from cskd_tf.evaluation.figures import neighbourhoods
from cskd_tf.evaluation.figures.compared import Compared
from cskd_tf.evaluation.figures.courses import ImageHistory
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.evaluation.scores import check_scores
from cskd_tf.runs.image_log import read_image_log
from cskd_tf.runs.images_of_run import noted_images
from cskd_tf.runs.report import group_by_seed, name_groups
from cskd_tf.runs.workdir import Workdir

SPLIT = "test"
NAMES = 12  # at most in a figure


@dataclasses.dataclass(eq=False)
class Subject:
    """Runs that figures compare.

    Attributes:
        runs: finished, on the same classes, by one network, each with predictions.
        class_names: C of them; their numbers where no run has written names.
        class_groups: the group of each class; None without groups.
    """

    runs: Sequence[Workdir]
    class_names: list[str]
    class_groups: list[str] | None

    def __post_init__(self):
        self._predictions: dict[Workdir, Predictions] = {}
        self._places: dict[Workdir, np.ndarray] = {}

    @property
    def data(self) -> str:
        return self.runs[0].config().data.source.name

    @property
    def network(self) -> str:
        return self.runs[0].config().network.name

    @property
    def title(self) -> str:
        return f"{self.data}, {self.network}, {SPLIT} split"

    @property
    def bins(self) -> int:
        """Of confidence: as many as most runs have, and of equally many the fewest."""
        counts = [run.config().evaluation.ece_bins for run in self.runs]
        return min(set(counts), key=lambda bins: (-counts.count(bins), bins))

    @property
    def groups(self) -> list[str]:
        """The group of each class.

        Raises:
            UserError: there are none.
        """
        if self.class_groups is None:
            raise UserError("Expected classes in groups. Received: classes without")
        return self.class_groups

    @functools.cached_property
    def named(self) -> dict[str, list[Workdir]]:
        """The runs of each name, which differ in seeds alone; up to 12, the first in the order of the report."""
        groups = group_by_seed(self.runs)
        names = {
            f"{name} (imported)" if group[0].imported_from() else name: group
            for name, group in zip(name_groups(groups), groups, strict=True)
        }
        if left_out := list(names)[NAMES:]:
            logging.warning("Figures compare up to %d methods or settings. Left out: %s", NAMES, left_out)
        return {name: names[name] for name in list(names)[:NAMES]}

    @property
    def compared_runs(self) -> list[Workdir]:
        """Those that have a name in the figures."""
        return [run for of_name in self.named.values() for run in of_name]

    def predictions(self, run: Workdir) -> Predictions:
        """Of a run, without its embeddings, which are large, and which t-SNE alone needs."""
        if run not in self._predictions:
            whole = Predictions.load(run.predictions(SPLIT))
            self._predictions[run] = dataclasses.replace(whole, embeddings=whole.embeddings[:, :0].copy())
        return self._predictions[run]

    def all_seeds(self) -> list[Compared]:
        """The predictions of all runs, by name."""
        return [Compared(name, [self.predictions(run) for run in runs]) for name, runs in self.named.items()]

    @functools.cached_property
    def same_images(self) -> tuple[list[Compared], list[Workdir]]:
        """The predictions of one run of each name, all of the same images, and these runs.

        Where not all names have a run on the same images, as many as can be; the others are logged.
        """
        chosen = self._one_of_each(
            self.compared_runs, lambda run: _key_of_test_images(run, labels=self.predictions(run).labels)
        )
        return [Compared(name, [self.predictions(run)]) for name, run in chosen.items()], list(chosen.values())

    def histories(self) -> dict[str, ImageHistory]:
        """The log of training images of one run of each name, of the same images; of those that have one."""
        logged = [run for run in self.compared_runs if any(run.image_log.glob("epoch-*.npz"))]
        chosen = self._one_of_each(logged, _key_of_training_images)
        return {name: history for name, run in chosen.items() if (history := read_image_log(run)) is not None}

    def logs(self) -> dict[str, list[list[dict[str, Any]]]]:
        """The logs of all runs that have some, by name."""
        logs = {name: [log for run in runs if (log := run.log())] for name, runs in self.named.items()}
        return {name: of_seeds for name, of_seeds in logs.items() if of_seeds}

    def places(self, run: Workdir) -> np.ndarray:
        """t-SNE of the embeddings of `neighbourhoods.chosen_images` of a run, `[n, 2]`."""
        if run not in self._places:
            embeddings = Predictions.load(run.predictions(SPLIT)).embeddings
            chosen = neighbourhoods.chosen_images(len(embeddings))
            logging.info("%s: t-SNE of %d images", run.path, len(chosen))
            self._places[run] = neighbourhoods.project(embeddings[chosen])
        return self._places[run]

    def _one_of_each(self, runs: Sequence[Workdir], key: Callable[[Workdir], str]) -> dict[str, Workdir]:
        """A run of each name, such that all have one key: that which most names have, and of equals the first."""
        keys = {run: key(run) for run in runs}
        best: dict[str, Workdir] = {}
        for each in dict.fromkeys(keys.values()):
            with_key = {name: [run for run in of_name if keys.get(run) == each] for name, of_name in self.named.items()}
            chosen = {name: of_name[0] for name, of_name in with_key.items() if of_name}
            best = chosen if len(chosen) > len(best) else best
        alone = [str(run.path) for run in keys if not any(run in self.named[name] for name in best)]
        if alone:
            others = [str(run.path) for run in best.values()]
            logging.warning("Not compared with %s, because their images are others: %s", others, alone)
        return best


def subjects_of(runs: Sequence[Workdir]) -> list[Subject]:
    """Runs by data set, classes and network; runs without predictions of the test split are left out, and logged.

    Raises:
        UserError: no run with predictions, or files that are damaged.
    """
    by_kind: dict[str, list[Workdir]] = {}
    for run in runs:
        if not run.predictions(SPLIT).exists():
            logging.warning("%s is left out: it has no predictions; --mode=evaluate writes them", run.path)
            continue
        config, count = run.config(), _count_classes(run)
        kind = [*vars(config.data.source.of_images()).values(), config.network.name, count]
        by_kind.setdefault(json.dumps(kind), []).append(run)
    if not by_kind:
        raise UserError(f"Expected runs with predictions. Received: none of {[str(run.path) for run in runs]}")
    return [
        subject for kind, members in by_kind.items() for subject in _by_classes(members, count=json.loads(kind)[-1])
    ]


def _count_classes(run: Workdir) -> int:
    """Of its predictions, which are checked here, where the file can be named."""
    predictions = Predictions.load(run.predictions(SPLIT))
    try:
        scores, _ = check_scores(predictions.logits, predictions.labels)
    except UserError as error:
        raise UserError(f"{run.predictions(SPLIT)}: {error}") from None
    if len(predictions.embeddings) != len(scores):
        counts = f"{len(predictions.embeddings)} for {len(scores)} images"
        raise UserError(f"Expected embeddings of all images in {run.predictions(SPLIT)}. Received: {counts}")
    return scores.shape[1]


def _by_classes(runs: Sequence[Workdir], *, count: int) -> list[Subject]:
    """Runs with the same classes; what has written no names is with the first of those that have."""
    classes = {run: run.classes() for run in runs}
    numbers = [str(number) for number in range(count)]
    default = next((each for each in classes.values() if each is not None), (numbers, None))
    by_names: dict[str, list[Workdir]] = {}
    for run, own in classes.items():
        by_names.setdefault(json.dumps(own or default), []).append(run)
    subjects = []
    for key, members in by_names.items():
        names, groups = json.loads(key)
        if len(names) != count:
            raise UserError(f"Expected {count} names of classes. Received: {len(names)} in {members[0].path}")
        subjects.append(Subject(members, names, groups))
    return subjects


def _key_of_test_images(run: Workdir, *, labels: np.ndarray) -> str:
    """What runs have in common that were tested on the same images."""
    split, noted = run.config().data.split, noted_images(run) or {}
    settings = {"test": split.test, "seed": split.seed, "fraction": split.test_fraction}
    settings["images"] = noted.get("splits", {}).get(SPLIT)  # None in a run of a version that noted none
    return json.dumps({**settings, "labels": hashlib.sha256(labels.astype(np.int64).tobytes()).hexdigest()})


def _key_of_training_images(run: Workdir) -> str:
    """What runs have in common that were trained on the same images."""
    noted = (noted_images(run) or {}).get("splits", {}).get("train")  # None in a run of a version that noted none
    return json.dumps([dataclasses.asdict(run.config().data.split), noted], sort_keys=True)
