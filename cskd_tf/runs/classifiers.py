"""What can be assessed, on images of any source: a run, an imported one too, a SavedModel, or an ensemble of them."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from cskd_tf import data, networks
from cskd_tf.data.sources.reading import unreadable_named
from cskd_tf.errors import UserError
from cskd_tf.evaluation.metrics import ensemble
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.files import check_readable
from cskd_tf.runs.config import Config, DataConfig
from cskd_tf.runs.evaluate import load_run
from cskd_tf.runs.export import CLASSES
from cskd_tf.runs.workdir import CONFIG, Workdir

SAVED_MODEL = "saved_model.pb"  # as TensorFlow calls it
BATCH_SIZE = 256


@dataclasses.dataclass(frozen=True)
class Classifier:
    """Something that predicts classes of images.

    Attributes:
        name: for the user.
        class_names: C names.
        channels: of the images that it takes.
        predict: from a source to predictions; without embeddings these are `[N, 0]`.
        trained_on: where its own images are from; None where that is not known.
        splits: its own images; empty where they are not known.
    """

    name: str
    class_names: list[str]
    channels: int
    predict: Callable[[data.Source], Predictions]
    trained_on: DataConfig | None = None
    splits: dict[str, data.Source] = dataclasses.field(default_factory=dict)

    def on(self, source: data.Source, *, name: str) -> Predictions:
        """Predictions of the images of a source that is called `name`.

        Raises:
            UserError: images that cannot be decoded.
        """
        with unreadable_named({name: source}):
            return self.predict(source)


def is_saved_model(path: str) -> bool:
    """Whether a folder is that of a SavedModel, and else of a run.

    Raises:
        UserError: a folder of a SavedModel's versions, or a file for another runtime.
    """
    folder = pathlib.Path(path).absolute()
    if _holds_model(folder):
        return True
    versions = sorted(filter(_holds_model, folder.glob("*")), key=lambda each: (len(each.name), each.name))
    above = filter(_holds_model, folder.parents[:3])
    found = [f"which another runtime reads: {each} is for this one" for each in above]
    found += [f"whose newest version is {each}" for each in versions[-1:]]
    if found and not (folder / CONFIG).is_file():
        raise UserError(f"Expected the folder of a run or of a SavedModel. Received: {path}, {found[0]}")
    return False


def _holds_model(folder: pathlib.Path) -> bool:
    return (folder / SAVED_MODEL).is_file()


def check_is_there(path: str) -> None:
    """Refuses a folder that is neither a SavedModel's nor a run's, without reading images.

    Raises:
        UserError: as of `open_classifier`.
    """
    if not is_saved_model(path):
        Workdir(path).config()


def open_classifier(path: str, *, config: Config | None = None) -> Classifier:
    """The classifier of a workdir, or of the folder of a SavedModel.

    Args:
        path: of the folder.
        config: of the run, see `load_run`; of a SavedModel, which holds no data, whose images it was trained on.

    Raises:
        UserError: neither of the two, a run that has not finished, or another config than its own.
    """
    if is_saved_model(path):
        return _of_saved_model(pathlib.Path(path), config=config)
    workdir = Workdir(path)
    if config is None:
        refuse_own_network(workdir)
    else:
        workdir.check_owner(config, images_compared=True)
    experiment = load_run(workdir, config=config)
    train = experiment.splits["train"]
    return Classifier(
        name=str(workdir.path),
        class_names=train.class_names,
        channels=train.image_shape[2],
        predict=experiment.predict_images,
        trained_on=experiment.config.data,
        splits=experiment.splits,
    )


def refuse_own_network(workdir: Workdir) -> None:
    """A folder may come from anybody, and can say of code that lies in it that it makes the network."""
    if not networks.is_known(name := workdir.config().network.name):
        raise UserError(
            "Expected --config=FILE of the run as well, because its network is a function that is no part of this "
            f"package, and which a folder alone may not call. Received: network.name={name!r} in {workdir.path}"
        )


def load_saved_model(folder: pathlib.Path) -> tuple[Any, list[str]]:
    """A SavedModel as `export` writes it, and the names of its classes.

    Raises:
        UserError: any other folder.
    """
    check_readable(folder, name="SavedModel")
    try:
        names = json.loads((folder / "assets.extra" / CLASSES).read_text())
        model = tf.saved_model.load(str(folder))
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"names of classes that are none: {str(names)[:60]}")
        int(model.serve.input_signature[0].shape[-1])
    except (OSError, ValueError, AttributeError, TypeError, LookupError, tf.errors.OpError) as error:
        raise UserError(f"Expected a SavedModel as --mode=export writes it. Received: {folder} ({error})") from error
    return model, names


def _of_saved_model(folder: pathlib.Path, *, config: Config | None) -> Classifier:
    """A SavedModel as `export` writes it, or wrote it before there were embeddings in it."""
    model, names = load_saved_model(folder)
    channels = int(model.serve.input_signature[0].shape[-1])

    def predict(source: data.Source) -> Predictions:
        size = 1 if None in source.image_shape else BATCH_SIZE  # images of several sizes do not fit into one batch
        logits, labels, embeddings = [], [], []
        for images, numbers in data.evaluation_dataset(source, batch_size=size):
            features = _features(model, tf.cast(tf.round(images), tf.uint8))
            logits.append(features["logits"])
            embeddings.append(features["embedding"])
            labels.append(numbers.numpy())
        return Predictions(*(np.concatenate(parts) for parts in (logits, labels, embeddings)))

    if config and config.data.source.channels != channels:
        raise UserError(
            f"Expected data.source.channels={channels}, and as many of data.augment.mean, in the config of what "
            f"{folder} was trained on, which takes such images. Received: {config.data.source.channels}"
        )
    splits = data.load_splits(config.data.source, config.data.split) if config else {}
    return Classifier(str(folder), names, channels, predict, trained_on=config.data if config else None, splits=splits)


def _features(model: Any, images: tf.Tensor) -> dict[str, np.ndarray]:
    """Logits `[N, C]` and embeddings `[N, D]` by a SavedModel; of one without them, logarithms of its probabilities."""
    if hasattr(model, "embeddings"):
        return {name: value.numpy() for name, value in model.embeddings(images).items()}
    probabilities = model.serve(images)["probabilities"].numpy()
    logits = np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny)).astype(np.float32)
    return {"logits": logits, "embedding": np.zeros((len(logits), 0), np.float32)}


def check_together(members: Sequence[Classifier]) -> None:
    """Raises UserError for members that make no ensemble.

    Each is there once. They have the same classes and channels, and all that know their images the same ones in each
    split: else one would be tested, or fitted, on what another was trained on.
    """
    first = members[0]
    places = [pathlib.Path(member.name).resolve() for member in members]
    if twice := [member.name for number, member in enumerate(members) if places[number] in places[:number]]:
        raise UserError(f"Expected each member of an ensemble once. Received: {twice[0]} twice")
    for other in members[1:]:
        if other.class_names != first.class_names or other.channels != first.channels:
            raise UserError(
                "Expected an ensemble of the same classes and channels. "
                f"Received: {first.name} with {len(first.class_names)} classes and {first.channels} channels, "
                f"{other.name} with {len(other.class_names)} and {other.channels}"
            )
    knowing = that_knows_its_images(members)
    for other in members:
        if knowing.trained_on is None or other.trained_on is None:
            continue
        one, two = map(_images_of, (knowing.trained_on, other.trained_on))
        if differ := [f"{key}: {one[key]!r} and {two[key]!r}" for key in one if one[key] != two[key]]:
            raise UserError(
                "Expected an ensemble whose members have the same images in each split. "
                f"Received: {knowing.name} and {other.name} with {', '.join(differ)}"
            )


def that_knows_its_images(members: Sequence[Classifier]) -> Classifier:
    """The first member of an ensemble that knows where its images are from; the first of all where none does."""
    return next((member for member in members if member.trained_on), members[0])


def _images_of(config: DataConfig) -> dict[str, Any]:
    """What says which images are in which split."""
    groups = {"source": config.source.of_images(), "split": config.split}
    return {f"data.{group}.{key}": value for group, values in groups.items() for key, value in vars(values).items()}


def averaged(everything: Sequence[Predictions]) -> Predictions:
    """Predictions of an ensemble, which has no embeddings, from those of its members; of one member, its own.

    Example:
        >>> labels, nothing = np.array([0]), np.zeros((1, 2))
        >>> members = [Predictions(np.log([[p, 1 - p]]), labels, nothing) for p in (0.5, 0.7)]
        >>> np.exp(averaged(members).logits).round(6).tolist()
        [[0.6, 0.4]]
    """
    if len(everything) == 1:
        return everything[0]
    logits = ensemble([each.logits for each in everything])
    return Predictions(logits, everything[0].labels, np.zeros((len(logits), 0), np.float32))
