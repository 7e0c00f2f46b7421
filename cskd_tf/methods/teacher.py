"""A trained network that others learn from: read, checked, run, and never changed."""

import os
import pathlib

import keras
import tensorflow as tf

from cskd_tf.errors import UserError
from cskd_tf.networks.features import Parts
from cskd_tf.networks.logits import check_logits
from cskd_tf.networks.weights import load_keras_file


class Teacher:
    """Runs a trained classifier. It is no Keras object, so nothing tracks, trains or saves the network inside.

    Args:
        source: a Keras model from images to logits, or its `.keras` file, such as a run's `classifier.keras`.

    Raises:
        UserError: a source that cannot be read.
    """

    def __init__(self, source: keras.Model | str | pathlib.Path):
        if not isinstance(source, (keras.Model, str, os.PathLike)):
            raise UserError(f"Expected a teacher: a Keras model or its .keras file. Received: {source!r}")
        self._source = source
        self.network = source if isinstance(source, keras.Model) else _load(pathlib.Path(source))

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Logits `[B, C]` at inference, without gradient."""
        return tf.stop_gradient(self.network(images, training=False))

    def name(self) -> str:
        """The file, as a method's config holds it; UserError for a teacher that was given as an object."""
        if isinstance(self._source, keras.Model):
            raise UserError(
                "Expected a teacher that is named by its .keras file, because a model that learns from it saves "
                f"only the name; classifier() saves what inference needs. Received: the model {self._source.name!r}"
            )
        return str(self._source)

    def check(self, student: keras.Model, *, parts: Parts) -> None:
        """Raises UserError unless teacher and student are two networks from the same images to as many logits.

        `parts` are the student's, as of `Method.attach`.
        """
        shared = set(map(id, self.network.variables)) & set(map(id, student.variables))
        if shared:
            raise UserError(f"Expected a teacher apart from the student. Received: {len(shared)} variables of both")
        if getattr(self.network, "multi_label", False):
            raise UserError("Expected a teacher of one class of each image. Received: a teacher with multi_label=True")
        images, classes = tuple(parts.image.shape), parts.logits.shape[-1]
        own_images = getattr(self.network, "input_shape", None)  # a subclassed network has none
        if own_images is not None and (
            len(own_images) != len(images)
            or any(None not in sizes and len(set(sizes)) > 1 for sizes in zip(own_images[1:], images[1:], strict=True))
        ):
            raise UserError(
                f"Expected a teacher of the student's images, {images[1:]}. Received: a teacher of {own_images[1:]}"
            )
        try:
            taught = check_logits(self.network, input_shape=images)
        except ValueError as error:
            raise UserError(
                f"Expected a teacher that makes logits of the student's images, {images[1:]}. Received: {error}"
            ) from error
        if taught != classes:
            raise UserError(f"Expected a teacher of the student's {classes} classes. Received: {taught} classes")


def _load(file: pathlib.Path) -> keras.Model:
    if not file.is_file() or file.suffix != ".keras":
        raise UserError(f"Expected a teacher: a .keras file, such as a run's classifier.keras. Received: {file}")
    return load_keras_file(file, what="a teacher")
