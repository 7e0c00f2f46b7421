"""How often a step is traced, and for which variables: a step that makes variables is traced twice."""

import keras
import pytest
import tensorflow as tf

from cskd_tf.data import paired_dataset
from cskd_tf.methods import CSKD
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.optimizers import SGD


@pytest.fixture
def traced(monkeypatch):
    """The models whose step was traced, in turn."""
    models, step = [], SelfDistiller.train_step
    monkeypatch.setattr(SelfDistiller, "train_step", lambda self, data: models.append(self) or step(self, data))
    return models


@pytest.mark.parametrize("optimizer", ["adam", SGD(0.1, momentum=0.9)])
def test_a_first_step_is_traced_once(optimizer, traced, linear_network, images_and_labels):
    model = SelfDistiller(linear_network(), [CSKD()])
    model.compile(optimizer)
    model.fit(paired_dataset(*images_and_labels, batch_size=8, seed=0, **model.data_options), epochs=2, verbose=0)
    assert traced == [model]


def test_an_optimizer_has_the_variables_that_callbacks_leave_trainable(batch_norm_network, images_and_labels):
    network = batch_norm_network()
    convolution = network.layers[0]
    model = SelfDistiller(network)
    model.compile(SGD(0.1, rates=[1.0, 1.0, 0.5, 0.5]))  # of batch norm and the last layer
    freeze = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: setattr(convolution, "trainable", False))
    before = convolution.kernel.numpy()
    model.fit(*images_and_labels, verbose=0, callbacks=[freeze])
    assert (convolution.kernel.numpy() == before).all()


def test_what_is_refused_leaves_the_optimizer_as_it_was(batch_norm_network, images_and_labels):
    images, labels = images_and_labels
    network = batch_norm_network()
    network.layers[0].trainable = False
    model = SelfDistiller(network)
    model.compile("sgd")
    with pytest.raises(ValueError, match="Expected labels"):
        model.fit(images, labels + 9, verbose=0)
    assert not model.optimizer.built


@pytest.mark.parametrize("call", ["fit", "train_on_batch"])
def test_a_model_that_was_not_compiled_says_so(call, linear_network, images_and_labels):
    with pytest.raises(ValueError, match="compile"):
        getattr(SelfDistiller(linear_network()), call)(*images_and_labels)


@pytest.mark.parametrize(("call", "options"), [("fit", {}), ("train_on_batch", {"class_weight": {0: 2.0}})])
def test_what_is_frozen_between_two_calls_stays_as_it_is_and_moves_again(
    call, options, batch_norm_network, images_and_labels
):
    """Keras goes on training it, without a word, until something else has the step traced anew."""
    network = batch_norm_network()
    convolution = network.layers[0]
    model = SelfDistiller(network)
    model.compile(SGD(0.1))

    def moves(**more):
        before = convolution.kernel.numpy()
        for each in {"fit", call}:  # by one step the other's is not traced
            getattr(model, each)(*images_and_labels, **({"verbose": 0} if each == "fit" else {}), **more)
        return (convolution.kernel.numpy() != before).any()

    assert moves()
    convolution.trainable = False
    assert not moves(**options)
    convolution.trainable = True
    assert moves()


def test_what_the_optimizer_does_not_know_asks_for_compile(batch_norm_network, images_and_labels):
    network = batch_norm_network()
    convolution = network.layers[0]
    convolution.trainable = False
    model = SelfDistiller(network)
    model.compile(SGD(0.1))
    model.fit(*images_and_labels, verbose=0)
    convolution.trainable = True
    for call in (model.fit, model.train_on_batch):
        with pytest.raises(ValueError, match=r"Expected compile\(\) again where .* such as .*conv2d"):
            call(*images_and_labels)
    model.compile(SGD(0.1))
    before = convolution.kernel.numpy()
    model.fit(*images_and_labels, verbose=0)
    assert (convolution.kernel.numpy() != before).any()


def test_a_callback_may_freeze_in_every_fit(batch_norm_network, images_and_labels):
    network = batch_norm_network()
    model = SelfDistiller(network)
    model.compile(SGD(0.1))
    freeze = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: setattr(network.layers[0], "trainable", False))
    before = network.layers[0].kernel.numpy()
    for _ in range(2):
        model.fit(*images_and_labels, verbose=0, callbacks=[freeze])
    assert (network.layers[0].kernel.numpy() == before).all()


def test_a_step_in_a_function_of_ones_own_is_no_puzzle_to_autograph(linear_network, images_and_labels, caplog):
    model = SelfDistiller(linear_network(), [CSKD()])
    model.compile(SGD(0.1))
    model.optimizer.build(model.trainable_variables)
    data = paired_dataset(*images_and_labels, batch_size=8, seed=0, **model.data_options)
    step, evaluation = tf.function(model.train_step), tf.function(model.test_step)
    for batch, labels in data:
        step((batch, labels))
        evaluation((batch["image"], labels))
    assert int(model.step) == data.steps_per_epoch
    assert "AutoGraph" not in caplog.text
