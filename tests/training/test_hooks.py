"""What a step asks of a method: every hook, with what it is given, and the terms that it declared."""

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import paired_dataset
from cskd_tf.methods import Head, Method, Mixing, View
from tests.helpers import compiled, softmax


class Halves(Mixing):
    """Mixes the images and targets of a batch with those of the reversed one."""

    def others(self, count, *, seed):
        return tf.range(count)[::-1]

    def mix(self, batch, targets, *, seed):
        half = (targets + tf.reverse(targets, axis=[0])) / 2
        image = (batch["image"] + tf.reverse(batch["image"], axis=[0])) / 2
        return {**batch, "image": image, "mixed": tf.ones_like(targets[:, 0])}, half


class MovingHead(Head):
    """Multiplies the logits by a number that the first labelled view sets to 2."""

    def attach(self, network, *, parts, num_examples=None):
        self.scale = self.add_weight(name="scale", shape=(), initializer="ones", trainable=False)
        self.bind(network)

    def logits(self, outputs, *, training=False):
        return self.scale * outputs["logits"]

    def labelled_logits(self, outputs, labels):
        self.scale.assign(2.0)
        return self.logits(outputs, training=True)


class EveryHook(Method):
    """Uses each hook of a method once, so that the core is shown to call them all."""

    views = (View("second_view", gradient=True), View("clean"))
    extras = ("index",)
    term_names = ("clean_distance",)
    hard_weight = 0.5

    def attach(self, network, *, parts, num_examples=None):
        self.rows = self.add_weight(name="rows", shape=(num_examples, 3), initializer="zeros", trainable=False)
        self.bind(network)
        self.epoch = self.add_weight(name="epoch", shape=(), initializer="zeros", trainable=False)

    def on_epoch_begin(self, epoch, *, epochs):
        self.epoch.assign(epoch / epochs)

    def targets(self, batch, targets):
        return 0.9 * targets + 0.1 / 3

    def terms(self, batch, outputs, targets):
        difference = outputs["second_view"]["logits"] - tf.stop_gradient(outputs["clean"]["logits"])
        return {"clean_distance": self.epoch * batch["mixed"] * tf.reduce_sum(difference**2, axis=-1)}

    def after_step(self, batch, outputs):
        self.rows.assign(tf.tensor_scatter_nd_update(self.rows, batch["index"][:, None], outputs["image"]["logits"]))


def test_every_hook_is_called(linear_network, images_and_labels):
    images, labels = images_and_labels
    images, labels = images[:20], labels[:20]
    network = linear_network()
    before = network.get_weights()
    model = compiled(network, [Halves(), MovingHead(), EveryHook()], learning_rate=1e-12, num_examples=20)
    data = paired_dataset(
        images, labels, batch_size=20, seed=0, epochs=2, augment=lambda x, _: x + 1, clean=lambda x, _: x,
        **model.data_options,
    )  # fmt: skip
    history = model.fit(data, epochs=2, verbose=0).history
    ((batch, seen),) = data.take(1)
    mixed = batch["image"].numpy()
    flat = mixed.reshape(20, -1) @ before[0] + before[1]
    targets = np.eye(3)[seen.numpy()]
    targets = 0.9 * (targets + targets[::-1]) / 2 + 0.1 / 3
    expected = -0.5 * (targets * np.log(softmax(2 * flat))).sum(axis=1).mean()
    assert history["cross_entropy"][0] == pytest.approx(expected, rel=1e-5)
    # The augmented view has every pixel one higher than the clean one; both are scaled by 2.
    distance = ((2 * before[0].sum(axis=0)) ** 2).sum()
    np.testing.assert_allclose(history["clean_distance"], [0.0, 0.5 * distance], rtol=1e-4)
    method = model.methods[2]
    rows = method.rows.numpy()[batch["index"].numpy()]
    assert rows.shape == (20, 3)
    assert (np.abs(rows).sum(axis=1) > 0).all()
    np.testing.assert_allclose(
        model.predict(images, verbose=0), 2 * (images.reshape(20, -1) @ before[0] + before[1]), rtol=1e-4, atol=1e-5
    )


@pytest.mark.thorough
def test_mixed_in_pairs_reach_the_step(linear_network, images_and_labels):
    images, labels = images_and_labels

    class InBatch(Method):
        pairs_adjacent = True
        term_names = ("pull",)

        def terms(self, batch, outputs, targets):
            pairs = tf.reshape(batch["label"], (-1, 2))
            different = tf.cast(pairs[:, 0] != pairs[:, 1], tf.float32)
            return {"pull": tf.repeat(different, 2)}

    model = compiled(linear_network(), [InBatch()])
    data = paired_dataset(images, labels, batch_size=8, seed=0, epochs=2, **model.data_options)
    assert model.fit(data, epochs=2, verbose=0).history["pull"] == [0.0, 0.0]


def test_terms_must_have_the_declared_names(linear_network, images_and_labels):
    class Misnamed(Method):
        term_names = ("declared",)

        def terms(self, batch, outputs, targets):
            return {"returned": tf.zeros(tf.shape(batch["label"]))}

    images, labels = images_and_labels
    with pytest.raises(ValueError, match=r"term_names \['declared'\]. Received: \['returned'\]"):
        compiled(linear_network(), [Misnamed()]).fit(images, labels, verbose=0)
