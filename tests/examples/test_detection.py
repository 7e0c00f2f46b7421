"""A backbone of ours under KerasHub's RetinaNet; skipped where requirements-detection.txt is not installed."""

import keras
import numpy as np
import pytest

import cskd_tf

pytestmark = pytest.mark.detection
pytest.importorskip("keras_hub", reason="requirements-detection.txt")
pytest.importorskip("pycocotools", reason="requirements-detection.txt")

from examples.detection import retinanet  # noqa: E402, once KerasHub is known to be there


@pytest.fixture
def classifier(tmp_path):
    """The file of a classifier, as a run leaves it."""
    network = cskd_tf.networks.build("resnet10", num_classes=4, input_shape=(32, 32, 3), width=4)
    model = cskd_tf.SelfDistiller(network, [cskd_tf.methods.CSKD()])
    model.classifier().save(tmp_path / "classifier.keras")
    return str(tmp_path / "classifier.keras")


def test_two_steps_of_retinanet_on_a_run_of_ours(classifier, tmp_path):
    model = retinanet.detector(classifier)
    encoder = model.backbone.image_encoder
    before = [weight.numpy() for weight in encoder.trainable_weights]
    images, boxes = retinanet.drawn(4, channels=3, seed=0)
    trained, part = keras.models.load_model(classifier).network, images[:, :32, :32]
    expected = cskd_tf.networks.NetworkOutputs(trained)(part)["stages"]
    for one, two in zip(encoder(part).values(), expected, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)
    model.compile(optimizer=keras.optimizers.Adam(1e-3))
    history = model.fit(images, boxes, batch_size=2, shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert int(model.optimizer.iterations) == 2
    moved = [np.abs(weight.numpy() - old).max() for weight, old in zip(encoder.trainable_weights, before, strict=True)]
    assert min(moved) > 0  # down to the stem
    found = model.predict(images, verbose=0)
    assert 0 <= retinanet.mean_average_precision(found, boxes) <= 1
    model.backbone.save(tmp_path / "pyramid.keras")
    again, pyramid = keras.models.load_model(tmp_path / "pyramid.keras")(images), model.backbone(images)
    for level, values in pyramid.items():
        np.testing.assert_allclose(again[level], values, atol=1e-5)


def test_mean_average_precision_by_hand():
    """A disc and a square, and two discs, of which one is not found; the disc that is nowhere is the surest."""
    disc, square, nowhere = [0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]
    truth = {
        "boxes": np.array([[disc, square], [disc, [30, 0, 40, 10]]], "float32"),
        "labels": np.array([[0, 1], [0, 0]]),
    }
    found = {
        "boxes": np.array([[disc, square], [nowhere, disc]], "float32"),
        "labels": np.array([[0, 1], [0, 0]]),
        "confidence": np.array([[0.8, 0.7], [0.9, 0.6]], "float32"),
        "num_detections": np.array([2, 2]),
    }
    # Discs, by falling confidence: wrong, right, right, of 3. The best precision at a recall of up to 2/3 is 2/3, and
    # beyond that 0; of the 101 recalls 67 are at most 2/3. Squares: 1.
    expected = (67 * 2 / 3 / 101 + 1) / 2
    assert retinanet.mean_average_precision(found, truth) == pytest.approx(expected)
    found["num_detections"][:] = 0
    assert retinanet.mean_average_precision(found, truth) == 0
    nothing = {"boxes": np.zeros((2, 0, 4)), "labels": np.zeros((2, 0), int)}
    assert retinanet.mean_average_precision(found, nothing) is None


def test_boxes_are_around_what_is_drawn():
    images, boxes = retinanet.drawn(3, channels=1, seed=0)
    for image, places in zip(images, boxes["boxes"].astype(int), strict=True):
        bright = np.zeros(image.shape[:2])
        for left, top, right, bottom in places:
            bright[top:bottom, left:right] = 1
            assert image[top:bottom, left:right].mean() > 0.9
        assert abs(image[bright == 0].mean()) < 0.05
