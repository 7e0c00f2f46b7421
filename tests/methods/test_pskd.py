"""PS-KD over epochs: its table, its copy of the network, its targets; on sequences too."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf import networks
from cskd_tf.data import paired_dataset
from cskd_tf.methods import PSKD, AdaCos, Composition, CutMix, Cutout, LabelSmoothing, Mixup, VirtualSoftmax
from cskd_tf.networks.features import Parts
from cskd_tf.runs.callbacks import Checkpoint
from cskd_tf.runs.workdir import Workdir
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.optimizers import SGD
from tests.helpers import softmax
from tests.selection import quick

COUNT, CLASSES, EPOCHS = 22, 3, 4


def of_table(table, network):
    return table


def of_network(table, network):
    return network


def numpy_run(weights, bias, data, *, previous, alpha=0.8, rate=0.5, smoothing=0.0):
    """PS-KD of a linear classifier in float64, batch by batch as the pipeline hands them out.

    `previous` takes what was predicted in the epoch before, of the table and of the weights at its end.
    """
    table, steps = np.zeros((COUNT, CLASSES)), data.steps_per_epoch
    for step, (batch, label) in enumerate(data.as_numpy_iterator()):
        epoch = step // steps + 1
        if step % steps == 0:
            frozen = weights.copy(), bias.copy()
        images, index = batch["image"].reshape(len(label), -1).astype("float64"), batch["index"]
        share = 0.0 if epoch == 1 else alpha * epoch / EPOCHS
        targets = (1 - smoothing) * np.eye(CLASSES)[label] + smoothing / CLASSES
        targets = (1 - share) * targets + share * previous(table[index], softmax(images @ frozen[0] + frozen[1]))
        probabilities = softmax(images @ weights + bias)
        gradient = (probabilities - targets) / len(label)
        table[index] = probabilities
        weights, bias = weights - rate * images.T @ gradient, bias - rate * gradient.sum(axis=0)
    return weights, bias, table


def make(linear_network, methods, strategy=None):
    keras.utils.set_random_seed(2)
    with (strategy or tf.distribute.get_strategy()).scope():
        model = SelfDistiller(linear_network(), methods, num_examples=COUNT)
        model.compile(SGD(0.5, momentum=0.0, weight_decay=0.0))
        model.optimizer.build(model.trainable_variables)
    return model


def dataset(images_and_labels, model, **options):
    needs = dataclasses.replace(model.data_options["needs"], extras=("index",))
    options = {**model.data_options, "needs": needs, **options}
    return paired_dataset(*images_and_labels, batch_size=8, seed=0, epochs=EPOCHS, **options)


@pytest.mark.parametrize("count", quick([1, 2], 1))
@pytest.mark.parametrize(
    ("source", "previous", "tolerance", "tables"),
    [
        ("stored", of_table, 1e-3, 1),  # the table has two bytes per number
        ("network", of_network, 1e-5, 0),
    ],
    ids=["stored", "network"],
)
def test_a_run_follows_the_one_in_numpy(
    source, previous, tolerance, tables, count, linear_network, images_and_labels, replicas
):
    model = make(linear_network, [LabelSmoothing(epsilon=0.1), PSKD(source=source)], replicas(count))
    start = [weight.astype("float64") for weight in model.network.get_weights()]
    data = dataset(images_and_labels, model)
    model.fit(data, epochs=EPOCHS, verbose=0)
    weights, bias, table = numpy_run(*start, data, previous=previous, smoothing=0.1)
    np.testing.assert_allclose(model.network.get_weights()[0], weights, atol=tolerance)
    np.testing.assert_allclose(model.network.get_weights()[1], bias, atol=tolerance)
    if tables:
        np.testing.assert_allclose(model.methods[1].table.numpy(), table, atol=1e-3)


def test_the_largest_probabilities_alone_can_be_kept():
    method = PSKD(top_k=2)
    method.attach(keras.Sequential(), parts=Parts(image=None, logits=tf.zeros((1, 4))), num_examples=5)
    assert method.table.shape == (5, 2)
    probabilities = np.array([[0.5, 0.3, 0.15, 0.05], [0.1, 0.1, 0.2, 0.6]], "float32")
    index = tf.constant([3, 0], tf.int64)
    method.after_step({"index": index}, {"image": {"logits": tf.math.log(probabilities)}})
    method.share.assign(1.0)
    targets = method.targets({"index": index}, tf.eye(4)[:2])
    np.testing.assert_allclose(targets, [[0.5, 0.3, 0.1, 0.1], [0.1, 0.1, 0.2, 0.6]], atol=1e-3)


def test_cut_images_keep_their_targets_and_leave_no_prediction():
    method = PSKD()
    method.attach(keras.Sequential(), parts=Parts(image=None, logits=tf.zeros((1, 2))), num_examples=3)
    method.share.assign(0.4)
    index = tf.constant([0, 2], tf.int64)
    logits = tf.math.log([[0.5, 0.5], [0.25, 0.75]])
    batch = {"index": index, "mixed": tf.constant([0.0, 1.0])}
    method.after_step(batch, {"image": {"logits": logits}})
    np.testing.assert_allclose(method.table.numpy(), [[0.5, 0.5], [0, 0], [0, 0]])
    method.after_step({"index": index}, {"image": {"logits": logits}})  # an epoch in which neither is cut
    method.after_step(batch, {"image": {"logits": -logits}})
    np.testing.assert_allclose(method.table.numpy(), [[0.5, 0.5], [0, 0], [0.25, 0.75]])
    targets = method.targets(batch, tf.constant([[1.0, 0.0], [1.0, 0.0]]))
    np.testing.assert_allclose(targets, [[0.8, 0.2], [1.0, 0.0]], atol=1e-6)


@pytest.mark.parametrize("method", [CutMix(probability=0.5, coin="image"), Cutout(size=2, probability=0.5)])
def test_stored_targets_beside_mixed_images_are_two_epochs_old_on_average(method):
    count, epochs = 500, 24
    pskd = PSKD(alpha=1.0)
    pskd.attach(keras.Sequential(), parts=Parts(image=None, logits=tf.zeros((1, 2))), num_examples=count)
    index, images, onehot = tf.range(count, dtype=tf.int64), tf.zeros((count, 4, 4, 1)), tf.one_hot([0] * count, 2)
    ages = []
    for epoch in range(1, epochs + 1):
        batch, _ = method.mix({"image": images, "index": index}, onehot, seed=tf.constant([epoch, 7]))
        if epoch > epochs // 2:  # when most rows have been written
            pskd.share.assign(1.0)
            second = pskd.targets(batch, onehot).numpy()[:, 1]
            refined = (batch["mixed"].numpy() == 0) & (second > 0)
            ages += list(epoch - np.round(second[refined] * 32))
        # Each prediction says of which epoch it is.
        share = tf.fill([count], epoch / 32)
        pskd.after_step(batch, {"image": {"logits": tf.math.log(tf.stack([1 - share, share], axis=-1))}})
    ages = np.array(ages)
    assert ages.min() == 1
    assert ages.mean() == pytest.approx(2, abs=0.1)  # deviation .026
    assert (ages > 3).mean() == pytest.approx(1 / 8, abs=0.03)


def test_a_row_that_was_never_written_leaves_the_target_alone():
    for top_k in (None, 2):
        method = PSKD(top_k=top_k)
        method.attach(keras.Sequential(), parts=Parts(image=None, logits=tf.zeros((1, 4))), num_examples=2)
        method.share.assign(0.8)
        targets = method.targets({"index": tf.constant([1], tf.int64)}, tf.eye(4)[1:2])
        np.testing.assert_allclose(targets, [[0, 1, 0, 0]])


def test_the_size_of_the_table_is_told(caplog):
    with caplog.at_level("INFO", logger="absl"):
        PSKD().attach(keras.Sequential(), parts=Parts(image=None, logits=tf.zeros((1, 4))), num_examples=2**20)
        PSKD(top_k=1).attach(keras.Sequential(), parts=Parts(image=None, logits=tf.zeros((1, 4))), num_examples=2**20)
    assert "stores 1048576 x 4 probabilities on each replica: 8.0 MiB" in caplog.text
    assert "stores 1048576 x 1 probabilities on each replica: 6.0 MiB" in caplog.text


def test_batches_without_indices_are_refused(linear_network, images_and_labels):
    model = make(linear_network, [PSKD()])
    with pytest.raises(ValueError, match=r"need \['index'\], which a stream without indices cannot give"):
        model.fit(*images_and_labels, verbose=0)


@pytest.mark.thorough
def test_validation_needs_no_indices(linear_network, images_and_labels):
    model = make(linear_network, [PSKD()])
    data = paired_dataset(*images_and_labels, batch_size=8, seed=0, epochs=1, **model.data_options)
    history = model.fit(data, validation_data=images_and_labels, verbose=0).history
    assert history["val_loss"] == pytest.approx([model.evaluate(*images_and_labels, verbose=0)])


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (lambda: [CutMix(), PSKD()], "CutMix and Cutout take probability=0.5, CutMix with coin='image'"),
        (lambda: [Mixup(), PSKD()], "CutMix and Cutout take probability=0.5"),
        (lambda: [Cutout(), PSKD()], "CutMix and Cutout take probability=0.5"),
        (lambda: [AdaCos(), PSKD(source="network")], "source='stored' beside a method that replaces"),
        (lambda: [Mixup(), AdaCos()], "images of one label beside AdaCos"),
        (lambda: [CutMix(probability=0.5), VirtualSoftmax()], "images of one label beside VirtualSoftmax"),
    ],
)
def test_lists_that_would_do_something_else_than_they_say_are_refused(methods, message):
    with pytest.raises(ValueError, match=message):
        Composition(methods())
    Composition([CutMix(probability=0.5), PSKD()])
    Composition([CutMix(probability=0.5, coin="image"), PSKD()])
    Composition([AdaCos(), PSKD()])


@pytest.mark.thorough
def test_half_and_half_with_cutout_runs(linear_network, images_and_labels):
    model = make(linear_network, [Cutout(size=2, probability=0.5), PSKD()])
    history = model.fit(dataset(images_and_labels, model), epochs=EPOCHS, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_the_table_stays_out_of_the_best_checkpoint(linear_network, images_and_labels, tmp_path):
    model, workdir = make(linear_network, [PSKD()]), Workdir(tmp_path)
    checkpoint = Checkpoint(workdir, model, monitor="loss")
    model.fit(dataset(images_and_labels, model), epochs=EPOCHS, verbose=0, callbacks=[checkpoint])
    shapes = {}
    for name in ("best", "last"):
        path = next((workdir.checkpoints / name).glob("*.index")).with_suffix("")
        shapes[name] = tf.train.load_checkpoint(str(path)).get_variable_to_shape_map()
    assert [COUNT, CLASSES] in shapes["last"].values()
    assert [COUNT, CLASSES] not in shapes["best"].values()
    assert not any(name.startswith("training") for name in shapes["best"])


def test_an_index_beyond_the_table_is_refused(linear_network, images_and_labels):
    model = SelfDistiller(linear_network(), [PSKD()], num_examples=COUNT - 1)
    model.compile(SGD(0.1))
    with pytest.raises(ValueError, match="indices from 0 and below num_examples=21.*Received: 22 training images"):
        model.fit(dataset(images_and_labels, model), epochs=EPOCHS, verbose=0)


class Subclassed(keras.Model):
    """Knows its input only once it is called, and cannot be made from its config."""

    def __init__(self, head):
        super().__init__()
        self.flatten, self.head = keras.layers.Flatten(), head

    def call(self, images):
        return self.head(self.flatten(images))


@pytest.mark.thorough
@pytest.mark.parametrize("built", [True, False])
def test_a_subclassed_network_teaches_itself_too(built, images_and_labels):
    images, _ = images_and_labels
    network = Subclassed(keras.layers.Dense(CLASSES))
    if built:
        network(images[:1])
    model = SelfDistiller(network, [PSKD(source="network")])
    model.compile(SGD(0.5, momentum=0.0, weight_decay=0.0))
    keras.utils.set_random_seed(3)
    data = dataset(images_and_labels, model)
    starts = []
    keep = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: starts.append(network.get_weights()))
    model.fit(data, epochs=EPOCHS, verbose=0, callbacks=[keep])
    weights, bias, _ = numpy_run(*(each.astype("float64") for each in starts[0]), data, previous=of_network)
    np.testing.assert_allclose(network.get_weights()[0], weights, atol=1e-5)
    np.testing.assert_allclose(network.get_weights()[1], bias, atol=1e-5)


def test_the_past_has_the_weights_and_the_running_statistics_of_the_epochs_start(images_and_labels):
    images, labels = images_and_labels
    network = networks.build("preact_resnet10", num_classes=CLASSES, input_shape=(8, 8, 1), width=4)
    method = PSKD(source="network")
    SelfDistiller(network, [method])
    images = tf.image.resize(images, (8, 8))
    network(images, training=True)  # moves the statistics
    method.on_epoch_begin(1, epochs=2)
    method.share.assign(1.0)
    expected = tf.nn.softmax(network(images, training=False))
    for weight in network.weights:
        weight.assign_add(0.1 * tf.ones(weight.shape))
    targets = method.targets({"image": images}, tf.one_hot(labels, CLASSES))
    np.testing.assert_allclose(targets, expected, atol=1e-6)
    assert np.abs(targets - tf.nn.softmax(network(images, training=False))).max() > 0.01


def test_a_table_needs_the_number_of_images(linear_network):
    with pytest.raises(ValueError, match="num_examples=N"):
        SelfDistiller(linear_network(), [PSKD()])
    with pytest.raises(ValueError, match="one of .'stored', 'network'.. Received: source='disk'"):
        PSKD(source="disk")
