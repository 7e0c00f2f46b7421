"""A trained network that others learn from: read, checked, run, and never changed."""

import pathlib

import keras
import tensorflow as tf

from cskd_tf.workdir import CLASSIFIER


class Teacher:
    """Runs a trained classifier. It is no Keras object, so nothing tracks, trains or saves the network inside.

    Args:
        source: a Keras model from images to logits, its `.keras` file, or a workdir that holds one.

    Raises:
        ValueError: a source that cannot be read.
    """

    def __init__(self, source: keras.Model | str | pathlib.Path):
        self._source = source
        self.network = source if isinstance(source, keras.Model) else _load(pathlib.Path(source))

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Logits `[B, C]` at inference, without gradient."""
        return tf.stop_gradient(self.network(images, training=False))

    def name(self) -> str:
        """The file or workdir, as a method's config holds it; ValueError for a teacher that was given as an object."""
        if isinstance(self._source, keras.Model):
            raise ValueError(
                "Expected a teacher that is named by its file or workdir, because a model that learns from it saves "
                f"only the name; classifier() saves what inference needs. Received: the model {self._source.name!r}"
            )
        return str(self._source)

    def check(self, student: keras.Model) -> None:
        """Raises ValueError unless teacher and student take the same images and tell the same number of classes."""
        if shared := {id(each) for each in self.network.variables} & {id(each) for each in student.variables}:
            raise ValueError(f"Expected a teacher apart from the student. Received: {len(shared)} variables of both")
        for what, one, two in (
            ("images", self.network.input_shape, student.input_shape),
            ("logits", self.network.output_shape, student.output_shape),
        ):
            fits = len(one) == len(two) and all(
                None in (left, right) or left == right for left, right in zip(one, two, strict=True)
            )
            if not fits:
                raise ValueError(
                    f"Expected a teacher of the student's {what}, {two[1:]}. Received: a teacher of {one[1:]}"
                )


def _load(path: pathlib.Path) -> keras.Model:
    file = path / CLASSIFIER if path.is_dir() else path
    if not file.is_file() or file.suffix != ".keras":
        raise ValueError(
            f"Expected a teacher: a .keras file, or the workdir of a finished run with {CLASSIFIER}. Received: {path}"
        )
    try:
        return keras.models.load_model(file, compile=False)
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise ValueError(f"Expected a teacher that Keras can load. Received: {file} ({error})") from error
