"""Networks of Keras' applications and of KerasHub, with weights that the tests write: nothing is downloaded."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.utils import file_utils  # which the applications ask for their weights

import cskd_tf
from cskd_tf.data import paired_dataset
from cskd_tf.errors import UserError
from cskd_tf.networks import build, check
from cskd_tf.networks.pretrained import Renormalization, check_preset

MEAN, DEVIATION = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
APPLICATION = "keras.applications:MobileNet"  # a small one that scales its pixels outside of the network
SHAPE = (32, 32, 3)


@pytest.fixture(scope="module")
def backbone():
    keras.utils.set_random_seed(3)
    made = keras.applications.MobileNet(weights=None, include_top=False, input_shape=SHAPE)
    norms = [layer for layer in made.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    made(np.random.default_rng(1).uniform(-1, 1, (64, *SHAPE)), training=True)  # or its embedding were 1e-20
    return made


@pytest.fixture(scope="module")
def file(backbone, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "notop.weights.h5"
    backbone.save_weights(path)
    return str(path)


@pytest.fixture(scope="module")
def network(file):
    return build(APPLICATION, num_classes=3, input_shape=SHAPE, weights=file, normalization=(MEAN, DEVIATION))


def pixels_and_images(count=4):
    """Pixels from 0 to 255, and what our own normalisation makes of them."""
    pixels = np.random.default_rng(0).uniform(0, 255, (count, *SHAPE)).astype("float32")
    return pixels, (pixels / 255 - MEAN) / DEVIATION


@pytest.mark.thorough
def test_an_application_sees_its_own_preprocessing_of_our_images(network, backbone):
    pixels, images = pixels_and_images()
    expected = backbone(keras.applications.mobilenet.preprocess_input(pixels.copy())).numpy().mean(axis=(1, 2))
    outputs = cskd_tf.networks.NetworkOutputs(network)(images)
    assert np.abs(expected).mean() > 0.01
    np.testing.assert_allclose(outputs["embedding"], expected, rtol=1e-3, atol=2e-4)
    head = network.get_layer("classifier")
    np.testing.assert_allclose(outputs["logits"], expected @ head.kernel + head.bias, rtol=1e-3, atol=2e-4)
    assert outputs["logits"].shape == (4, 3)


# One of each module. EfficientNet is what Keras builds otherwise where it loads the weights.
OTHERS = (
    "ConvNeXtTiny", "DenseNet121", "EfficientNetV2B0", "InceptionResNetV2", "InceptionV3", "MobileNet", "MobileNetV2",
    "MobileNetV3Small", "NASNetMobile", "ResNet50", "ResNet50V2", "VGG16", "VGG19", "Xception",
)  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["EfficientNetB0", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_a_file_of_its_weights_makes_the_network_that_keras_makes_of_them(name, monkeypatch, tmp_path):
    size = 32 if name == "EfficientNetB0" else 224
    function = getattr(keras.applications, name)
    made = function(weights=None, include_top=False, input_shape=(size, size, 3))
    made.save_weights(tmp_path / "notop.weights.h5")
    options = {"num_classes": 2, "input_shape": (size, size, 3), "normalization": (MEAN, DEVIATION)}
    of_file = build(f"keras.applications:{name}", weights=str(tmp_path / "notop.weights.h5"), **options)
    loads = keras.Model.load_weights
    monkeypatch.setattr(file_utils, "get_file", lambda *_, **__: "downloaded")
    monkeypatch.setattr(
        keras.Model, "load_weights",
        lambda model, path: loads(model, tmp_path / "notop.weights.h5" if path == "downloaded" else path),
    )  # fmt: skip
    of_keras = build(f"keras.applications:{name}", weights="", **options)
    kinds = [[type(layer).__name__ for layer in network.layers] for network in (of_file, of_keras)]
    assert kinds[0] == kinds[1]
    of_keras.set_weights(of_file.get_weights())
    images = np.random.default_rng(0).normal(size=(1, size, size, 3)).astype("float32")
    np.testing.assert_array_equal(of_file(images), of_keras(images))


@pytest.mark.slow
def test_an_application_trains_and_is_saved(network, tmp_path):
    _, images = pixels_and_images(8)
    model = cskd_tf.SelfDistiller(network, [cskd_tf.methods.CSKD()])
    model.compile(cskd_tf.optimizers.make("AdamW", 1e-3, weight_decay=0.0, arguments={}, restarts=True))
    data = paired_dataset(images.astype("float32"), np.arange(8) % 3, batch_size=8, seed=0, **model.data_options)
    before = [weight.numpy() for weight in network.trainable_weights]
    model.fit(data, verbose=0, callbacks=[cskd_tf.callbacks.FrozenBackbone(1)])
    moved = [not np.array_equal(one, two.numpy()) for one, two in zip(before, network.trainable_weights, strict=True)]
    assert moved == [False] * (len(moved) - 2) + [True] * 2
    model.classifier().save(tmp_path / "classifier.keras")
    copy = keras.models.load_model(tmp_path / "classifier.keras")
    np.testing.assert_allclose(copy(images), model(images), atol=1e-5)
    model.export(str(tmp_path / "saved"), verbose=False)
    saved = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_allclose(saved.serve(images.astype("float32")), model(images), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        pytest.param("ResNet50", "resnet", marks=pytest.mark.slow),  # blue first
        pytest.param("DenseNet121", "densenet", marks=pytest.mark.slow),  # a scale for each channel
        pytest.param("EfficientNetB0", "efficientnet", marks=pytest.mark.slow),  # within the network
    ],
)
def test_every_kind_of_preprocessing_is_found(name, module):
    pixels, images = pixels_and_images(2)
    options = {"num_classes": 2, "input_shape": SHAPE, "weights": "random"}
    built = build(f"keras.applications:{name}", **options, normalization=(MEAN, DEVIATION))
    between = built.get_layer("renormalization")
    expected = getattr(keras.applications, module).preprocess_input(pixels.copy())
    np.testing.assert_allclose(between(images), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("keras.applications:ResNet51", {}, r"Unknown application of Keras; expected one of \[.*'ResNet50'"),
        (APPLICATION, {"input_shape": (32, 32, 1)}, f"images of 3 channels for {APPLICATION}. Received: 1 of them"),
        (
            APPLICATION,
            {"input_shape": (16, 16, 3)},
            r"images that MobileNet takes. Received: \(16, 16, 3\) \(Input size",
        ),
        (APPLICATION, {"width": 8}, "network.width=0 for keras.applications:MobileNet, which comes in one width"),
        (APPLICATION, {"synchronized": True}, "none of synchronized, which keras.applications:MobileNet"),
        (APPLICATION, {"weights": "nowhere.h5"}, "network.weights as a .keras or .h5 file"),
    ],
)
def test_what_an_application_cannot_take_is_refused_before_work(name, changes, message):
    with pytest.raises(UserError, match=message):
        check(name, **{"num_classes": 2, "input_shape": SHAPE, **changes})


@pytest.mark.filterwarnings("ignore:`input_shape` is undefined:UserWarning")
@pytest.mark.thorough
def test_weights_that_cannot_be_downloaded_are_one_line(monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("URL fetch failure on https://storage.googleapis.com: no route to host")

    monkeypatch.setattr(keras.utils, "get_file", refuse)
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", refuse)
    with pytest.raises(UserError, match=r"weights of MobileNet within reach; network.weights=FILE.*URL fetch failure"):
        build(APPLICATION, num_classes=2, input_shape=SHAPE)


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """The folder of a preset, and its backbone, of random weights."""
    hub = pytest.importorskip("keras_hub", reason="the extra hub")
    keras.utils.set_random_seed(3)
    options = {"input_conv_filters": [64], "input_conv_kernel_sizes": [7], "stackwise_num_filters": [64]}
    blocks = {"stackwise_num_blocks": [1], "stackwise_num_strides": [1], "block_type": "basic_block"}
    backbone = hub.models.ResNetBackbone(**options, **blocks)
    folder = tmp_path_factory.mktemp("presets") / "tiny"
    backbone.save_to_preset(str(folder))
    converter = hub.layers.ResNetImageConverter(scale=[1 / 51, 1 / 255, 1 / 85], offset=[-1.0, 0.5, -2.0])
    converter.save_to_preset(str(folder))
    return folder, backbone


@pytest.mark.detection
def test_a_preset_sees_what_its_image_converter_makes_of_our_images(preset):
    folder, backbone = preset
    pixels, images = pixels_and_images()
    options = {"num_classes": 3, "input_shape": SHAPE, "normalization": (MEAN, DEVIATION)}
    scaled = (pixels / [51, 255, 85] + [-1.0, 0.5, -2.0]).astype("float32")
    expected = backbone(scaled).numpy().mean(axis=(1, 2))
    for arguments in (
        {"name": f"keras_hub:{folder}"},
        {"name": "keras_hub:resnet_18_imagenet", "weights": str(folder)},
    ):
        outputs = cskd_tf.networks.NetworkOutputs(build(**arguments, **options))(images)
        np.testing.assert_allclose(outputs["embedding"], expected, rtol=1e-3, atol=1e-4)
        assert outputs["logits"].shape == (4, 3)
    anew = build(f"keras_hub:{folder}", **options, weights="random")
    assert not np.array_equal(anew.get_layer("conv1_conv").kernel, backbone.get_layer("conv1_conv").kernel)


@pytest.mark.detection
def test_presets_that_are_not_there_are_refused_at_once(preset, monkeypatch, tmp_path):
    for name, message in (
        (
            "resnet_18_imagnet",
            r"Unknown preset; expected one of KerasHub's \[.*'resnet_18_imagenet'.*Received: 'resnet_18",
        ),
        (str(tmp_path), f"folder of a preset of KerasHub, with config.json. Received: {tmp_path}"),
        ("./nowhere", "folder of a preset of KerasHub, with config.json. Received: ./nowhere"),
    ):
        with pytest.raises(UserError, match=message):
            check_preset(name)
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    monkeypatch.setattr("cskd_tf.networks.pretrained.HOSTS", {"kaggle": "unreachable.invalid"})
    with pytest.raises(UserError, match="Expected unreachable.invalid within reach, where resnet_18_imagenet is"):
        check("keras_hub:resnet_18_imagenet", num_classes=2, input_shape=SHAPE)


def test_pixels_are_not_rounded_before_they_are_scaled():
    keras.config.set_dtype_policy("mixed_bfloat16")
    layer = Renormalization(order=[2, 1, 0], scale=[255.0] * 3, offset=[0.0] * 3)
    pixels = np.array([[[[201.3, 13.37, 77.7]]]], "float32")  # none of which has few digits in binary
    np.testing.assert_allclose(layer(pixels / 255), pixels[..., ::-1], rtol=1e-6)


def test_the_new_classifier_computes_in_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    shape = (32, 32, 3)
    network = build("keras.applications:MobileNet", num_classes=3, input_shape=shape, weights="random")
    assert network.get_layer("conv1").compute_dtype == "bfloat16"
    assert network.get_layer("classifier").compute_dtype == network.output.dtype == "float32"
