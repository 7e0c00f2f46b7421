"""Zipf's law over the classes that an image is not of: ranks, votes, gradient, and networks that cannot vote."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.methods import AdaCos, Composition, ZipfLabelSmoothing
from cskd_tf.methods.zipf import ranks, zipf_targets
from cskd_tf.networks.features import Parts
from tests.helpers import compiled, softmax, staged_network


def test_equal_scores_share_the_best_place_and_the_label_keeps_its_own():
    places = ranks(tf.constant([[4.0, 3, 3, 2, 1], [0, 0, 7, 0, 0]]))
    np.testing.assert_array_equal(places, [[1, 2, 2, 4, 5], [2, 2, 1, 2, 2]])
    # Of 1/2, 1/2, 1/4 and 1/5; and where label 2 has the first place, of four times 1/2.
    expected = [np.array([0, 10, 10, 5, 4]) / 29, [0.25, 0.25, 0, 0.25, 0.25]]
    np.testing.assert_allclose(zipf_targets(places, tf.constant([0, 2])), expected, rtol=1e-6)


def test_value_and_gradient_against_numpy():
    logits, labels = np.random.default_rng(0).normal(size=(6, 5)) * 3, np.array([0, 4, 2, 2, 1, 3])
    variable = tf.Variable(logits, dtype=tf.float32)
    method = ZipfLabelSmoothing(weight=0.7, ranking="logits")
    with tf.GradientTape() as tape:
        outputs = {"image": {"logits": variable.value()}}
        term = method.terms({"label": tf.constant(labels)}, outputs, None)["zipf"]
    for row, (label, value, gradient) in enumerate(zip(labels, term, tape.gradient(term, variable), strict=True)):
        others = np.delete(np.arange(5), label)
        places = 1 + np.argsort(np.argsort(-logits[row]))
        q = 1 / places[others] / (1 / places[others]).sum()
        p = softmax(logits[row, others])
        assert float(value) == pytest.approx(0.7 * (q * np.log(q / p)).sum(), rel=1e-5)
        np.testing.assert_allclose(gradient.numpy()[others], 0.7 * (p - q), atol=1e-6)
        assert gradient[label] == 0


def voting(stage, kernel, **options):
    """The method around a network whose single stage is `stage`, and what the network returns."""
    classifier = keras.layers.Dense(kernel.shape[1], use_bias=False)
    classifier.build(stage.shape)
    classifier.set_weights([kernel])
    embedding = tf.reduce_mean(stage, axis=(1, 2))
    outputs = {"logits": classifier(embedding), "embedding": embedding, "stages": (tf.constant(stage),)}
    method = ZipfLabelSmoothing(weight=1.0, **options)
    method.attach(keras.Sequential(), parts=Parts(image=None, classifier=classifier, **outputs))
    return method, {"image": outputs}


def test_each_pixel_of_the_last_stage_votes():
    # Pixels for the classes 1, 1, 2 and 0, of four: label 0 leaves the places 1, 2 and 4, of which q is (4, 2, 1) / 7.
    stage = np.eye(4, dtype="float32")[[[[1, 1], [2, 0]]]]
    method, outputs = voting(stage, np.eye(4, dtype="float32"))
    term = method.terms({"label": tf.constant([0])}, outputs, None)["zipf"]
    q, p = np.array([4, 2, 1]) / 7, softmax(np.array([0.5, 0.25, 0.0]))
    np.testing.assert_allclose(term, [(q * np.log(q / p)).sum()], rtol=1e-5)


def test_at_twice_the_size_pixels_between_two_vote_as_well():
    # One row of two pixels, of classes 0 and 1, where class 2 scores 0.8 everywhere. At twice the size there are two
    # rows, of which each has (1, 0), (.75, .25), (.25, .75) and (0, 1): those in the middle go to class 2.
    stage, kernel = np.eye(2, dtype="float32")[None, None], np.array([[1, 0, 0.8], [0, 1, 0.8]], "float32")
    label = {"label": tf.constant([0])}
    for upsample, votes in ((False, [1, 1, 0]), (True, [2, 2, 4])):
        method, outputs = voting(stage, kernel, upsample=upsample)
        q = zipf_targets(ranks(tf.constant([votes], tf.float32)), label["label"]).numpy()[0, 1:]
        p = softmax(np.array([0.5, 0.8]))
        np.testing.assert_allclose(method.terms(label, outputs, None)["zipf"], [(q * np.log(q / p)).sum()], rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exits": -1}, "exits to be an integer of at least 0. Received: exits=-1"),
        ({"ranking": "pixels"}, r"one of \['dense', 'logits'\]"),
        ({"ranking": "logits", "exits": 1}, "exits and upsample beside ranking='dense' alone"),
        ({"ranking": "logits", "upsample": True}, "exits and upsample beside ranking='dense' alone"),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ZipfLabelSmoothing(**arguments)


def test_networks_and_heads_that_cannot_vote_are_refused_where_the_logits_rank(linear_network):
    by_logits = {"ranking": "logits"}
    compiled(linear_network(), [ZipfLabelSmoothing(**by_logits)])
    with pytest.raises(ValueError, match="with 1 stages or more .* or ranking='logits'. Received: .* with 0 stages"):
        compiled(linear_network(), [ZipfLabelSmoothing()])
    with pytest.raises(ValueError, match="with 4 stages or more .* with 3 stages"):
        compiled(staged_network((2, 2, 1), classes=3), [ZipfLabelSmoothing(exits=3)])
    inputs = keras.Input((4, 4, 1))
    stage = keras.layers.Identity(name="stage1")(keras.layers.Conv2D(2, 1)(inputs))
    hidden = keras.layers.Dense(7)(keras.layers.GlobalAveragePooling2D()(stage))
    with pytest.raises(ValueError, match="the last of which its classifier reads, pooled"):
        compiled(keras.Model(inputs, keras.layers.Dense(3)(hidden)), [ZipfLabelSmoothing()])
    Composition([AdaCos(), ZipfLabelSmoothing(**by_logits)])


def test_the_exits_are_trained_and_the_classifier_is_the_networks(images_and_labels):
    network = staged_network((4, 4, 1), classes=3)
    model = compiled(network, [ZipfLabelSmoothing(exits=2)])
    owned = model.methods[0].trainable_weights
    assert [tuple(weight.shape) for weight in owned] == [(3, 3), (3,), (4, 3), (3,)]
    before = [weight.numpy() for weight in owned]
    model.fit(*images_and_labels, epochs=1, verbose=0)
    assert all(not np.array_equal(one, two.numpy()) for one, two in zip(before, owned, strict=True))
    assert model.classifier().count_params() == network.count_params()
