import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import cskd_tf
from cskd_tf.data import paired_dataset
from cskd_tf.errors import UserError
from cskd_tf.methods import CSKD, Method, View
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.optimizers import SGD
from tests.helpers import compiled, softmax
from tests.selection import few


def one_batch(images, labels, **views):
    return tf.data.Dataset.from_tensors(({"image": images, **views}, labels))


def test_two_class_example_by_hand(linear_network):
    # One pixel a, weights (1, 0), no bias: logits (a, 0). Image 4 ln 3 with label 1, partner 0, T = 4:
    # cross-entropy = ln(1 + 81) = 4.406719; KL(uniform || (.75, .25)) = .143841, times 16 = 2.301457.
    network = linear_network(classes=2, shape=(1, 1, 1), use_bias=False)
    network.set_weights([np.array([[1.0, 0.0]], "float32")])
    model = compiled(network, [CSKD(temperature=4.0, weight=1.0)], learning_rate=0.1)
    image, partner = (np.full((1, 1, 1, 1), value, "float32") for value in (4 * np.log(3), 0.0))
    logs = model.fit(one_batch(image, np.array([1]), partner=partner), verbose=0).history
    cross_entropy, class_wise = np.log(82), 16 * (-np.log(2) - 0.5 * np.log(0.75 * 0.25))
    assert logs["cross_entropy"][0] == pytest.approx(cross_entropy, abs=1e-6)
    assert logs["class_wise"][0] == pytest.approx(class_wise, abs=1e-6)
    assert logs["loss"][0] == pytest.approx(4.406719247 + 2.301456578, abs=2e-6)
    # Gradient at the logits: (81/82, 1/82) - (0, 1) + 4 * ((.75, .25) - (.5, .5)); at the weights times the pixel.
    gradient = 4 * np.log(3) * np.array([[81 / 82 + 1.0, 1 / 82 - 1 - 1.0]])
    np.testing.assert_allclose(network.get_weights()[0], np.array([[1.0, 0.0]]) - 0.1 * gradient, atol=1e-6)


def numpy_step(weights, bias, images, partners, labels, *, temperature, weight, rate):
    """One step of cross-entropy and CS-KD on a linear classifier, without gradient through the partners."""
    flat, flat_partners = images.reshape(len(images), -1), partners.reshape(len(images), -1)
    logits, partner_logits = flat @ weights + bias, flat_partners @ weights + bias
    onehot = np.eye(weights.shape[1])[labels]
    softened, target = softmax(logits / temperature), softmax(partner_logits / temperature)
    gradient = (softmax(logits) - onehot + weight * temperature * (softened - target)) / len(images)
    return weights - rate * flat.T @ gradient, bias - rate * gradient.sum(axis=0)


def test_no_gradient_reaches_the_partner(linear_network, images_and_labels):
    images, labels = images_and_labels
    partners = images[::-1].copy()
    network = linear_network()
    weights, bias = network.get_weights()
    model = compiled(network, [CSKD(temperature=2.0, weight=3.0)])
    model.fit(one_batch(images, labels, partner=partners), verbose=0)
    expected = numpy_step(weights, bias, images, partners, labels, temperature=2.0, weight=3.0, rate=0.1)
    for measured, value in zip(network.get_weights(), expected, strict=True):
        np.testing.assert_allclose(measured, value, atol=1e-6)


def test_batch_statistics_are_updated_by_the_image_and_then_by_the_partner(images_and_labels):
    images, labels = images_and_labels
    inputs = keras.Input((4, 4, 1))
    normalization = keras.layers.BatchNormalization(momentum=0.9)
    network = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(normalization(inputs))))
    model = compiled(network, [CSKD()])
    partners = 3 * images + 2
    model.fit(one_batch(images, labels, partner=partners), verbose=0)
    expected = 0.9 * (0.9 * 0.0 + 0.1 * images.mean()) + 0.1 * partners.mean()
    reverse = 0.9 * (0.9 * 0.0 + 0.1 * partners.mean()) + 0.1 * images.mean()
    assert abs(expected - reverse) > 1e-3
    np.testing.assert_allclose(normalization.moving_mean.numpy(), [expected], atol=1e-6)


