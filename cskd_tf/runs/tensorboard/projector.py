"""TensorBoard's projector: embeddings of images in two or three dimensions, with the images and their classes."""

import math
import pathlib
from collections.abc import Sequence

import numpy as np
import PIL.Image
from tensorboard.plugins import projector

from cskd_tf.evaluation.figures.style import readable
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.evaluation.scores import softmax
from cskd_tf.files import remove_leftovers, written_whole

SMALLEST = 32  # pixels of an image's side in the sprite: smaller ones would be drawn blurred
TENSORS, METADATA, SPRITE = "embeddings.tsv", "metadata.tsv", "sprite.png"


def write_projector(
    folder: pathlib.Path,
    predictions: Predictions,
    *,
    indices: np.ndarray,
    images: np.ndarray,
    class_names: Sequence[str],
    name: str,
) -> None:
    """Writes what the projector shows of some images, in a folder that exists; without embeddings nothing.

    Args:
        folder: of a run that TensorBoard knows.
        predictions: of a split, with embeddings.
        indices: int `[n]`, which of its images are shown.
        images: uint8 `[n, S, S, C]`, small.
        class_names: of all classes.
        name: what the projector calls these embeddings.
    """
    if predictions.given_embeddings is None:
        return
    remove_leftovers(folder)  # of a process that was killed here
    embeddings = predictions.given_embeddings[indices].astype(np.float64)
    with written_whole(folder / TENSORS) as partial:
        np.savetxt(partial, embeddings, fmt="%.6g", delimiter="\t")
    with written_whole(folder / METADATA) as partial:
        partial.write_text(_metadata(predictions, indices, class_names))
    scale = -(-SMALLEST // images.shape[1])
    larger = images.repeat(scale, axis=1).repeat(scale, axis=2)
    with written_whole(folder / SPRITE) as partial:
        PIL.Image.fromarray(sprite(larger)).save(partial)
    config = projector.ProjectorConfig()
    shown = config.embeddings.add(tensor_name=name, tensor_path=TENSORS, metadata_path=METADATA)
    shown.tensor_shape.extend(embeddings.shape)
    shown.sprite.image_path = SPRITE
    shown.sprite.single_image_dim.extend([larger.shape[2], larger.shape[1]])
    projector.visualize_embeddings(str(folder), config)


def sprite(images: np.ndarray) -> np.ndarray:
    """Images in rows, as many in each as there are rows at most; what is left over is black.

    Example:
        >>> sprite(np.arange(1, 4, dtype=np.uint8).reshape(3, 1, 1, 1))[..., 0]
        array([[1, 2],
               [3, 0]], dtype=uint8)

    Args:
        images: uint8 `[n, S, S, C]`, C 1 or 3.

    Returns:
        uint8 `[R * S, K * S, 3]`, K the root of n, rounded up.
    """
    count, side = len(images), images.shape[1]
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    filled = np.zeros([rows * columns, side, side, 3], np.uint8)
    filled[:count] = images
    return filled.reshape(rows, columns, side, side, 3).swapaxes(1, 2).reshape(rows * side, columns * side, 3)


def _metadata(predictions: Predictions, indices: np.ndarray, class_names: Sequence[str]) -> str:
    """A line for each image: its class, the predicted one, and how sure the network is of it."""
    probabilities = softmax(predictions.logits[indices].astype(np.float64))
    names = [readable(name).replace("\n", " ") for name in class_names]
    lines = ["class\tpredicted\tconfidence"]
    for label, row in zip(predictions.labels[indices], probabilities, strict=True):
        best = row.argmax()
        lines.append(f"{names[label]}\t{names[best]}\t{row[best]:.4f}")
    return "\n".join(lines) + "\n"
