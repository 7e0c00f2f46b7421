"""DLB over steps: what it keeps of one for the next, through uneven batches, epochs and other methods."""

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import paired_dataset
from cskd_tf.methods import DLB, Composition, CutMix, Cutout, LabelSmoothing, Mixup
from tests.helpers import compiled, softmax

CLASSES, RATE = 3, 0.1


def numpy_run(weights, bias, data, *, temperature=4.0, weight=0.5, smoothing=0.0):
    """DLB of a linear classifier in float64, batch by batch as the pipeline hands them out."""
    kept = {}
    for batch, label in data.as_numpy_iterator():
        now, again = (batch[view].reshape(len(label), -1).astype("float64") for view in ("image", "previous"))
        targets = (1 - smoothing) * np.eye(CLASSES)[label] + smoothing / CLASSES
        logits, second = now @ weights + bias, again @ weights + bias
        to_now, to_second = softmax(logits) - targets, np.zeros_like(second)
        for row, position in enumerate(batch["previous_position"]):
            if position in kept:
                last_logits, last_targets = kept[position]
                pull = softmax(second[row] / temperature) - softmax(last_logits / temperature)
                to_second[row] = 0.5 * (softmax(second[row]) - last_targets) + weight * temperature * pull
                to_now[row] *= 0.5
        kept |= dict(zip(batch["position"], zip(logits, targets, strict=True), strict=True))
        weights = weights - RATE * (now.T @ to_now + again.T @ to_second) / len(label)
        bias = bias - RATE * (to_now + to_second).sum(axis=0) / len(label)
    return weights, bias, kept


def test_two_epochs_of_uneven_batches_are_as_in_numpy(linear_network, images_and_labels):
    network, smoothing, largest_batch = linear_network(), 0.3, 11
    chosen = [DLB(temperature=4.0, weight=0.5, largest_batch=largest_batch), LabelSmoothing(epsilon=smoothing)]
    model = compiled(network, chosen, learning_rate=RATE)
    start = network.get_weights()
    data = paired_dataset(*images_and_labels, batch_size=8, seed=0, epochs=2, **model.data_options)
    history = model.fit(data, epochs=2, verbose=0).history
    *expected, kept = numpy_run(*start, data, smoothing=smoothing)
    for one, two in zip(expected, network.get_weights(), strict=True):
        np.testing.assert_allclose(two, one, atol=2e-6)
    assert len(kept) == 44  # each image of each epoch
    assert (np.array(history["previous_distillation"]) > 0).all()
    method = model.methods[0]
    for position in range(44 - 8, 44):
        row = position % largest_batch
        assert method.last_position.numpy()[row] == position
        np.testing.assert_allclose(method.last_logits.numpy()[row], kept[position][0], atol=1e-5)
        np.testing.assert_allclose(method.last_targets.numpy()[row], kept[position][1], atol=1e-6)


@pytest.mark.thorough
def test_the_first_step_is_that_of_cross_entropy(linear_network, images_and_labels):
    after = []
    for methods in ([], [DLB()]):
        network = linear_network(kernel_initializer="ones")
        model = compiled(network, methods)
        data = paired_dataset(*images_and_labels, batch_size=8, seed=0, **model.data_options)
        logs = model.train_step(next(iter(data)))
        after.append([*network.get_weights(), np.float32(logs["loss"])])
    for one, two in zip(*after, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-6, atol=1e-7)


def test_no_gradient_reaches_what_the_last_step_predicted(linear_network):
    method = DLB(largest_batch=2)
    compiled(linear_network(), [method])
    last = tf.Variable([[1.0, 0.0, -1.0]])
    with tf.GradientTape() as tape:
        output = {"logits": last.value(), "targets": tf.constant([[0.0, 1.0, 0.0]])}
        method.after_step({"position": tf.constant([5], tf.int64)}, {"image": output})
        views = {"image": output, "previous": {"logits": tf.zeros([1, 3])}}
        terms = method.terms({"previous_position": tf.constant([5], tf.int64)}, views, output["targets"])
    assert float(terms["previous_distillation"][0]) > 0
    assert tape.gradient(tf.add_n(list(terms.values())), last) is None


def test_batches_and_methods_that_cannot_work_are_refused(images_and_labels):
    needs = Composition([DLB(largest_batch=8), Cutout()]).needs
    paired_dataset(*images_and_labels, batch_size=8, seed=0, needs=needs)
    with pytest.raises(ValueError, match="batch_size of at most 8, .* Received: batch_size=9"):
        paired_dataset(*images_and_labels, batch_size=9, seed=0, needs=needs)
    for mixing in (Mixup(), CutMix()):
        with pytest.raises(ValueError, match="come again with the label they had beside DLB"):
            Composition([DLB(), mixing])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0}, "temperature to be a finite number above 0. Received: temperature=0"),
        ({"weight": -1}, "weight to be a finite number of at least 0. Received: weight=-1"),
        ({"largest_batch": 0}, "largest_batch to be an integer of at least 1. Received: largest_batch=0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DLB(**arguments)
