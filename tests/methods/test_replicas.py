"""Every method trains alike on 1, 2 and 4 replicas, through `fit`, and its step is a program that a TPU takes."""

import inspect
import re
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import Distribution, paired_dataset
from cskd_tf.errors import UserError
from cskd_tf.methods import (
    DDGSD,
    DLB,
    METHODS,
    PSKD,
    USKD,
    AdaCos,
    CutMix,
    Cutout,
    LabelSmoothing,
    MaxEntropy,
    Mixup,
    VirtualSoftmax,
    ZipfLabelSmoothing,
)
from cskd_tf.methods.composition import Composition
from cskd_tf.networks.layers import BatchNormalization
from cskd_tf.training.collector import Collector
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.optimizers import SGD, LossScaleOptimizer
from tests.helpers import ROOT, check_static
from tests.methods.method_cases import CASES, FURTHER, byot, cskd, distillation, tfkd
from tests.methods.numpy_losses import CLASSES, FEATURES
from tests.selection import few, quick

# Two epochs of batches of 15, 15 and 7: on two replicas 8 + 7 and 4 + 3, on four 4 + 4 + 4 + 3 and 2 + 2 + 2 + 1.
LABELS = np.arange(37) % CLASSES
IMAGES = np.random.default_rng(4).normal(size=(37, 2, 2, 1)).astype("float32") + LABELS[:, None, None, None] / 2
STEPS = 6

# All methods, in as few runs as can have them; and whether the network has batch norm, over all replicas.
TOGETHER = {
    "Mixup, CSKD-E with two partners, softer targets": (
        lambda: [
            Mixup(),
            cskd(partners=2, clean_weight=0.5, partner_batch_norm="train_no_update"),
            LabelSmoothing(),
            MaxEntropy(),
        ],
        True,
    ),
    "Cutout, AdaCos, DDGSD, PSKD stored, DLB": (
        lambda: [
            Cutout(size=1, probability=0.5),
            AdaCos(),
            DDGSD(feature_weight=0.5),
            PSKD(top_k=2),
            DLB(largest_batch=16),
        ],
        False,
    ),
    "BYOT, Distillation, CSKD, Zipf, USKD": (
        lambda: [byot(form="public"), distillation(), cskd(), ZipfLabelSmoothing(exits=1), USKD()],
        True,
    ),
    "VirtualSoftmax, CSKD in the batch": (lambda: [VirtualSoftmax(), cskd(in_batch=True)], False),
    "CutMix, PSKD network, TFKD": (
        lambda: [CutMix(probability=0.5, coin="image"), PSKD(source="network"), tfkd(form="paper")],
        True,
    ),
}
ALONE = {name: case.methods for name, case in CASES.items() if not case.together} | FURTHER


class Trained(NamedTuple):
    """What a fit has made: the weights before and after it, with what the methods keep, and the logs."""

    before: list
    weights: list
    logs: dict


def make_network(*, batch_norm):
    """Three stages; batch norm over all replicas, or none."""
    outputs = images = keras.Input((2, 2, 1))
    for number, (filters, stride) in enumerate(((3, 1), (4, 2), (FEATURES, 1)), start=1):
        convolution = keras.layers.Conv2D(filters, 2, strides=stride, padding="same", use_bias=not batch_norm)
        outputs = convolution(outputs)
        if batch_norm:
            outputs = BatchNormalization(synchronized=True)(outputs)
        outputs = keras.layers.Identity(name=f"stage{number}")(keras.ops.tanh(outputs))
    embedding = keras.layers.GlobalAveragePooling2D()(outputs)
    return keras.Model(images, keras.layers.Dense(CLASSES, dtype="float32")(embedding))


def make_model(methods, *, batch_norm, **options):
    keras.utils.set_random_seed(2)
    model = SelfDistiller(make_network(batch_norm=batch_norm), methods(), num_examples=len(LABELS))
    optimizer = SGD(0.02, momentum=0.9, weight_decay=1e-3)
    if keras.config.dtype_policy().compute_dtype == "float16":
        # At the usual 2^15 a gradient of the whole batch may overflow where those of its parts do not, and which steps
        # are skipped then depends on the replicas.
        optimizer = LossScaleOptimizer(optimizer, initial_scale=2.0**10)
    model.compile(optimizer, metrics=["accuracy"], **options)
    return model


def make_data(model, **options):
    needs = model.composition.needs
    batch_size = 16 if needs.pairs_adjacent or options else 15
    options = {**model.data_options, **options}
    return paired_dataset(IMAGES, LABELS, batch_size=batch_size, seed=3, clean=lambda images, _: images, **options)


