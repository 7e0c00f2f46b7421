"""Each format returns what the SavedModel does, on images of any size where it takes them, and else is refused."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import cskd_tf
from cskd_tf.errors import UserError
from cskd_tf.serving import saved_model
from cskd_tf.serving.calibration import Calibration
from cskd_tf.serving.functions import Serving
from cskd_tf.serving.runtimes import formats
from cskd_tf.serving.runtimes.base import Material
from cskd_tf.serving.runtimes.numbers import Numbers
from tests import pages

pytestmark = [pytest.mark.runtimes, pytest.mark.filterwarnings("default::DeprecationWarning")]
EXACT = [name for name, form in formats.FORMATS.items() if form.exact]
SIZE, CLASSES = 8, 7


def serving_around(network, methods=(), *, size=SIZE, channels=3, temperature=1.7):
    options = {"image_size": size, "short_side": size + 2, "crop": "none", "flip": False}
    _, transform = cskd_tf.data.build_transforms(
        cskd_tf.data.Augmentation(**options, mean=(0.5,) * channels, std=(0.25,) * channels)
    )
    model = cskd_tf.SelfDistiller(network, methods)
    names = [f"class {number}" for number in range(model.output_shape[-1])]
    calibration = Calibration(temperature=temperature, threshold=0.12, coverage=0.9)
    return Serving(model, transform, class_names=names, calibration=calibration)


def material_of(serving, *, count=64):
    """Random images, of two sizes, and labels."""
    generator = np.random.default_rng(0)
    size, channels = serving.size, serving.channels

    def images(*shape):
        return generator.integers(0, 256, (*shape, channels), np.uint8)

    return Material(
        numbers=Numbers(serving),
        images=[images(3, size, size), images(2, 3 * size + 1, 2 * size + 3)],
        training_pixels=lambda: images(32, size, size).astype(np.float32),
        test_pixels=images(count, size, size).astype(np.float32),
        test_labels=generator.integers(0, len(serving.class_names), count),
        ece_bins=10,
        opset=17,
    )


@pytest.fixture(scope="module")
def serving():
    keras.utils.set_random_seed(0)
    return serving_around(
        cskd_tf.networks.build("preact_resnet10", num_classes=CLASSES, input_shape=(SIZE, SIZE, 3), width=4)
    )


@pytest.fixture(scope="module")
def material(serving):
    return material_of(serving)


@pytest.fixture(scope="module")
def loaded(serving, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved_model") / "1"
    saved_model.write(serving, folder)
    return tf.saved_model.load(str(folder))


@pytest.mark.parametrize("name", ["litert", "litert_int8"])
def test_litert_refuses_pixels_of_another_size(name, material, tmp_path):
    """Whose sizes its interpreter would take for its own: the network computes something of any size."""
    run, _ = written(name, tmp_path, material)
    assert run(np.zeros((2, SIZE, SIZE, 3), np.float32))["probabilities"].shape == (2, CLASSES)
    for height, width in ((2 * SIZE, 2 * SIZE), (SIZE, SIZE + 1), (SIZE - 1, SIZE)):
        with pytest.raises(RuntimeError, match="not broadcastable|failed to reshape"):
            run(np.zeros((1, height, width, 3), np.float32))


def written(name, folder, material):
    form = formats.FORMATS[name]
    if missing := form.missing():
        pytest.skip(f"requirements-export.txt: {missing}")
    reports = formats.write_all([name], folder, material)
    return form.load(folder / name), reports[name]


@pytest.mark.parametrize("name", EXACT)
def test_probabilities_are_those_of_the_saved_model(name, material, loaded, tmp_path):
    run, report = written(name, tmp_path, material)
    assert report["largest_difference"] < 1e-5
    assert report["features_difference"] < 1e-5
    assert report["bytes"] == sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    for images in material.images if formats.FORMATS[name].takes_images else [material.images[0][:, :SIZE, :SIZE]]:
        given = images
        if not formats.FORMATS[name].takes_images:
            given = material.numbers.serving.resize(tf.constant(images)).numpy()
        outputs, served = run(given), loaded.serve(images)
        np.testing.assert_allclose(outputs["probabilities"], served["probabilities"], atol=1e-5)
        np.testing.assert_array_equal(outputs["top_classes"], served["top_classes"])
        np.testing.assert_array_equal(outputs["conformal_set"], served["conformal_set"])
        features = loaded.embeddings(images)
        for key in ("embedding", "logits"):
            np.testing.assert_allclose(outputs[key], features[key], atol=1e-5)
        assert run(given[:1])["probabilities"].shape == (1, CLASSES)


@pytest.mark.parametrize(
    ("name", "temporary"),
    [*((name, False) for name in formats.FORMATS), *((name, True) for name in ("litert", "litert_int8", "openvino"))],
)
def test_a_full_disk_is_named_and_no_format_is_blamed(name, temporary, material, disk_of, tmp_path, monkeypatch):
    if missing := formats.FORMATS[name].missing():
        pytest.skip(f"requirements-export.txt: {missing}")
    disk = disk_of("20k")
    if temporary:
        monkeypatch.setattr("tempfile.tempdir", str(disk))
    with pytest.raises(OSError, match=rf"No space left on device: '{disk}'"):
        formats.write_all([name], tmp_path / "out" if temporary else disk, material)


def test_what_fails_where_there_is_room_is_no_full_disk(material, disk_of, monkeypatch):
    def write(form, folder, material):
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(type(formats.FORMATS["web"]), "write", write)
    with pytest.raises(UserError, match="Expected web to return what the SavedModel does"):
        formats.write_all(["web"], disk_of("2m"), material)


@pytest.fixture(scope="module")
def trained():
    """A network that tells digits apart, and the images and labels that it was not trained on."""
    keras.utils.set_random_seed(0)
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images, labels = (images.reshape(-1, SIZE, SIZE, 1) * 255 / 16).astype(np.float32), labels.astype(np.int32)
    network = cskd_tf.networks.build("preact_resnet10", num_classes=10, input_shape=(SIZE, SIZE, 1), width=8)
    serving = serving_around(network, channels=1, temperature=None)
    serving.model.compile(cskd_tf.optimizers.SGD(0.05, momentum=0.9))
    pixels = (images[:1000] / 255 - 0.5) / 0.25
    data = cskd_tf.data.paired_dataset(pixels, labels[:1000], batch_size=50, seed=0, epochs=12)
    serving.model.fit(data, epochs=12, verbose=0)
    return serving, images, labels


def test_int8_is_calibrated_on_training_images_and_judged_on_others(trained, tmp_path):
    serving, images, labels = trained
    material = dataclasses.replace(
        material_of(serving), training_pixels=lambda: images[:200], test_pixels=images[1000:], test_labels=labels[1000:]
    )
    run, report = written("litert_int8", tmp_path, material)
    expected = material.numbers.expected(images[1000:])["probabilities"]
    found = np.concatenate([run(images[start : start + 50])["probabilities"] for start in range(1000, 1797, 50)])
    assert (expected.argmax(axis=1) == labels[1000:]).mean() > 0.95
    agreement = (found.argmax(axis=1) == expected.argmax(axis=1)).mean()
    assert report["top1_agreement"] == pytest.approx(agreement, abs=2e-3)
    assert agreement > 0.98
    assert abs(report["ece"] - report["ece_of_the_saved_model"]) < 0.005
    assert report["ece_of_the_saved_model"] == pytest.approx(
        cskd_tf.metrics.expected_calibration_error(np.log(expected), labels[1000:], bins=10), abs=1e-6
    )
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert np.abs(found - expected).max() > 0
    assert len(np.unique(found)) > 1000  # in int8 there would be 256 probabilities
    exact = tmp_path / "exact"
    _, float32 = written("litert", exact, material)
    assert report["bytes"] < 0.4 * float32["bytes"]


def test_int8_that_was_calibrated_on_other_images_is_refused(trained, tmp_path):
    serving, images, labels = trained
    dark = dataclasses.replace(
        material_of(serving), training_pixels=lambda: images[:50] / 50, test_pixels=images[1000:],
        test_labels=labels[1000:],
    )  # fmt: skip
    with pytest.raises(UserError, match=r"Expected litert_int8 .* Received: its ECE is .* agreement .*, 797 test"):
        written("litert_int8", tmp_path, dark)


def test_what_differs_is_refused(serving, material, tmp_path):
    """The file is made of other weights than those that the classifier has when it is compared."""
    other = Numbers(serving)
    weights = serving.model.get_weights()
    expected = [other.expected(images) for images in material.images]
    other.expected = lambda images: expected[len(images) == 2]
    try:
        serving.model.set_weights([weight + np.float32(0.01) for weight in weights])
        with pytest.raises(UserError, match=r"Expected onnx to return .* Received: its outputs differ by .*, above"):
            written("onnx", tmp_path, dataclasses.replace(material, numbers=other))
    finally:
        serving.model.set_weights(weights)


def test_what_a_converter_does_not_know_is_refused(tmp_path):
    """No format has TensorFlow's Bessel functions."""
    inputs = keras.Input((SIZE, SIZE, 3))
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(Bessel()(inputs)))
    material = material_of(serving_around(keras.Model(inputs, outputs)))
    for name in EXACT:
        with pytest.raises(UserError, match=rf"Expected {name} to return .* Received: .* Nothing was published"):
            written(name, tmp_path, material)


