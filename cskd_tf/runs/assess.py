"""Assesses a run, or what it is part of, on any images: `cskd_tf.metrics.assess`, as files and tables."""

import contextlib
import dataclasses
import hashlib
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging

from cskd_tf import data
from cskd_tf.data import SourceOptions, SplitOptions
from cskd_tf.errors import UserError
from cskd_tf.evaluation.assessment import assess, detect
from cskd_tf.evaluation.comparison import compare
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.runs import assessment_tables
from cskd_tf.runs.classifiers import (
    Classifier,
    averaged,
    check_is_there,
    check_together,
    is_saved_model,
    open_classifier,
    that_knows_its_images,
)
from cskd_tf.runs.config import Config, DataConfig
from cskd_tf.runs.evaluate import NO_VALIDATION, VALIDATION_ITSELF, write_assessment
from cskd_tf.runs.workdir import Workdir

SPLITS = ("train", "val", "test")
NO_COMMON_EMBEDDINGS = "each member of an ensemble has its embeddings in a space of its own"
REFERENCE_ITSELF = "distances are those to the training images, of which each is its own nearest"
NO_DATA = "the images that it was trained on are not known; --config=FILE names them"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """What `--mode=evaluate` is asked beyond a run's own validation and test images.

    Attributes:
        split: `train`, `val`, `test`, `all`; empty: `test`.
        members: further workdirs or SavedModels, for an ensemble.
        on: a config whose images, of the same classes, are assessed instead of the run's own.
        against: a config whose test images are to be told from those that are assessed.

    Of these two only `data.source`, but for its channels, and `data.split` count: images are prepared as the network
    needs them.
    """

    split: str = ""
    members: Sequence[str] = ()
    on: Config | None = None
    against: Config | None = None

    def is_asked(self, path: str) -> bool:
        """Whether there is more to do than to evaluate the run of a workdir."""
        return bool(self.split or self.members or self.on or self.against or is_saved_model(path))


def answer(question: Question, path: str, *, config: Config | None = None) -> dict[str, dict[str, Any]]:
    """Writes `assessment_<what it is of>.json` to a workdir, for each split that is asked about, and prints tables.

    Nothing that a run wrote before is changed, and predictions are not kept. In the folder of a SavedModel nothing is
    written.

    Args:
        question: what is asked.
        path: a workdir, or the folder of a SavedModel.
        config: see `open_classifier`.

    Returns:
        What was written, by the name of the file without its ending.

    Raises:
        UserError: no such folder, a run that has not finished, members that do not fit together, images of other
            classes or of the training, images against themselves, a split that is not there.
    """
    with contextlib.nullcontext() if is_saved_model(path) else Workdir(path).locked():
        return _answer(question, path, config=config)


def _answer(question: Question, path: str, *, config: Config | None) -> dict[str, dict[str, Any]]:
    """The same, while no other process writes to the workdir."""
    for member in question.members:  # before any images are read
        check_is_there(member)
    members = [open_classifier(path, config=config), *(open_classifier(member) for member in question.members)]
    check_together(members)
    knowing = that_knows_its_images(members)
    _refuse_against_itself(knowing, question)
    splits = _splits(knowing, question)
    other = _load_splits(question.against.data, knowing)["test"] if question.against else None
    results = {}
    for split, source in splits.items():
        everything = [member.on(source, name=split) for member in members]
        predictions = averaged(everything)
        result: dict[str, Any] = {"of": [each.name for each in members], "split": split}
        if question.on:
            result["on"] = _named(question.on.data)
        of = "" if question.on else split
        result |= _assessment(members, predictions, source=source, split=of)
        if question.against and other:
            name = _named(question.against.data)
            against = averaged([member.on(other, name=name) for member in members])
            result["detection"] = {"against": name, **_detection(members, predictions, against=against, split=of)}
        if len(members) > 1:
            pairs = zip(members[1:], everything[1:], strict=True)
            result["compared"] = {other.name: compare(everything[0], theirs) for other, theirs in pairs}
        results[_name(question, split)] = result
    for result in results.values():
        assessment_tables.show(result, title=_title(result))
    _write(results, path)
    return results


def _splits(classifier: Classifier, question: Question) -> dict[str, data.Source]:
    """The images that are asked about, by split."""
    splits = classifier.splits
    if question.on:
        trained_on, on = classifier.trained_on, question.on.data
        if trained_on and _is_same_data_set(trained_on, on) and trained_on.split != on.split:
            raise UserError(
                f"Expected --on with the splits of {classifier.name}, or another data set: other splits of its own "
                f"have images that it was trained on. Received: {on.split}"
            )
        splits = _load_splits(on, classifier)
        if splits["train"].class_names != classifier.class_names:
            raise UserError(
                f"Expected images of the {len(classifier.class_names)} classes of {classifier.name}; --against is for "
                f"images of others. Received: {question.on.data.source.name} with {splits['train'].class_names[:5]} ..."
            )
    if not splits:
        raise UserError(
            f"Expected --on=CONFIG or --config=CONFIG, whose images are to be predicted: a SavedModel has none. "
            f"Received: {classifier.name} alone"
        )
    chosen = [split for split in SPLITS if split in splits] if question.split == "all" else [question.split or "test"]
    if chosen[0] not in splits:
        raise UserError(f"Expected a split of {sorted(splits)}. Received: --split={chosen[0]}; {NO_VALIDATION}")
    return {split: splits[split] for split in chosen}


