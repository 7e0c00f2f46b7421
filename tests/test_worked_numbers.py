"""The worked numbers of the methods' docstrings, computed by the methods."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.methods import CSKD, DDGSD, TFKD, AdaCos, Distillation, MaxEntropy, VirtualSoftmax
from cskd_tf.training.distiller import SelfDistiller

LN3 = float(np.log(3))


def outputs(**logits):
    embedding = tf.ones((1, 2))
    return {view: {"logits": tf.constant([values]), "embedding": embedding} for view, values in logits.items()}


def cskd(form):
    made = outputs(image=[0.0, 0.0], partner=[4 * LN3, 0.0])
    return CSKD(temperature=4.0, weight=1.0, form=form).terms({}, made, None)["class_wise"]


def ddgsd():
    made = outputs(image=[LN3, 0.0], second_view=[0.0, 0.0])
    terms = DDGSD(temperature=1.0, weight=1.0, feature_weight=0.0).terms({}, made, None)
    return tf.add_n(list(terms.values())) - 0.130812


def distillation():
    teacher = keras.Sequential([keras.Input((2,)), keras.layers.Identity()])
    method = Distillation(teacher=teacher, alpha=0.9, temperature=4.0)
    return method.terms({"image": tf.constant([[4 * LN3, 0.0]])}, outputs(image=[0.0, 0.0]), None)["distillation"]


def max_entropy():
    (term,) = MaxEntropy(weight=1.0).terms({}, outputs(image=[LN3, 0.0]), None).values()
    return term


def tfkd():
    batch = {"label": tf.constant([0])}
    return TFKD(alpha=0.5, temperature=1.0, correct=0.9).terms(batch, outputs(image=[0.0, 0.0]), None)["teacher_free"]


def virtual_softmax():
    method = VirtualSoftmax()
    method._class_vectors = lambda: tf.constant([[1.0, 0.0], [0.0, 2.0]])
    scores = method.labelled_logits({"embedding": tf.constant([[3.0, 4.0]])}, tf.constant([1]))
    return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.constant([1]), scores)


def adacos(*, moved):
    method = AdaCos(class_vectors="network")
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, kernel_initializer="identity")])
    model = SelfDistiller(network, [method])
    if moved:
        method.labelled_logits(model._network_outputs(tf.constant([[1.0, 0.0, 0.0]]), training=True), tf.constant([0]))
    return method.scale.value


@pytest.mark.parametrize(
    ("method", "compute", "number"),
    [
        (CSKD, lambda: cskd("cvpr"), "2.092993"),
        (CSKD, lambda: cskd("iclr"), "0.130812"),
        (MaxEntropy, lambda: max_entropy(), "-0.562335"),
        (DDGSD, ddgsd, "0.143841"),
        (Distillation, distillation, "1.883693"),
        (TFKD, tfkd, "0.184032"),
        (VirtualSoftmax, virtual_softmax, "2.127731"),
        (AdaCos, lambda: adacos(moved=False), "0.980258"),
        (AdaCos, lambda: adacos(moved=True), "0.693147"),
    ],
)
def test_docstrings_have_the_number_that_the_method_computes(method, compute, number):
    assert number in method.__doc__
    assert float(np.squeeze(compute())) == pytest.approx(float(number), rel=1e-6, abs=6e-7)
