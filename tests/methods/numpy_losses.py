"""The methods' losses in numpy, which method_cases.py sets beside the methods.

A loss takes the weights, those at the start of the epoch, the batch, its targets and its labels, and returns one value
per example. Nothing of it is shared with the methods.
"""

import keras
import numpy as np

from tests.helpers import softmax, staged_network

CLASSES, FEATURES, IMAGES = 4, 5, 7  # seven images leave two replicas four and three
TABLE = np.random.default_rng(8).dirichlet(np.ones(CLASSES), IMAGES).astype("float16").astype("float64")
TABLE /= TABLE.sum(axis=1, keepdims=True)
# What DLB has kept of the places 0 to 15, of which the last step had those from 1 on, and nothing of place 6.
LAST_STEP = {
    "last_logits": np.random.default_rng(6).normal(size=(16, CLASSES)),
    "last_targets": np.random.default_rng(7).dirichlet(np.ones(CLASSES), 16),
    "last_position": np.where(np.arange(16) == 6, 22, np.arange(16)),
}


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def ce(logits, targets):
    return -(targets * log_softmax(logits)).sum(axis=-1)


def kl(target_logits, logits, temperature=1.0):
    p, q = log_softmax(target_logits / temperature), log_softmax(logits / temperature)
    return (np.exp(p) * (p - q)).sum(axis=-1)


def forward(weights, images):
    """Embedding and logits of the network that `make_network` builds."""
    first, shift, second, bias = weights
    embedding = np.tanh(images.reshape(len(images), -1) @ first + shift)
    return embedding, embedding @ second + bias


def make_network():
    inputs = keras.Input((2, 2, 1))
    hidden = keras.layers.Dense(FEATURES, activation="tanh")(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, keras.layers.Dense(CLASSES)(hidden))


TEACHER = [
    np.random.default_rng(9).normal(size=shape)
    for shape in ((4, FEATURES), (FEATURES,), (FEATURES, CLASSES), (CLASSES,))
]


def make_teacher():
    teacher = make_network()
    teacher.set_weights(TEACHER)
    return teacher


