"""Several classes of an image: losses and methods in the sigmoid form, against Keras and numpy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf import methods
from cskd_tf.data import paired_dataset
from cskd_tf.errors import UserError
from cskd_tf.methods import CSKD, PSKD, LabelSmoothing, MaxEntropy, Method
from cskd_tf.training.callbacks import Evaluation
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.keras_metrics import ExpectedCalibrationError
from tests.selection import few, quick

WEIGHTS = np.random.default_rng(3).uniform(0, 3, 22).astype("float32")
TARGETS = (np.random.default_rng(4).random((22, 3)) < 0.4).astype("float32")  # some images have no class, some all
SHARES = np.random.default_rng(5).random((22, 3)).astype("float32")


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits.astype("float64")))


def bernoulli(p, q):
    """KL between choices of yes and no, for each class."""
    return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))


def set_weights(network):
    network.set_weights([np.random.default_rng(1).normal(size=weight.shape) for weight in network.weights])
    return network


def model_of(network, chosen=(), *, learning_rate=0.1, **options):
    model = SelfDistiller(set_weights(network), chosen, multi_label=True, num_examples=22)
    model.compile(keras.optimizers.SGD(learning_rate), **{"run_eagerly": True, **options})
    return model


def forward(weights, images):
    return images.reshape(len(images), -1) @ weights[0] + weights[1]


@pytest.mark.parametrize(
    ("targets", "epsilon"),
    few(
        [
            (TARGETS, 0.2),
            (SHARES, 0.0),
            pytest.param(TARGETS.astype(bool), 0.0, marks=pytest.mark.thorough),
            (TARGETS.astype("int32"), 0.0),
        ],
        1,
    ),
)
def test_the_loss_is_keras_binary_cross_entropy(targets, epsilon, linear_network, images_and_labels):
    images, _ = images_and_labels
    network = set_weights(linear_network())

    def options():
        return {"weighted_metrics": [keras.metrics.BinaryAccuracy(threshold=0.0)], "run_eagerly": True}

    loss = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=epsilon)
    network.compile(keras.optimizers.SGD(0.1), loss, **options())
    model = model_of(linear_network(), [LabelSmoothing(epsilon=epsilon)], **options())
    fitted = {"sample_weight": WEIGHTS, "batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0}
    expected = network.fit(images, targets.astype("float32"), **fitted).history
    logs = model.fit(images, targets, **fitted).history
    for name, values in expected.items():
        np.testing.assert_allclose(logs[name], values, rtol=1e-5, err_msg=name)
    for one, other in zip(model.network.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("jit", quick([False, True], True))
def test_class_wise_and_clean_terms(jit, linear_network, images_and_labels):
    images, _ = images_and_labels
    views = {"image": images, "partner": images[::-1].copy(), "clean": images + 0.5}
    chosen = [CSKD(temperature=2.0, weight=3.0, clean_weight=0.5)]
    model = model_of(linear_network(), chosen, run_eagerly=False, jit_compile=jit)
    weights = [weight.astype("float64") for weight in model.network.get_weights()]
    logits = {view: forward(weights, each) for view, each in views.items()}
    softened = {view: sigmoid(each / 2) for view, each in logits.items()}
    probability = sigmoid(logits["image"])
    expected = {
        "cross_entropy": -(TARGETS * np.log(probability) + (1 - TARGETS) * np.log(1 - probability)).mean(axis=1),
        "class_wise": 3 * 4 * bernoulli(softened["partner"], softened["image"]).mean(axis=1),
        "sample_wise": 0.5 * 4 * bernoulli(softened["clean"], softened["image"]).mean(axis=1),
    }
    pulls = 3 * (softened["image"] - softened["partner"]) + 0.5 * (softened["image"] - softened["clean"])
    gradient = WEIGHTS[:, None] * (probability - TARGETS + 2 * pulls) / 3 / 22
    data = tf.data.Dataset.from_tensors((views, TARGETS, WEIGHTS))
    logs = model.fit(data, verbose=0).history
    for name, values in expected.items():
        assert logs[name] == [pytest.approx((WEIGHTS * values).mean(), rel=1e-5)], name
    after = weights[0] - 0.1 * images.reshape(22, -1).T @ gradient, weights[1] - 0.1 * gradient.sum(axis=0)
    for one, other in zip(model.network.get_weights(), after, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


@pytest.mark.parametrize("top_k", [None, 1])
def test_three_epochs_of_pskd_are_those_of_numpy(top_k, linear_network, images_and_labels):
    images, _ = images_and_labels
    model = model_of(linear_network(), [PSKD(alpha=0.6, top_k=top_k)])
    weights, losses, previous = [each.astype("float64") for each in model.network.get_weights()], [], None
    for epoch in (1, 2, 3):
        share = 0.6 * epoch / 3 if epoch > 1 else 0.0
        targets = TARGETS if previous is None else (1 - share) * TARGETS + share * previous
        probability = sigmoid(forward(weights, images))
        losses.append(-(targets * np.log(probability) + (1 - targets) * np.log(1 - probability)).mean())
        gradient = (probability - targets) / TARGETS.size
        weights = [weights[0] - 0.1 * images.reshape(22, -1).T @ gradient, weights[1] - 0.1 * gradient.sum(axis=0)]
        previous = probability
    data = tf.data.Dataset.from_tensors(({"image": images, "index": np.arange(22)}, TARGETS))
    logs = model.fit(data.repeat(), steps_per_epoch=1, epochs=3, verbose=0).history
    np.testing.assert_allclose(logs["loss"], losses, rtol=3e-4)  # the table has 2 bytes for each
    for one, other in zip(model.network.get_weights(), weights, strict=True):
        np.testing.assert_allclose(one, other, atol=3e-5)
    assert model.methods[0].table.shape == (22, 3, top_k or 2)


class Distance(Method):
    """One value per image, beside those of each class."""

    per_class = True
    term_names = ("distance",)

    def terms(self, batch, outputs, targets):
        return {"distance": tf.reduce_sum(outputs["image"]["logits"][..., 0] ** 2, axis=-1)}


def test_entropy_of_each_class_and_values_of_the_image(linear_network, images_and_labels):
    images, _ = images_and_labels
    model = model_of(linear_network(), [MaxEntropy(weight=0.7), Distance()])
    logits = forward(model.network.get_weights(), images)
    p = sigmoid(logits)
    logs = model.train_on_batch(images, TARGETS, return_dict=True)
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p)).mean()
    assert logs["negative_entropy"] == pytest.approx(-0.7 * entropy, rel=1e-5)
    assert logs["distance"] == pytest.approx((logits**2).sum(axis=1).mean(), rel=1e-5)


@pytest.mark.thorough
def test_replicas_and_parts_of_a_batch_take_the_same_step(linear_network, images_and_labels, replicas):
    images, _ = images_and_labels
    inputs = {"image": images, "partner": images[::-1], "index": np.arange(22)}
    made = []
    for count, parts in ((1, 1), (2, 2)):
        with replicas(count).scope():
            options = {"run_eagerly": False, "gradient_accumulation_steps": parts}
            model = model_of(linear_network(), [CSKD(weight=2.0), PSKD(alpha=0.6)], **options)
        data = tf.data.Dataset.from_tensor_slices((inputs, TARGETS, WEIGHTS)).batch(8).repeat()
        history = model.fit(data, epochs=2, steps_per_epoch=3, verbose=0).history
        made.append((history, [*model.network.get_weights(), model.methods[1].table.numpy().astype("float32")]))
    for name, values in made[0][0].items():
        np.testing.assert_allclose(made[1][0][name], values, rtol=1e-5, err_msg=name)
    for one, other in zip(made[0][1], made[1][1], strict=True):
        np.testing.assert_allclose(other, one, atol=1e-6, rtol=1e-3 if one.ndim == 3 else 0)


@pytest.mark.thorough
def test_a_model_comes_back_from_its_file(linear_network, images_and_labels, tmp_path):
    images, _ = images_and_labels
    model = model_of(linear_network(), [PSKD()])
    model.train_on_batch({"image": images, "index": np.arange(22)}, TARGETS)
    model.save(tmp_path / "model.keras")
    model.classifier().save(tmp_path / "classifier.keras")
    expected = model.predict(images, verbose=0)
    assert expected.shape == (22, 3)
    np.testing.assert_allclose(expected, forward(model.network.get_weights(), images), atol=1e-5)
    for name in ("model", "classifier"):
        loaded = keras.models.load_model(tmp_path / f"{name}.keras")
        assert loaded.multi_label
        np.testing.assert_array_equal(loaded.predict(images, verbose=0), expected)


@pytest.mark.parametrize(
    "chosen",
    [
        lambda: methods.AdaCos(),
        lambda: methods.VirtualSoftmax(),
        lambda: methods.BYOT(),
        lambda: methods.DDGSD(),
        lambda: methods.DLB(),
        lambda: methods.USKD(),
        lambda: methods.ZipfLabelSmoothing(),
        lambda: methods.TFKD(),
        lambda: methods.Mixup(),
        lambda: methods.Cutout(),
        lambda: CSKD(in_batch=True),
        lambda: PSKD(source="network"),
        lambda: type("Own", (Method,), {})(),
    ],
)
def test_methods_without_a_sigmoid_form_are_named(chosen, linear_network):
    method = chosen()
    message = rf"several classes of an image.*\(Method.per_class\). Received: \['{type(method).__name__}'\]"
    with pytest.raises(ValueError, match=message):
        model_of(linear_network(), [method])


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (TARGETS + 0.5, r"Expected targets from 0 to 1 of several classes.*Received: \[1.5\]"),
        (TARGETS - 1, r"Received: \[-1.0\]"),
        (np.full((22, 3), np.nan), r"from 0 to 1 of several classes.*Received: \[nan\]"),
        (np.arange(22) % 3, r"Expected targets \[B, 3\] of several classes.*Received: int64 of shape \(22,\)"),
        (np.ones((22, 4)), r"Received: float64 of shape \(22, 4\)"),
    ],
)
def test_targets_that_are_none_are_refused(targets, message, linear_network, images_and_labels):
    images, _ = images_and_labels
    with pytest.raises(ValueError, match=message):
        model_of(linear_network()).fit(images, targets, verbose=0)


def test_what_is_of_one_class_is_refused(linear_network, images_and_labels):
    images, labels = images_and_labels
    model = model_of(linear_network())
    with pytest.raises(ValueError, match="labels are several classes of an image.*a PairedDataset, of one class each"):
        model.fit(paired_dataset(images, labels, batch_size=8, seed=0), verbose=0)
    with pytest.raises(ValueError, match=r"of several classes.*BinaryAccuracy\(threshold=0.0\).*Received: 'accuracy'"):
        model.compile("sgd", metrics=["accuracy"])
    with pytest.raises(ValueError, match="sample_weight of labels that are several classes.*Received: class_weight"):
        model.train_on_batch(images, TARGETS, class_weight={0: 2.0})
    with pytest.raises(ValueError, match="sequences or several classes. Received: sequences=True, multi_label=True"):
        SelfDistiller(linear_network(), sequences=True, multi_label=True)
    with pytest.raises(ValueError, match="one class each.*Received: a model whose labels are several classes of an im"):
        model.fit(images, TARGETS, verbose=0, callbacks=[Evaluation((images, TARGETS))])
    with pytest.raises(ValueError, match="a teacher of one class of each image. Received: a teacher with multi_label"):
        SelfDistiller(linear_network(), [methods.Distillation(teacher=model)])
    with pytest.raises(ValueError, match="as after a sigmoid"):
        SelfDistiller(linear_network(activation="sigmoid"), multi_label=True)


@pytest.mark.parametrize(
    ("metric", "is_sound"),
    [
        ("binary_accuracy", False),
        ("categorical_accuracy", False),
        ("binary_crossentropy", False),
        ("mse", True),
        (keras.metrics.BinaryAccuracy(), False),
        (keras.metrics.BinaryAccuracy(threshold=0.0), True),
        (keras.metrics.AUC(), False),
        (keras.metrics.AUC(multi_label=True, from_logits=True), True),
        (keras.metrics.Precision(), False),
        (keras.metrics.Precision(thresholds=0), True),
        (keras.metrics.SensitivityAtSpecificity(0.5), False),
        (keras.metrics.BinaryCrossentropy(from_logits=True), True),
        (keras.metrics.TopKCategoricalAccuracy(), False),
        (keras.metrics.CategoricalCrossentropy(from_logits=True), False),
        (ExpectedCalibrationError(), False),
        (keras.metrics.MeanMetricWrapper(lambda targets, logits: logits), True),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_metrics_that_would_read_logits_as_something_else_are_refused(metric, is_sound, linear_network):
    model = SelfDistiller(linear_network(), multi_label=True)
    for weighted in ("metrics", "weighted_metrics"):
        if is_sound:
            model.compile("sgd", **{weighted: [metric]})
        else:
            with pytest.raises(ValueError, match=r"BinaryAccuracy\(threshold=0.0\).*Received: "):
                model.compile("sgd", **{weighted: [metric]})


@pytest.mark.parametrize("name", ["accuracy", "acc", "crossentropy", "ce", "Acc"])
def test_names_of_which_keras_makes_metrics_of_one_class_are_refused(name, linear_network):
    with pytest.raises(UserError, match=f"Expected metrics of several classes and their logits.*Received: '{name}'"):
        SelfDistiller(linear_network(), multi_label=True).compile("sgd", metrics=[name])
