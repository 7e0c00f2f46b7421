"""Predictions made for the figures."""

import numpy as np

from cskd_tf.evaluation.figures.compared import Compared
from cskd_tf.evaluation.predictions import Predictions


def made(probabilities, labels, *, name="one"):
    """One of what is compared, of one seed, whose probabilities `[N, C]` are these."""
    logits = np.log(np.asarray(probabilities, float))
    return Compared(name, [Predictions(logits, np.asarray(labels), np.zeros((len(labels), 2)))])


def legend(figure):
    """What the figure's one legend says."""
    (found,) = figure.legends
    return [text.get_text() for text in found.get_texts()]
