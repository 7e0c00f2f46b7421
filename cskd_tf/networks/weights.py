"""Weights to begin with, from a file: those of the same network, whatever classes it was trained on."""

import pathlib
import zipfile
from collections.abc import Sequence

import h5py
import keras
import numpy as np
from absl import logging

from cskd_tf.errors import UserError
from cskd_tf.networks.features import NetworkOutputs, shape_of_images

RANDOM = "random"
CLASSIFIER = "classifier.keras"  # in a run's folder


def find_file(weights: str) -> pathlib.Path:
    """The file that `weights` names, itself or by the folder of a run.

    Raises:
        UserError: there is none, or one of another kind.
    """
    path = pathlib.Path(weights)
    file = path / CLASSIFIER if path.is_dir() else path
    if not file.is_file() or file.suffix not in (".keras", ".h5"):
        raise UserError(
            "Expected network.weights as a .keras or .h5 file, the folder of a finished run, or random. "
            f"Received: network.weights={weights!r}{'' if path.exists() else ', which is not there'}"
        )
    return file


def load_keras_file(file: pathlib.Path, *, what: str) -> keras.Model:
    """The model in a `.keras` file; what is code in it is not executed.

    Args:
        file: of Keras' form.
        what: that is expected, for the error.

    Raises:
        UserError: Keras cannot load it.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            # Keras seeks in it, after which Python 3.13 does not look at its checksum.
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"Bad CRC-32 for file {damaged!r}")
        return keras.models.load_model(file, compile=False, safe_mode=True)
    except Exception as error:  # whatever Keras' parsers raise for a file that is not one of theirs
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:500]
        raise UserError(f"Expected {what} that Keras can load. Received: {file} ({why})") from error


def load_into(network: keras.Model, weights: str, *, embedding_layer: str | None = None) -> None:
    """Gives a network all the weights of a file but those of its classifier, which stay as they are.

    The network in a `.keras` file may have other classes. A `.h5` file, as of `Model.save_weights`, has the weights of
    the same network, or of what is in front of its classifier, such as those of Keras' applications whose names end in
    `notop`. Weights are taken in their order, and have to have the same names and shapes.

    Example:
        >>> def build(classes):
        ...     return cskd_tf.networks.build("preact_resnet10", num_classes=classes, input_shape=(8, 8, 3), width=4)
        >>> trained, network = build(7), build(2)
        >>> trained.save("trained.keras")
        >>> load_into(network, "trained.keras")
        >>> [bool((one.numpy() == two.numpy()).all()) for one, two in zip(trained.weights[:3], network.weights[:3])]
        [True, True, True]

    Args:
        network: built.
        weights: a file, or the folder of a finished run.
        embedding_layer: of the network, as for `NetworkOutputs`.

    Raises:
        UserError: no such file, a subclassed network, or weights of another one: the first that is missing or has
            another shape.
    """
    file = find_file(weights)
    kept = _classifier_weights(network, embedding_layer=embedding_layer)
    values = [variable.numpy() for variable in kept]
    if file.suffix == ".keras":
        source = load_keras_file(file, what="network.weights")
        source = getattr(source, "network", source)  # of a SelfDistiller
        _copy(source, network, file=file, embedding_layer=embedding_layer)
    else:
        _load_h5(network, file, embedding_layer=embedding_layer)
    for variable, value in zip(kept, values, strict=True):
        variable.assign(value)
    total = len(network.weights)
    logging.info("%s: %d of %d weights, all but the classifier's %d", file, total - len(kept), total, len(kept))


def _classifier_weights(network: keras.Model, *, embedding_layer: str | None = None) -> list[keras.Variable]:
    outputs = NetworkOutputs(network, embedding_layer=embedding_layer)
    classifier = outputs.parts(shape_of_images(network)).classifier
    return [] if classifier is None else list(classifier.weights)


def _copy(source: keras.Model, network: keras.Model, *, file: pathlib.Path, embedding_layer: str | None) -> None:
    names = [layer.name for layer in source.layers]
    left_out = _classifier_weights(source, embedding_layer=embedding_layer if embedding_layer in names else None)
    own = _without(network.weights, _classifier_weights(network, embedding_layer=embedding_layer))
    others = _without(source.weights, left_out)
    for one, other in zip(own, others, strict=False):
        if (one.name, tuple(one.shape)) != (other.name, tuple(other.shape)):
            raise UserError(
                f"Expected weights of the same network, {one.path} of shape {tuple(one.shape)}. "
                f"Received: {file} with {other.path} of shape {tuple(other.shape)}"
            )
    if len(own) != len(others):
        raise UserError(
            f"Expected weights of the same network, {len(own)} without the classifier's. "
            f"Received: {file} with {len(others)}"
        )
    for one, other in zip(own, others, strict=True):
        one.assign(other.value)


def _without(variables: Sequence[keras.Variable], others: Sequence[keras.Variable]) -> list[keras.Variable]:
    left_out = {id(variable) for variable in others}
    return [variable for variable in variables if id(variable) not in left_out]


def _load_h5(network: keras.Model, file: pathlib.Path, *, embedding_layer: str | None) -> None:
    """By Keras, into the network or what is in front of its classifier, whichever has as many weights as the file."""
    parts = NetworkOutputs(network, embedding_layer=embedding_layer).parts(shape_of_images(network))
    models = [network]
    if isinstance(parts.embedding, keras.KerasTensor):
        models.append(keras.Model(parts.image, parts.embedding))
    elif parts.classifier is not None and network.inputs:  # whose layers lie within others, as ConvNeXt's
        models.append(keras.Model(network.inputs, parts.classifier.input))
    counts = [sum(keras.backend.is_float_dtype(variable.dtype) for variable in model.weights) for model in models]
    there = _count(file)
    if there not in counts:
        raise UserError(
            f"Expected weights of the same network, {' or '.join(map(str, counts))} with or without the classifier's. "
            f"Received: {file} with {there}"
        )
    try:
        models[counts.index(there)].load_weights(file)
    except Exception as error:  # of several kinds, for other shapes or layers
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:500]
        raise UserError(f"Expected weights of the same network. Received: {file} ({why})") from error


def _count(file: pathlib.Path) -> int:
    """How many arrays of floating point a file has, but for an optimizer's; UserError where one lies elsewhere."""
    found, elsewhere = [], []

    def visit(name: str, item) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        if item.external or item.is_virtual:
            elsewhere.append(name)
        if not name.startswith("optimizer") and np.issubdtype(item.dtype, np.floating):
            found.append(name)

    def visit_link(name: str, link) -> None:
        if isinstance(link, (h5py.ExternalLink, h5py.SoftLink)):
            elsewhere.append(name)

    try:
        with h5py.File(file, "r") as opened:
            opened.visititems(visit)
            opened.visititems_links(visit_link)  # which `visititems` passes over
    except OSError as error:
        raise UserError(f"Expected network.weights as an HDF5 file. Received: {file} ({error})") from error
    if elsewhere:  # where any file that can be read here might be
        raise UserError(
            f"Expected weights that lie in the file itself. Received: {file}, where {elsewhere[0]} leads elsewhere"
        )
    return len(found)