@pytest.mark.parametrize(("mode", "updates"), [("train", 2), ("train_no_update", 1), ("inference", 1)])
def test_batch_norm_modes_of_a_view(batch_norm_network, images_and_labels, mode, updates):
    images, labels = images_and_labels

    class Partner(Method):
        views = (View("partner", batch_norm=mode),)
        term_names = ("distance",)

        def terms(self, batch, outputs, targets):
            return {"distance": tf.stop_gradient(tf.reduce_sum(outputs["partner"]["logits"] ** 2, axis=-1))}

    network = batch_norm_network()
    twin = keras.models.clone_model(network)
    twin.set_weights(network.get_weights())
    normalization = network.layers[1]
    model = compiled(network, [Partner()], learning_rate=1e-12)
    partners = 2 * images + 1
    logs = model.fit(one_batch(images, labels, partner=partners), verbose=0).history
    means = [twin.layers[0](batch).numpy().mean(axis=(0, 1, 2)) for batch in (images, partners)]
    expected = np.zeros(2)
    for mean in means[:updates]:
        expected = 0.9 * expected + 0.1 * mean
    np.testing.assert_allclose(normalization.moving_mean.numpy(), expected, atol=1e-5)
    twin(images, training=True)
    logits = twin(partners, training=mode != "inference").numpy()
    assert logs["distance"][0] == pytest.approx((logits**2).sum(axis=1).mean(), rel=1e-4)


def test_a_pass_without_update_still_moves_the_random_generators(batch_norm_network, images_and_labels):
    images, labels = images_and_labels

    class Partner(Method):
        views = (View("partner", batch_norm="train_no_update"),)

    network = batch_norm_network(dropout=0.5)
    generator = network.layers[-2].seed_generator
    before = generator.state.numpy()[1]
    compiled(network, [Partner()]).fit(one_batch(images, labels, partner=images), verbose=0)
    assert generator.state.numpy()[1] - before == 2


def test_one_replica_and_two_give_the_same_weights(linear_network, images_and_labels, two_replicas):
    images, labels = images_and_labels
    results = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        keras.utils.set_random_seed(3)
        with strategy.scope():
            model = SelfDistiller(linear_network(), [CSKD(temperature=4.0, weight=2.0)])
            model.compile(SGD(0.1, momentum=0.9, weight_decay=1e-3), metrics=["accuracy"])
        data = paired_dataset(images, labels, batch_size=8, seed=5, epochs=3)
        history = model.fit(data, epochs=3, verbose=0).history
        results.append((model.network.get_weights(), history))
    (single, single_log), (double, double_log) = results
    for one, two in zip(single, double, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-6)
    for name in ("loss", "cross_entropy", "class_wise", "accuracy"):
        np.testing.assert_allclose(double_log[name], single_log[name], atol=1e-5)


@pytest.mark.thorough
def test_regularization_counts_once_on_any_number_of_replicas(images_and_labels, two_replicas):
    images, labels = images_and_labels
    weights = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        keras.utils.set_random_seed(3)
        with strategy.scope():
            dense = keras.layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.5))
            network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), dense])
            model = compiled(network, [CSKD()])
        kernel = dense.kernel.numpy()
        log = model.fit(one_batch(images, labels, partner=images), verbose=0).history
        weights.append(dense.kernel.numpy())
        assert log["loss"][0] - log["cross_entropy"][0] - log["class_wise"][0] == pytest.approx(
            0.5 * (kernel**2).sum(), rel=1e-4
        )
    np.testing.assert_allclose(weights[1], weights[0], atol=1e-6)


