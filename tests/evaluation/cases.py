"""Logits and labels as networks return them, and as they seldom do."""

import numpy as np


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
