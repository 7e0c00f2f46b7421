"""One training step of every method against its loss in numpy: value and gradient, on one replica, on two, under XLA.

The gradient of the numpy loss is taken by central differences in float64, so nothing of it is shared with the methods.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.distiller import SelfDistiller
from cskd_tf.methods import (
    CSKD,
    DDGSD,
    TFKD,
    AdaCos,
    Distillation,
    LabelSmoothing,
    MaxEntropy,
    VirtualSoftmax,
)
from cskd_tf.optimizers import SGD

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
        if teacher:
            target, factor = forward(TEACHER, batch["image"])[1], 25.0
        else:
            target, factor = (np.log(virtual) if form == "paper" else virtual), 1.0
        divergence = kl(target, logits, 5) * (factor * 50 / CLASSES if form == "public" else 1)
        return 0.6 * ce(logits, targets) + 0.4 * divergence

    return loss


def smoothed(targets, epsilon=0.2):
    return (1 - epsilon) * targets + epsilon / CLASSES


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
    "Distillation": (lambda: [Distillation(teacher=make_teacher(), alpha=0.7, temperature=4)], distillation_loss),
    "KD + CS-KD": (
        lambda: [Distillation(teacher=make_teacher(), alpha=0.7, temperature=4), CSKD(temperature=3, weight=2)],
        both_loss,
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


@pytest.fixture
def batch():
    generator = np.random.default_rng(3)
    views = ("image", "partner", "second_view", "clean")
    return {view: generator.normal(size=(IMAGES, 2, 2, 1)).astype("float32") for view in views}


LABELS = np.array([0, 0, 1, 1, 3, 3, 2])


def step_inputs(case, batch):
    """In pairs, six images of a replica each; else all seven."""
    count = 6 if case == "CSKD in the batch" else IMAGES
    return {view: images[:count] for view, images in batch.items()}, LABELS[:count]


def numpy_gradient(loss, weights, batch, labels):
    weights = [weight.astype("float64") for weight in weights]
    batch = {view: images.astype("float64") for view, images in batch.items()}
    targets = np.eye(CLASSES)[labels]

    def total():
        return loss(weights, start, batch, targets, labels).mean()

    start = [weight.copy() for weight in weights]
    value, gradients = total(), []
    for weight in weights:
        gradient = np.zeros_like(weight)
        for place in np.ndindex(weight.shape):
            kept = weight[place]
            sides = []
            for step in (1e-5, -1e-5):
                weight[place] = kept + step
                sides.append(total())
            weight[place] = kept
            gradient[place] = (sides[0] - sides[1]) / 2e-5
        gradients.append(gradient)
    return value, gradients


def make_model(case):
    keras.utils.set_random_seed(1)
    model = SelfDistiller(make_network(), CASES[case][0](), num_examples=IMAGES)
    model.compile(SGD(1.0, momentum=0.0, weight_decay=0.0))
    return model


def check(case, model, logs, before, batch, labels):
    value, gradients = numpy_gradient(CASES[case][1], before, batch, labels)
    assert float(np.ravel(logs["loss"])[0]) == pytest.approx(value, abs=1e-5)
    for old, new, gradient in zip(before, model.network.get_weights(), gradients, strict=True):
        np.testing.assert_allclose(old - new, gradient, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_a_step_follows_the_gradient_of_the_loss_in_numpy(case, batch):
    batch, labels = step_inputs(case, batch)
    model = make_model(case)
    before = model.network.get_weights()
    logs = model.fit(tf.data.Dataset.from_tensors((batch, labels)), verbose=0).history
    check(case, model, logs, before, batch, labels)


@pytest.mark.parametrize("case", CASES)
def test_two_replicas_of_uneven_parts_take_the_same_step(case, batch, two_replicas):
    batch, labels = step_inputs(case, batch)
    if case == "CSKD in the batch":  # a pair stays on one replica
        batch, labels = {view: images[:4] for view, images in batch.items()}, labels[:4]
    with two_replicas.scope():
        model = make_model(case)
        model.optimizer.build(model.trainable_variables)
    before = model.network.get_weights()
    data = two_replicas.experimental_distribute_dataset(tf.data.Dataset.from_tensors((batch, labels)))

    @tf.function
    def step(parts):
        two_replicas.run(model.train_step, args=(parts,))

    for parts in data:
        step(parts)
    logs = {"loss": model._trackers["loss"].result()}
    check(case, model, logs, before, batch, labels)


@pytest.mark.parametrize("case", CASES)
def test_a_step_compiles_with_static_shapes(case, batch):
    batch, labels = step_inputs(case, batch)
    model = make_model(case)
    model.optimizer.build(model.trainable_variables)
    before = model.network.get_weights()
    step = tf.function(model.train_step, jit_compile=True)
    logs = step((tf.nest.map_structure(tf.constant, batch), tf.constant(labels)))
    check(case, model, logs, before, batch, labels)