@pytest.mark.parametrize(
    ("policy", "tolerance"),
    few(
        [("float32", 1e-5), ("float64", 1e-5), ("bfloat16", 2e-2), ("mixed_float16", 2e-2), ("mixed_bfloat16", 2e-2)], 1
    ),
)
def test_regularizers_of_any_precision_are_added_in_float32(policy, tolerance, images_and_labels):
    images, labels = images_and_labels
    regularized = {"dtype": policy, "kernel_regularizer": "l2", "activity_regularizer": "l1"}
    hidden = keras.layers.Dense(5, **regularized)
    head = keras.layers.Dense(3, dtype="float32", kernel_regularizer="l2")
    network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), hidden, head])
    model = compiled(network, [CSKD()])
    kernels = [layer.kernel.numpy().astype("float64") for layer in (hidden, head)]
    activity = np.abs(images.reshape(22, -1) @ kernels[0]).sum()
    # The partner's activity, which is without gradient, is not added.
    log = model.fit(one_batch(images, labels, partner=2 * images), verbose=0).history
    added = log["loss"][0] - log["cross_entropy"][0] - log["class_wise"][0]
    expected = 0.01 * sum((kernel**2).sum() for kernel in kernels) + 0.01 * activity / 22  # as Keras has it, an image
    assert added == pytest.approx(expected, rel=tolerance)


def test_the_loss_of_an_evaluation_is_that_of_keras(images_and_labels, two_replicas):
    def network():
        hidden = keras.layers.Dense(5, kernel_regularizer="l2", activity_regularizer="l1")
        head = keras.layers.Dense(3, kernel_regularizer="l2")
        return keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), hidden, head])

    stock = network()
    stock.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    expected = stock.evaluate(*images_and_labels, batch_size=8, verbose=0)
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        with strategy.scope():
            model = compiled(network(), [CSKD()])
        model.network.set_weights(stock.get_weights())
        found = model.evaluate(*images_and_labels, batch_size=8, verbose=0)
        # Activity is a mean over what a replica has of a batch, and replicas have 4 and 4, or 3 and 3, here.
        assert found == pytest.approx(expected, rel=1e-5)


def test_uneven_last_batch_is_averaged_over_itself(linear_network, images_and_labels):
    images, labels = images_and_labels
    model = compiled(linear_network())
    logits = model.predict(images[:6], verbose=0)
    log = model.fit(one_batch(images[:6], labels[:6]), verbose=0).history
    expected = -np.log(softmax(logits)[np.arange(6), labels[:6]]).mean()
    assert log["loss"][0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("kind", "classes", "largest"), [("uint8", 256, 255), ("int8", 130, 127), ("uint8", 300, 255)])
def test_labels_may_take_a_byte(kind, classes, largest, linear_network, images_and_labels):
    images, labels = images_and_labels
    model = compiled(linear_network(classes=classes), [])
    history = model.fit(images, labels.astype(kind), verbose=0).history
    assert np.isfinite(history["loss"]).all()
    large = np.full_like(labels, largest).astype(kind)
    model.fit(images, large, verbose=0)
    narrow = compiled(linear_network(classes=100), [])
    with pytest.raises(ValueError, match="Expected labels from 0 to 99"):
        narrow.fit(images, large, verbose=0)


def test_a_missing_view_is_named(linear_network, images_and_labels):
    images, labels = images_and_labels
    with pytest.raises(ValueError, match=r"need the views \['partner'\].*Received: a batch with \['image'\]"):
        compiled(linear_network(), [CSKD()]).fit(images, labels, verbose=0)


def test_the_data_are_told_among_how_many_replicas_they_are_split(linear_network, images_and_labels, two_replicas):
    with two_replicas.scope():
        model = compiled(linear_network(), [CSKD(in_batch=True)])
    with pytest.raises(ValueError, match="a multiple of 4 as batch size, for whole pairs on each of 2 replica"):
        paired_dataset(*images_and_labels, batch_size=6, seed=0, epochs=1, **model.data_options)


def test_the_file_of_a_classifier_does_not_count_the_models_of_the_process(linear_network, tmp_path):
    model = SelfDistiller(linear_network(), [CSKD()])
    weights = []
    for number in range(2):
        model.classifier().save(tmp_path / f"{number}.keras")
        weights.append(zipfile.ZipFile(tmp_path / f"{number}.keras").read("model.weights.h5"))
    assert weights[0] == weights[1]


@pytest.mark.parametrize("network", [None, "resnet", [1], keras.Sequential, lambda: None])
def test_what_is_no_network_is_refused(network):
    with pytest.raises(UserError, match="Expected network to be a keras.Model.*Received: "):
        SelfDistiller(network)