class Bessel(keras.layers.Layer):
    def call(self, inputs):
        return tf.math.special.bessel_i0e(inputs)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_a_network_of_half_precision_is_served_in_float32(precision, tmp_path):
    keras.config.set_dtype_policy(precision)
    network = cskd_tf.networks.build("preact_resnet10", num_classes=CLASSES, input_shape=(SIZE, SIZE, 3), width=4)
    serving = serving_around(network)
    keras.config.set_dtype_policy("float32")
    same = cskd_tf.networks.build("preact_resnet10", num_classes=CLASSES, input_shape=(SIZE, SIZE, 3), width=4)
    same.set_weights(network.get_weights())
    expected = Numbers(serving_around(same))
    material = material_of(serving)
    images = material.images[1]
    half = tf.function(serving.numbers_of_images, autograph=False)(tf.constant(images))["logits"]
    for name in EXACT:
        run, _ = written(name, tmp_path, material)
        if formats.FORMATS[name].takes_images:
            logits = run(images)["logits"]
            error = np.abs(logits - expected.expected(images)["logits"]).max()
            assert 10 * error < np.abs(logits - half).max()
    assert {layer.compute_dtype for layer in network.layers if layer.name.endswith("conv1")} == {precision[6:]}


def test_the_lines_of_the_page_run(serving, material, tmp_path, monkeypatch):
    names = ("onnx", "litert", "openvino")
    for name in names:
        written(name, tmp_path / "saved_models" / "digits" / "1" / "runtimes", material)
    monkeypatch.chdir(tmp_path)
    blocks = [block for block in pages.blocks("docs/serving.md", "python") if block.reason == "needs other runtimes"]
    images = material.images[0]
    for block in blocks:
        known = {"images": images, "pixels": serving.resize(tf.constant(images)).numpy()}
        exec(compile(block.text, block.page, "exec"), known)
        expected = serving.of_images(tf.constant(images))["probabilities"]
        np.testing.assert_allclose(known["outputs"]["probabilities"], expected, atol=1e-5)
    assert len(blocks) == len(names)