def _refuse_against_itself(classifier: Classifier, question: Question) -> None:
    """Another seed or fraction of the same data set gives other images, but of the same kind."""
    own = question.on.data if question.on else classifier.trained_on
    other = question.against.data if question.against else None
    if own and other and _is_same_data_set(own, other) and own.split.test == other.split.test:
        raise UserError(
            "Expected --against with another data set than the one that is assessed, whose images cannot be told from "
            f"themselves. Received: {_named(other)} for both"
        )


def _is_same_data_set(one: DataConfig, other: DataConfig) -> bool:
    """Whatever it is converted to, and wherever it is held."""
    return one.source.of_images() == other.source.of_images()


def _load_splits(config: DataConfig, classifier: Classifier) -> dict[str, data.Source]:
    """The splits of a config, with the channels that a classifier takes."""
    channels: Any = classifier.channels  # which SourceOptions checks
    return data.load_splits(dataclasses.replace(config.source, channels=channels), config.split)


def _named(config: DataConfig) -> str:
    """A data set, where an image folder lies, and what of its splits is not as by default.

    Example:
        >>> from cskd_tf.data import SourceOptions, SplitOptions
        >>> import types
        >>> split = SplitOptions(test="snow", seed=1)
        >>> source = SourceOptions(name="image_folder", path="photos", class_levels=2)
        >>> _named(types.SimpleNamespace(source=source, split=split))
        'image_folder photos class_levels=2 test=snow seed=1'
    """
    source = {**vars(config.source.of_images()), "name": "", "path": ""}  # as both are said in any case
    usual = {**vars(SourceOptions(name="").of_images()), **vars(SplitOptions())}
    changed = [f"{key}={value}" for key, value in {**source, **vars(config.split)}.items() if value != usual[key]]
    return " ".join(filter(None, [config.source.name, config.source.path, *changed]))


def _title(result: Mapping[str, Any]) -> str:
    """What an assessment is of.

    Example:
        >>> _title({"of": ["workdirs/digits"], "split": "test"})
        'workdirs/digits: test split'
        >>> _title({"of": ["workdirs/a", "workdirs/b"], "split": "val", "on": "cifar10"})
        'val split of cifar10, ensemble of 2'
    """
    images = f"{result['split']} split" + (f" of {result['on']}" if "on" in result else "")
    members = result["of"]
    return f"{images}, ensemble of {len(members)}" if len(members) > 1 else f"{members[0]}: {images}"


def _assessment(
    members: Sequence[Classifier], predictions: Predictions, *, source: data.Source, split: str
) -> dict[str, Any]:
    """The assessment of predictions; `split` is empty for images of another data set."""
    own = that_knows_its_images(members).splits
    if split == "val":
        validation, why = None, VALIDATION_ITSELF
    elif "val" in own:
        validation, why = averaged([member.on(own["val"], name="val") for member in members]), ""
    else:
        validation, why = None, NO_VALIDATION if own else NO_DATA
    return assess(
        predictions,
        validation=validation,
        class_names=source.class_names,
        class_groups=source.class_groups,
        why_no_validation=why,
    )


def _detection(
    members: Sequence[Classifier], predictions: Predictions, *, against: Predictions, split: str
) -> dict[str, Any]:
    """How other images are told from the own; distances of features are those to training images.

    As of `_assessment`, `split` is empty for images of another data set.
    """
    own = members[0].splits
    if len(members) > 1:
        reference, why = None, NO_COMMON_EMBEDDINGS
    elif split == "train":
        reference, why = None, REFERENCE_ITSELF
    elif "train" in own:
        reference, why = members[0].on(own["train"], name="train"), ""
    else:
        reference, why = None, NO_DATA
    return detect(predictions, against=against, reference=reference, why_no_reference=why)


def _name(question: Question, split: str) -> str:
    """What a file is called that holds the answer: another for each question.

    Where a name cannot say all, as characters other than letters and digits are one hyphen, or it is too long, it ends
    with eight digits of a checksum.

    Example:
        >>> _name(Question(members=["runs/a", "b"]), "test"), _name(Question(members=["a", "b"]), "test")
        ('assessment_test_with_runs-a_b-ef6bf0ae', 'assessment_test_with_a_b')
    """
    parts = ["assessment", split]
    if question.on:
        parts += ["on", _named(question.on.data)]
    if question.against:
        parts += ["against", _named(question.against.data)]
    if question.members:
        parts += ["with", *question.members]
    name = "_".join(re.sub(r"[^\w.+]+", "-", part).strip("-") for part in parts)
    if len(name.encode()) <= LONGEST_NAME and all(re.fullmatch(r"[^\W_]+", part) for part in parts):
        return name
    start = name.encode()[: LONGEST_NAME - 9].decode(errors="ignore")
    return f"{start}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:8]}"


LONGEST_NAME = 200  # bytes; file systems take 255, and a partial file's name is longer


def _write(results: Mapping[str, dict[str, Any]], path: str) -> None:
    if is_saved_model(path):
        logging.info("%s: a SavedModel, in whose folder nothing is written", path)
        return
    for name, result in results.items():
        write_assessment(pathlib.Path(path) / f"{name}.json", result)