@pytest.mark.parametrize("chosen", [None, CSKD(), "cskd", {CSKD()}], ids=["None", "one", "a name", "a set"])
def test_methods_that_are_no_list_are_refused(chosen, linear_network):
    with pytest.raises(UserError, match="Expected methods to be a list of cskd_tf.methods. Received: "):
        SelfDistiller(linear_network(), chosen)


@pytest.mark.parametrize("steps", ["auto", 0, 2.0, True])
def test_steps_per_execution_are_a_number_of_steps(steps, linear_network):
    with pytest.raises(UserError, match=f"steps_per_execution to be an integer of at least 1. Received: .*={steps!r}"):
        SelfDistiller(linear_network()).compile("sgd", steps_per_execution=steps)


def test_no_optimizer_is_refused(linear_network):
    with pytest.raises(UserError, match="Expected an optimizer, or its name. Received: optimizer=None"):
        SelfDistiller(linear_network()).compile(None)


@pytest.mark.parametrize("name", ["loss", "cross_entropy", "class_wise"])
def test_a_metric_that_would_be_lost_behind_the_logs_is_refused(name, linear_network):
    model = SelfDistiller(linear_network(), [CSKD()])
    for weighted in ("metrics", "weighted_metrics"):
        with pytest.raises(UserError, match=f"Expected metrics of other names.*Received: .*name={name}"):
            model.compile("sgd", **{weighted: [keras.metrics.SparseCategoricalAccuracy(name=name)]})


@pytest.mark.parametrize("name", ["model.h5", "model.hdf5"])
def test_a_format_that_could_not_be_loaded_is_refused(name, linear_network, tmp_path):
    with pytest.raises(UserError, match=r"Expected a file whose name ends in .keras. Received: .*model.h"):
        SelfDistiller(linear_network()).save(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.thorough
def test_replicas_evaluate_as_one(images_and_labels, batch_norm_network, two_replicas):
    """The metrics of all images, not the mean of what each replica has seen, of which a part is smaller."""
    images, labels = images_and_labels
    found = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        keras.utils.set_random_seed(1)
        with strategy.scope():
            model = SelfDistiller(batch_norm_network(), [CSKD()])
            model.compile(SGD(0.01), metrics=["accuracy", cskd_tf.metrics.ExpectedCalibrationError()])
        options = {"batch_size": 8, "verbose": 0}
        found.append(model.evaluate(images[:21], labels[:21], return_dict=True, **options))
        data = paired_dataset(images, labels, batch_size=8, seed=0, **model.data_options)
        history = model.fit(data, validation_data=(images[:21], labels[:21]), verbose=0).history
        assert "class_wise" in history
        assert "val_class_wise" not in history
    assert set(found[0]) == {"loss", "accuracy", "ece"}
    assert found[1] == pytest.approx(found[0], abs=1e-6)


def test_a_list_of_results_has_one_loss_in_front(linear_network, images_and_labels):
    model = SelfDistiller(linear_network())
    model.compile(SGD(0.01), metrics=["accuracy"])
    loss, accuracy = model.evaluate(*images_and_labels, verbose=0)
    assert model.evaluate(*images_and_labels, verbose=0, return_dict=True) == {"loss": loss, "accuracy": accuracy}
    assert model.test_on_batch(*images_and_labels) == pytest.approx([loss, accuracy])
    assert [metric.name for metric in model.metrics].count("loss") == 1


def test_what_a_network_takes_is_called_image_whatever_its_input_is_called(images_and_labels):
    images, labels = images_and_labels
    pixels = keras.Input(images.shape[1:], name="pixels")
    network = keras.Model(pixels, keras.layers.Dense(3)(keras.layers.Flatten()(pixels)))
    model = compiled(network)
    with pytest.raises(ValueError, match=r"network takes as 'image', .*Received: a batch with \['pixels'\]"):
        model.fit({"pixels": images}, labels, verbose=0)
    assert np.isfinite(model.fit({"image": images}, labels, verbose=0).history["loss"]).all()
