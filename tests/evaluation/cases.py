"""Logits and labels as networks return them, and as they seldom do."""

import numpy as np

from tests.helpers import softmax


def probabilities_of(*confidences, classes=2):
    """Rows whose largest probability, of class 0, is the confidence; the others share the rest."""
    rest = (1 - np.array(confidences)[:, None]) / (classes - 1)
    return np.concatenate([np.array(confidences)[:, None], np.repeat(rest, classes - 1, axis=1)], axis=1)


def _random(images=300, classes=6, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, images)
    return 2 * np.eye(classes)[labels] + 1.5 * generator.normal(size=(images, classes)), labels


def _cases():
    logits, labels = _random()
    yield "random", logits, labels
    yield "tied", np.round(logits), labels
    yield "equal", np.zeros((12, 3)), np.arange(12) % 3
    yield "certain", 2000.0 * np.eye(4)[labels[:50] % 4], labels[:50] % 3
    yield "half", logits.astype(np.float16), labels
    yield "one class", logits[:, :1], np.zeros(len(labels), int)
    yield "one label", logits, np.full(len(labels), 2)
    yield "one image", logits[:1], labels[:1]
    yield "all right", 4 * np.eye(6)[labels] + 0.1 * logits, labels
    yield "all wrong", 4 * np.eye(6)[(labels + 1) % 6] + 0.1 * logits, labels


CASES = [(name, np.asarray(logits), labels) for name, logits, labels in _cases()]
NAMES = [name for name, _, _ in CASES]
ORDINARY = _random(images=500, classes=4, seed=1)


def _given():
    """Probabilities that no softmax of finite logits gives: on edges of eighths and between them, 0 and 1."""
    labels = np.array([0, 1, 0, 0, 1, 0, 0])
    yield "bin edges", probabilities_of(*np.array([8, 10, 11, 12, 13, 14, 15]) / 16, classes=3), labels
    yield "0 and 1", np.array([[1.0, 0, 0], [0, 1, 0], [1, 0, 0], [0.5, 0.5, 0]]), np.array([0, 0, 0, 1])


PROBABILITIES = {name: (softmax(logits.astype(float)), labels) for name, logits, labels in CASES}
PROBABILITIES |= {name: (probabilities, labels) for name, probabilities, labels in _given()}


def tie_means(keys, values):
    """Of each image the mean value of all that have its key: what it counts in a random order of ties."""
    return np.array([values[keys == key].mean() for key in keys], float)


def _scores():
    generator = np.random.default_rng(0)
    own, others = generator.normal(1, 1, 200), generator.normal(0, 1, 300)
    yield "random", own, others
    yield "tied", np.round(own), np.round(others)
    yield "half", own.astype(np.float16), others.astype(np.float16)
    yield "equal", np.zeros(20), np.zeros(30)
    yield "apart", own + 100, others
    yield "reversed", others - 100, own
    yield "one each", own[:1], others[:1]
    yield "at 0 and 1", np.ones(20), np.zeros(30)
    yield "both at 0 and 1", np.repeat([1.0, 0.0], [18, 2]), np.repeat([1.0, 0.0], [5, 25])


SCORES = {name: (own, others) for name, own, others in _scores()}  # of images of the network's kind, and of others
