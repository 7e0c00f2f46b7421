"""Pictures of what a network says of a split: reliability, confusion, and the images that it gets most wrong."""

import numpy as np

from cskd_tf.data.sources.base import Source
from cskd_tf.data.sources.thumbnails import thumbnails
from cskd_tf.evaluation.figures.confusion import confusion_matrix
from cskd_tf.evaluation.figures.mistakes import mistakes, worst_mistakes
from cskd_tf.evaluation.figures.reliability import reliability_diagram
from cskd_tf.evaluation.figures.style import as_image
from cskd_tf.evaluation.predictions import Predictions

THUMBNAIL_SIZE = 96  # pixels of the longer side, at most


class Pictures:
    """Draws predictions for TensorBoard.

    Args:
        source: the images that the predictions are of, in their order.
        bins: confidence bins of the reliability diagram.
    """

    def __init__(self, source: Source, *, bins: int):
        self._source, self._bins = source, bins

    def __call__(self, predictions: Predictions, title: str) -> dict[str, np.ndarray]:
        """uint8 `[1, H, W, 3]` by tag; without a mistake there is no picture of the worst."""
        names = self._source.class_names
        figures = {
            "calibration/reliability": reliability_diagram(predictions, bins=self._bins, title=title),
            "quality/confusion": confusion_matrix(predictions, class_names=names, title=title),
        }
        if len(worst := worst_mistakes(predictions)):
            images = thumbnails(self._source, worst, size=THUMBNAIL_SIZE)
            figures["quality/mistakes"] = mistakes(
                predictions, indices=worst, images=images, class_names=names, title=title
            )
        return {name: as_image(figure) for name, figure in figures.items()}