def adacos_loss(weights, start, batch, targets, labels):
    def cosines(values):
        embedding, _ = forward(values, batch["image"])
        vectors = values[2]
        return (embedding / np.linalg.norm(embedding, axis=1, keepdims=True)) @ (
            vectors / np.linalg.norm(vectors, axis=0)
        )

    before = cosines(start)
    scale = np.sqrt(2) * np.log(CLASSES - 1)
    average = np.where(targets == 1, 0, np.exp(scale * before)).sum(axis=1).mean()
    angle = np.sort(np.arccos(before[targets == 1]))[(IMAGES - 1) // 2]
    return ce(np.log(average) / np.cos(min(np.pi / 4, angle)) * cosines(weights), targets)


def virtual_loss(weights, start, batch, targets, labels):
    embedding, _ = forward(weights, batch["image"])
    own = np.linalg.norm(weights[2], axis=0)[labels] * np.linalg.norm(embedding, axis=1)
    logits = np.concatenate([embedding @ weights[2], own[:, None]], axis=1)
    return ce(logits, np.pad(targets, [(0, 0), (0, 1)]))


def ddgsd_loss(weights, start, batch, targets, labels):
    (one, a), (two, b) = (forward(weights, batch[view]) for view in ("image", "second_view"))
    distance = ((one.mean(axis=0) - two.mean(axis=0)) ** 2).sum()
    return ce(a, targets) + ce(b, targets) + 2 * (kl(a, b, 3) + kl(b, a, 3)) + 0.5 * distance


def logits_loss(function):
    """A loss of the image's logits alone: `function(logits, targets, labels)`."""
    return lambda weights, start, batch, targets, labels: function(forward(weights, batch["image"])[1], targets, labels)


def class_wise_loss(weights, start, batch, targets, labels, *, clean=0.0, iclr=False):
    logits = forward(weights, batch["image"])[1]
    factor = 1 if iclr else 9
    loss = ce(logits, targets) + 2 * factor * kl(forward(start, batch["partner"])[1], logits, 3)
    if clean:
        loss += clean * factor * kl(forward(weights if iclr else start, batch["clean"])[1], logits, 3)
    return loss


def in_batch_loss(weights, start, batch, targets, labels):
    partners = [1, 0, 3, 2, 5, 4][: len(labels)]
    logits, fixed = forward(weights, batch["image"])[1], forward(start, batch["image"])[1]
    return ce(logits, targets) + 2 * 9 * kl(fixed[partners], logits, 3)


def distillation_loss(weights, start, batch, targets, labels):
    logits, teacher = forward(weights, batch["image"])[1], forward(TEACHER, batch["image"])[1]
    return 0.3 * ce(logits, targets) + 0.7 * 16 * kl(teacher, logits, 4)


def both_loss(weights, start, batch, targets, labels):
    logits = forward(weights, batch["image"])[1]
    pull = 2 * 9 * kl(forward(start, batch["partner"])[1], logits, 3)
    return distillation_loss(weights, start, batch, targets, labels) + pull


def tfkd_loss(divergence):
    """`divergence(logits, batch, targets)` is what `alpha` weighs."""

    def loss(weights, start, batch, targets, labels):
        logits = forward(weights, batch["image"])[1]
        return 0.6 * ce(logits, targets) + 0.4 * divergence(logits, batch, targets)

    return loss


def virtual_teacher(targets):
    return np.where(targets == 1, 0.9, 0.1 / (CLASSES - 1))


def tfkd_reg_of_the_paper(logits, batch, targets):
    return kl(np.log(virtual_teacher(targets)), logits, 5)


def tfkd_self_of_the_paper(logits, batch, targets):
    return kl(forward(TEACHER, batch["image"])[1], logits, 5)


def tfkd_reg_of_the_public_code(logits, batch, targets):
    return 50 / CLASSES * kl(virtual_teacher(targets) / 5, logits)  # the student is not softened


def tfkd_self_of_the_public_code(logits, batch, targets):
    return 25 * 50 / CLASSES * kl(forward(TEACHER, batch["image"])[1], logits, 5)


def pskd_loss(previous):
    """`previous(start, batch)` is what the network predicted before."""

    def loss(weights, start, batch, targets, labels):
        return ce(forward(weights, batch["image"])[1], 0.6 * targets + 0.4 * previous(start, batch))

    return loss


def stored(start, batch):
    return TABLE[batch["index"].astype(int)]


def at_the_start(start, batch):
    return softmax(forward(start, batch["image"])[1])


def staged_forward(weights, images):
    """The stages and the logits of `staged_network`."""
    first = np.tanh(images @ weights[0] + weights[1])
    second = np.tanh(first.reshape(len(first), -1) @ weights[2] + weights[3])
    deep = np.tanh(second @ weights[4] + weights[5])
    return first, second, deep, deep @ weights[6] + weights[7]


STAGED_TEACHER = [
    np.random.default_rng(7).normal(size=shape)
    for shape in ((1, 3), (3,), (12, 4), (4,), (4, FEATURES), (FEATURES,), (FEATURES, CLASSES), (CLASSES,))
]


def make_staged_network():
    return staged_network((2, 2, 1), classes=CLASSES)


def make_staged_teacher():
    teacher = make_staged_network()
    teacher.set_weights(STAGED_TEACHER)
    return teacher


def strided(values, kernel):
    """A 3 x 3 convolution at stride 2 of 1 x 1 or 2 x 2 pixels, padded by one: a single pixel is left."""
    size = values.shape[1]
    return np.einsum("nhwc,hwcd->nd", values, kernel[1 : 1 + size, 1 : 1 + size])[:, None, None]


def normalised(values, scale, shift, parts):
    """Batch norm in training and ReLU, each part of the batch by itself; all but the first begin at `parts`."""
    made = [(part - part.mean(axis=0)) / np.sqrt(part.var(axis=0) + 1e-5) for part in np.split(values, parts)]
    return np.maximum(np.concatenate(made) * scale + shift, 0)


def byot_loss(*, squared=True, public=False):
    def run(weights, batch):
        parts = batch.get("parts", np.array([])).astype(int)
        first, second, deep, deep_logits = staged_forward(weights, batch["image"])
        exits = iter(weights[8:])
        features = []
        for values, depth in ((first, 2), (second[:, None, None], 1)):
            for _ in range(depth):
                values = normalised(strided(values, next(exits)), next(exits), next(exits), parts)
            features.append(values[:, 0, 0])
        logits = [values @ next(exits) + next(exits) for values in features]
        if public:  # a linear adapter on the first exit, and no distance of the last
            features = [features[0] @ next(exits) + next(exits)]
        return deep, deep_logits, features, logits

    def loss(weights, start, batch, targets, labels):
        _, own, features, logits = run(weights, batch)
        deep, deep_logits, _, _ = run(start, batch)
        total = ce(own, targets)
        for each in logits:
            total += 0.7 * ce(each, targets) + 0.3 * ce(each / 3, softmax(deep_logits / 3))
        for each in features:
            squares = ((each - deep) ** 2).sum(axis=1)
            if public:  # one norm of the batch
                squares = np.full(len(each), squares.sum())
            total += 0.5 * (squares if squared else np.sqrt(squares))
        return total

    return loss


def byot_beside_distillation_loss(weights, start, batch, targets, labels):
    """BYOT's, but for the network's own cross-entropy, of which 0.3 are left, and the teacher's part."""
    logits, teacher = (staged_forward(values, batch["image"])[-1] for values in (weights, STAGED_TEACHER))
    own = 0.7 * 16 * kl(teacher, logits, 4) - 0.7 * ce(logits, targets)
    return byot_loss()(weights, start, batch, targets, labels) + own


def smoothed(targets, epsilon=0.2):
    return (1 - epsilon) * targets + epsilon / CLASSES


def zipf(scores, labels):
    """Zipf's law over the classes other than the label, in the order of the scores; equal ones share the best place."""
    places = 1 + (scores[:, :, None] < scores[:, None, :]).sum(axis=2)
    shares = np.where(np.eye(CLASSES)[labels] == 1, 0, 1 / places)
    return shares / shares.sum(axis=1, keepdims=True)


def of_others(logits, labels):
    """Log-probabilities among the classes other than the label; 0 for the label."""
    other = np.eye(CLASSES)[labels] == 0
    return np.where(other, logits - np.log((other * np.exp(logits)).sum(axis=1, keepdims=True)), 0)


def zipf_divergence(q, logits, labels):
    return np.where(q > 0, q * (np.log(np.where(q > 0, q, 1)) - of_others(logits, labels)), 0).sum(axis=1)


def zipf_loss(weights, start, batch, targets, labels):
    """Two exits: stage 2 and stage 1, of which the first has four pixels."""

    def votes(pixels, kernel, bias):
        return np.eye(CLASSES)[(pixels @ kernel + bias).argmax(axis=-1)].reshape(len(pixels), -1, CLASSES).sum(axis=1)

    (first, second, _, logits), exits = staged_forward(weights, batch["image"]), weights[8:]
    stages = staged_forward(start, batch["image"])
    q = zipf(sum(votes(stages[n], *each) for n, each in enumerate((start[8:10], start[10:], start[6:8]))), labels)
    hard = ce(first.mean(axis=(1, 2)) @ exits[0] + exits[1], targets) + ce(second @ exits[2] + exits[3], targets)
    return ce(logits, targets) + 0.7 * zipf_divergence(q, logits, labels) + 0.2 * hard


def uskd_loss(weights, start, batch, targets, labels):
    def run(values):
        *_, second, _, logits = staged_forward(values, batch["image"])
        return logits, second @ values[8] + values[9]

    logits, weak = run(weights)
    (s, s_label), (w, w_label) = ((p, p[targets == 1][:, None]) for p in map(softmax, run(start)))
    soft_target = (s_label**2 + 1 - (s_label**2).mean())[:, 0]
    q = zipf(w / (1 - w_label) + s / (1 - s_label), labels)
    others = -(q * of_others(logits, labels)).sum(axis=1)
    hard = ce(logits, targets)
    return hard + 0.6 * soft_target * hard + 0.5 * others + 0.3 * ce(weak, smoothed(targets, 0.1))


def dlb_loss(weights, start, batch, targets, labels):
    now, again = (forward(weights, batch[view])[1] for view in ("image", "previous"))
    rows = np.arange(1, 1 + len(labels))
    distilled = 2 * 9 * kl(LAST_STEP["last_logits"][rows], again, 3)
    second = ce(again, LAST_STEP["last_targets"][rows])
    return np.where(rows == 6, ce(now, targets), (ce(now, targets) + second) / 2 + distilled)
