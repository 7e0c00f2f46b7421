"""Methods, and their losses in numpy: what test_method_steps.py compares.

A loss takes the weights, those at the start of the epoch, the batch, its targets and its labels, and returns one value
an example. Nothing of it is shared with the methods.
"""

import keras
import numpy as np

from cskd_tf.methods import (
    BYOT,
    CSKD,
    DDGSD,
    PSKD,
    TFKD,
    AdaCos,
    Distillation,
    LabelSmoothing,
    MaxEntropy,
    Mixup,
    VirtualSoftmax,
)
from tests.helpers import staged_network

CLASSES, FEATURES, IMAGES = 4, 5, 7  # seven images leave two replicas four and three


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def softmax(logits):
    return np.exp(log_softmax(logits))


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


def tfkd_loss(form, *, teacher):
    def loss(weights, start, batch, targets, labels):
        logits = forward(weights, batch["image"])[1]
        virtual = np.where(targets == 1, 0.9, 0.1 / (CLASSES - 1))
        if form == "paper":
            divergence = kl(forward(TEACHER, batch["image"])[1] if teacher else np.log(virtual), logits, 5)
        elif teacher:
            divergence = 25 * 50 / CLASSES * kl(forward(TEACHER, batch["image"])[1], logits, 5)
        else:  # the student is not softened
            divergence = 50 / CLASSES * kl(virtual / 5, logits)
        return 0.6 * ce(logits, targets) + 0.4 * divergence

    return loss


def pskd_loss(source):
    def loss(weights, start, batch, targets, labels):
        index = batch["index"].astype(int)
        previous = TABLE[index] if source == "stored" else softmax(forward(start, batch["image"])[1])
        return ce(forward(weights, batch["image"])[1], 0.6 * targets + 0.4 * previous)

    return loss


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


def make_staged_teacher():
    teacher = staged_network((2, 2, 1), classes=CLASSES)
    teacher.set_weights(STAGED_TEACHER)
    return teacher


def strided(values, kernel):
    """A 3 x 3 convolution at stride 2 of 1 x 1 or 2 x 2 pixels, padded by one: a single pixel is left."""
    size = values.shape[1]
    return np.einsum("nhwc,hwcd->nd", values, kernel[1 : 1 + size, 1 : 1 + size])[:, None, None]


def normalised(values, scale, shift, parts):
    """Batch norm in training and ReLU, each replica by its own part of the batch."""
    made = [(part - part.mean(axis=0)) / np.sqrt(part.var(axis=0) + 1e-5) for part in np.split(values, parts)]
    return np.maximum(np.concatenate(made) * scale + shift, 0)


def byot_loss(*, squared=True, public=False):
    def run(weights, batch, parts):
        first, second, deep, deep_logits = staged_forward(weights, batch["image"])
        exits = iter(weights[8:])
        features = []
        for values, depth in ((first, 2), (second[:, None, None], 1)):
            for _ in range(depth):
                values = normalised(strided(values, next(exits)), next(exits), next(exits), parts)
            features.append(values[:, 0, 0])
        logits = [values @ next(exits) + next(exits) for values in features]
        return deep, deep_logits, features, logits

    def loss(weights, start, batch, targets, labels):
        parts = batch["parts"].astype(int)
        _, own, features, logits = run(weights, batch, parts)
        deep, deep_logits, _, _ = run(start, batch, parts)
        total = ce(own, targets)
        for each in logits:
            total += 0.7 * ce(each, targets) + 0.3 * ce(each / 3, softmax(deep_logits / 3))
        for number, each in enumerate(features):
            squares = ((each - deep) ** 2).sum(axis=1)
            if public:  # one norm of the batch, and none of the last exit
                squares = np.full(len(each), squares.sum()) * (number == 0)
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