def fit(methods, strategy, *, steps=STEPS, **options) -> Trained:
    with strategy.scope():
        model = make_model(methods, **options)
    before = model.get_weights()
    epochs = 1 if steps < STEPS else 2
    logs = model.fit(make_data(model), epochs=epochs, steps_per_epoch=steps // epochs, verbose=0).history
    assert int(model.step.numpy()) == steps
    return Trained(before, model.get_weights(), logs)


def check_same(one: Trained, many: Trained, *, rounding=1e-6) -> None:
    for expected, values in zip(one.weights, many.weights, strict=True):
        apart = 1e-3 if expected.dtype == np.float16 else rounding  # the first: of PS-KD's table
        np.testing.assert_allclose(values, expected, rtol=0, atol=apart * max(1, np.abs(expected).max()))
    assert max(np.abs(weight - before).max() for before, weight in zip(one.before, one.weights, strict=True)) > 0.005
    assert one.logs.keys() == many.logs.keys()
    for name, values in one.logs.items():
        assert many.logs[name] == pytest.approx(values, rel=rounding, abs=rounding), name


# The shortest is not slow.
@pytest.mark.thorough
@pytest.mark.parametrize(
    ("methods", "batch_norm"),
    [
        pytest.param(*case, id=name, marks=[] if name.startswith("VirtualSoftmax") else [pytest.mark.slow])
        for name, case in TOGETHER.items()
    ],
)
def test_four_replicas_train_as_one_does(methods, batch_norm, replicas):
    one, many = (fit(methods, replicas(count), batch_norm=batch_norm) for count in (1, 4))
    check_same(one, many)


@pytest.mark.slow
@pytest.mark.parametrize("batch_norm", [False, True], ids=["no batch norm", "synchronised"])
@pytest.mark.parametrize("name", ALONE)
def test_every_method_trains_alike_on_any_number_of_replicas_and_under_xla(name, batch_norm, replicas):
    methods = ALONE[name]
    # BYOT's exits divide by the deviations of few images: the last bit of the first weights alone moves the last ones
    # by 4e-6 there.
    rounding = 2e-5 if name.startswith("BYOT") else 1e-6
    one, two, four = (fit(methods, replicas(count), batch_norm=batch_norm) for count in (1, 2, 4))
    check_same(one, two, rounding=rounding)
    check_same(one, four, rounding=rounding)
    check_same(one, fit(methods, replicas(1), batch_norm=batch_norm, jit_compile=True), rounding=rounding)
    # BYOT's exits synchronise their batch norm where the network has none.
    if batch_norm or name.startswith("BYOT") or Composition(methods()).needing_whole_batches:
        with pytest.raises(UserError, match="jit_compile"):
            fit(methods, replicas(2), batch_norm=batch_norm, jit_compile=True)
    else:
        check_same(one, fit(methods, replicas(2), batch_norm=batch_norm, jit_compile=True), rounding=rounding)


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "bits"), [("mixed_bfloat16", 8), ("mixed_float16", 11)])
@pytest.mark.parametrize("name", ALONE)
def test_in_half_precision_replicas_differ_by_the_rounding_of_their_gradients(name, policy, bits, replicas):
    keras.config.set_dtype_policy(policy)
    # BYOT's exits multiply any rounding with each step, as in the test before.
    steps = 1 if name.startswith("BYOT") else STEPS
    one, many = (fit(ALONE[name], replicas(count), batch_norm=True, steps=steps) for count in (1, 4))
    for before, expected, weight in zip(one.before, one.weights, many.weights, strict=True):
        # Of four gradients to so many bits in each of the steps, and of what is computed from weights so rounded.
        rounding = max(np.abs(expected - before).max() * 4 * steps / 2 ** (bits + 1), np.abs(expected).max() / 2**bits)
        np.testing.assert_allclose(weight, expected, rtol=0, atol=rounding)
    assert many.logs["loss"] == pytest.approx(one.logs["loss"], rel=2e-3)


def test_the_methods_that_exchange_something_are_documented():
    section = (ROOT / "docs" / "methods.md").read_text().split("## Several devices")[1].split("\n## ")[0]
    documented = set(re.findall(r"^\| `(\w+)\(", section, flags=re.MULTILINE))
    assert documented == {
        name
        for name, method in METHODS.items()
        if "methods.replicas import" in inspect.getsource(inspect.getmodule(method))
    }


@pytest.mark.parametrize(
    "methods", quick([pytest.param(made, id=name) for name, made in FURTHER.items()], "CSKD, two partners")
)
def test_a_step_is_a_program_for_a_tpu(methods):
    """As of the other methods in test_method_steps.py."""
    model = make_model(methods, batch_norm=True)
    model.optimizer.build(model.trainable_variables)
    inputs = next(iter(make_data(model, distribution=Distribution(static_shapes=True))))
    check_static(tf.function(model.train_step, jit_compile=True), inputs)


@pytest.mark.parametrize(
    "methods", few([[], [AdaCos], [VirtualSoftmax]], 2), ids=["network", "AdaCos", "VirtualSoftmax"]
)
@pytest.mark.parametrize("images", [pytest.param(8, marks=pytest.mark.thorough), 3], ids=["whole batch", "last batch"])
def test_evaluation_is_a_program_for_a_tpu(methods, images):
    model = make_model(lambda: [method() for method in methods], batch_norm=True)
    inputs, labels = tf.constant(IMAGES[:images]), tf.constant(LABELS[:images])
    check_static(tf.function(model.test_step, jit_compile=True), (inputs, labels))
    rows = {"image": inputs, "label": labels, "number": tf.zeros([images], tf.int64)}
    check_static(tf.function(Collector(model).predict_step, jit_compile=True), rows)


@pytest.mark.parametrize("call", [lambda rows: tf.where(rows > 0), lambda rows: tf.sort(tf.unique(rows)[0])])
def test_a_program_with_dynamic_shapes_is_told_from_one_without(call):
    rows = tf.constant([1.0, 0.0, 1.0])
    check_static(tf.function(lambda rows: tf.math.top_k(rows, 2), jit_compile=True), rows)
    with pytest.raises(AssertionError):
        check_static(tf.function(call, jit_compile=True), rows)