SOURCES = ("stored", "network")
TABLE = np.random.default_rng(8).dirichlet(np.ones(CLASSES), IMAGES).astype("float16").astype("float64")
TABLE /= TABLE.sum(axis=1, keepdims=True)
CASES = {
    "cross-entropy": (lambda: [], logits_loss(lambda z, t, y: ce(z, t))),
    "CSKD": (lambda: [CSKD(temperature=3, weight=2)], class_wise_loss),
    "CSKD-E": (
        lambda: [CSKD(temperature=3, weight=2, clean_weight=0.5)],
        lambda *args: class_wise_loss(*args, clean=0.5),
    ),
    "CSKD-ICLR": (
        lambda: [CSKD(temperature=3, weight=2, clean_weight=0.5, form="iclr")],
        lambda *args: class_wise_loss(*args, clean=0.5, iclr=True),
    ),
    "CSKD in the batch": (lambda: [CSKD(temperature=3, weight=2, in_batch=True)], in_batch_loss),
    "LabelSmoothing": (lambda: [LabelSmoothing(epsilon=0.2)], logits_loss(lambda z, t, y: ce(z, smoothed(t)))),
    "LabelSmoothing over others": (
        lambda: [LabelSmoothing(epsilon=0.2, over_others=True)],
        logits_loss(lambda z, t, y: ce(z, np.where(t == 1, 0.8, 0.2 / (CLASSES - 1)))),
    ),
    "MaxEntropy": (
        lambda: [MaxEntropy(weight=0.7)],
        logits_loss(lambda z, t, y: ce(z, t) + 0.7 * (softmax(z) * log_softmax(z)).sum(axis=1)),
    ),
    "AdaCos": (lambda: [AdaCos()], adacos_loss),
    "VirtualSoftmax": (lambda: [VirtualSoftmax()], virtual_loss),
    "DDGSD": (lambda: [DDGSD(temperature=3, weight=2, feature_weight=0.5)], ddgsd_loss),
    "DDGSD beside Distillation": (
        lambda: [
            DDGSD(temperature=3, weight=0, feature_weight=0),
            Distillation(teacher=make_teacher(), alpha=0.7, temperature=4),
        ],
        lambda weights, start, batch, targets, labels: (
            distillation_loss(weights, start, batch, targets, labels)
            + 0.3 * ce(forward(weights, batch["second_view"])[1], targets)
        ),
    ),
    "DDGSD beside VirtualSoftmax": (
        lambda: [VirtualSoftmax(), DDGSD(temperature=3, weight=0, feature_weight=0)],
        lambda weights, start, batch, targets, labels: (
            virtual_loss(weights, start, batch, targets, labels)
            + virtual_loss(weights, start, {"image": batch["second_view"]}, targets, labels)
        ),
    ),
    **{
        f"BYOT {form}, squared {squared}": (
            lambda form=form, squared=squared: [
                BYOT(alpha=0.3, temperature=3, feature_weight=0.5, squared=squared, form=form)
            ],
            byot_loss(squared=form == "paper" if squared is None else squared, public=form == "public"),
        )
        for form in ("paper", "public")
        for squared in (None, form != "paper")
    },
    **{
        f"PSKD {source}": (lambda source=source: [PSKD(alpha=0.4, source=source)], pskd_loss(source))
        for source in SOURCES
    },
    "Distillation": (lambda: [Distillation(teacher=make_teacher(), alpha=0.7, temperature=4)], distillation_loss),
    "KD + CS-KD": (
        lambda: [Distillation(teacher=make_teacher(), alpha=0.7, temperature=4), CSKD(temperature=3, weight=2)],
        both_loss,
    ),
    "BYOT beside Distillation": (
        lambda: [
            BYOT(alpha=0.3, temperature=3, feature_weight=0.5),
            Distillation(teacher=make_staged_teacher(), alpha=0.7, temperature=4),
        ],
        byot_beside_distillation_loss,
    ),
    "PSKD beside LabelSmoothing and TFKD reg": (
        lambda: [
            LabelSmoothing(epsilon=0.2),
            PSKD(alpha=0.4, source="network"),
            TFKD(alpha=0.4, temperature=5, correct=0.9),
        ],
        lambda weights, start, batch, targets, labels: (
            tfkd_loss("paper", teacher=False)(weights, start, batch, targets, labels)
            + 0.6
            * ce(
                forward(weights, batch["image"])[1],
                0.6 * smoothed(targets) + 0.4 * softmax(forward(start, batch["image"])[1]) - targets,
            )
        ),
    ),
    "PSKD beside DDGSD": (
        lambda: [DDGSD(temperature=3, weight=2, feature_weight=0.5), PSKD(alpha=0.4, source="network")],
        lambda weights, start, batch, targets, labels: ddgsd_loss(
            weights, start, batch, 0.6 * targets + 0.4 * softmax(forward(start, batch["image"])[1]), labels
        ),
    ),
    "CSKD beside Mixup": (  # the pipeline has mixed, so the targets come with the batch
        lambda: [CSKD(temperature=3, weight=2), Mixup()],
        lambda weights, start, batch, targets, labels: class_wise_loss(weights, start, batch, batch["targets"], labels),
    ),
    **{
        f"TFKD {'self' if teacher else 'reg'} {form}": (
            lambda form=form, teacher=teacher: [
                TFKD(
                    teacher=make_teacher() if teacher else None,
                    alpha=0.4,
                    temperature=5,
                    correct=0.9,
                    form=form,
                    multiplier=50,
                )
            ],
            tfkd_loss(form, teacher=teacher),
        )
        for form in ("paper", "public")
        for teacher in (False, True)
    },
}
