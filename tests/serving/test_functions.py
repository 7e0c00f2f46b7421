import io

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

from cskd_tf.data import Augmentation, build_transforms
from cskd_tf.data.images.transforms import Normalize
from cskd_tf.errors import UserError
from cskd_tf.runs import model_card
from cskd_tf.serving import saved_model
from cskd_tf.serving.functions import Serving
from cskd_tf.training.distiller import SelfDistiller
from tests.helpers import softmax
from tests.serving.conftest import MEAN, NAMES, STD


def by_hand(model, pixels):
    """Embedding and logits of images `[N, 6, 6, 3]` that need no resizing."""
    _, first, last = model.network.layers
    (weights, biases), (head, offsets) = first.get_weights(), last.get_weights()
    inputs = ((pixels / 255.0 - MEAN) / STD).reshape(len(pixels), -1)
    embedding = np.tanh(inputs @ weights + biases)
    return embedding, embedding @ head + offsets


def test_a_saved_model_returns_what_the_formulas_say(model, loaded, images):
    embedding, logits = by_hand(model, images[:, 1:7, 1:7])
    served, features = loaded.serve(images), loaded.embeddings(images)
    np.testing.assert_allclose(features["embedding"], embedding, atol=1e-5)
    np.testing.assert_allclose(features["logits"], logits, atol=1e-5)
    probabilities = softmax(logits / 1.7)
    np.testing.assert_allclose(served["probabilities"], probabilities, atol=1e-6)
    order = np.argsort(-probabilities, axis=1)[:, :5]
    np.testing.assert_array_equal(served["top_classes"], order)
    np.testing.assert_allclose(served["top_probabilities"], np.sort(probabilities)[:, :1:-1], atol=1e-6)
    np.testing.assert_array_equal(served["confidence"], served["top_probabilities"][:, 0])
    names = [[name.decode() for name in row] for row in served["top_names"].numpy()]
    assert names == [[NAMES[number] for number in row] for row in order]
    sets = served["conformal_set"].numpy()
    np.testing.assert_array_equal(sets, softmax(logits) >= 0.12)
    assert 0 < sets.mean() < 1
    assert (sets != (probabilities >= 0.12)).any()  # the temperature would change them


def test_signatures_have_names(loaded):
    inputs = {name: list(each.structured_input_signature[1]) for name, each in loaded.signatures.items()}
    assert inputs == {
        "serving_default": ["images"], "serve": ["images"], "serve_bytes": ["image_bytes"],
        "embeddings": ["images"], "embeddings_bytes": ["image_bytes"],
    }  # fmt: skip
    outputs = {"probabilities", "confidence", "top_classes", "top_names", "top_probabilities", "conformal_set"}
    for name in ("serving_default", "serve", "serve_bytes"):
        assert set(loaded.signatures[name].structured_outputs) == outputs
    for name in ("embeddings", "embeddings_bytes"):
        assert set(loaded.signatures[name].structured_outputs) == {"embedding", "logits"}


def test_files_are_decoded_as_pil_decodes_them_each_of_its_own_size(loaded, files):
    together = loaded.serve_bytes(files)["probabilities"]
    apart = [np.asarray(PIL.Image.open(io.BytesIO(content)).convert("RGB")) for content in files]
    expected = np.concatenate([loaded.serve(image[None])["probabilities"] for image in apart])
    np.testing.assert_allclose(together, expected, atol=1e-6)
    embeddings = loaded.embeddings_bytes(files)["embedding"]
    assert (np.ptp(embeddings, axis=0) > 1e-3).all()
    np.testing.assert_allclose(embeddings[1], loaded.embeddings(apart[1][None])["embedding"][0], atol=1e-6)


def test_pixels_of_the_networks_size_lead_to_the_same(serving, images):
    raw = serving.of_images(tf.constant(images))
    outputs = serving.of_pixels(tf.constant(images[:, 1:7, 1:7], tf.float32))
    assert set(outputs) == {*raw, "embedding", "logits"} - {"top_names"}
    for name in set(outputs) & set(raw):
        np.testing.assert_allclose(outputs[name], raw[name], atol=1e-6)


def test_no_images_are_no_error(loaded):
    assert loaded.serve(np.zeros((0, 4, 4, 3), np.uint8))["top_names"].shape == (0, 5)
    assert loaded.serve_bytes(tf.constant([], tf.string))["probabilities"].shape == (0, 7)


def served(network, tmp_path, *, size=6):
    """A network, or the model around it, behind a transform to `size`, as a SavedModel."""
    model = network if isinstance(network, SelfDistiller) else SelfDistiller(network)
    options = {"image_size": size, "crop": "none", "flip": False, "mean": MEAN, "std": STD}
    serving = Serving(model, build_transforms(Augmentation(**options))[1], class_names=NAMES[:3])
    saved_model.write(serving, tmp_path / "1")
    return serving, tf.saved_model.load(str(tmp_path / "1"))


@pytest.mark.thorough
def test_no_images_are_no_error_for_convolutions_that_are_fused(tmp_path):
    layers = [keras.layers.Conv2D(4, 1), keras.layers.BatchNormalization(), keras.layers.ReLU()]
    head = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
    _, loaded = served(keras.Sequential([keras.Input((6, 6, 3)), *layers, *head]), tmp_path)
    assert loaded.serve(tf.zeros((0, 5, 5, 3), tf.uint8))["probabilities"].shape == (0, 3)
    assert loaded.embeddings_bytes(tf.constant([], tf.string))["embedding"].shape == (0, 4)


class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.flat, self.head = keras.layers.Flatten(), keras.layers.Dense(3)

    def call(self, images):
        return self.head(self.flat(images))


@pytest.mark.thorough
def test_a_subclassed_network_is_served(images, tmp_path):
    network = Subclassed()
    model = SelfDistiller(network)
    with pytest.raises(UserError, match="Expected a model that is built, as by fit"):
        served(model, tmp_path)
    model.build((None, 6, 6, 3))
    serving, loaded = served(model, tmp_path)
    assert serving.model.input_shape == model.input_shape == (None, 6, 6, 3)
    inputs = ((images[:, 1:7, 1:7] / 255.0 - MEAN) / STD).reshape(5, -1)
    expected = softmax(inputs @ network.head.kernel + network.head.bias)
    np.testing.assert_allclose(loaded.serve(images[:, 1:7, 1:7])["probabilities"], expected, atol=1e-5)


def test_what_a_network_cannot_compute_is_said_when_it_is_made(tmp_path):
    without = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Conv2D(3, 3), keras.layers.GlobalMaxPooling2D()])
    with pytest.raises(UserError, match="Expected a network with an embedding, .*, without one"):
        served(without, tmp_path)
    small = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Flatten(), keras.layers.Dense(3)])
    with pytest.raises(UserError, match="that the network takes, 6 x 6. Received: one to 8 x 8"):
        served(small, tmp_path, size=8)


@pytest.mark.parametrize(
    ("signature", "given", "why"),
    [
        ("serve", np.zeros((1, 8, 8, 3), np.float32), "dtype=tf.uint8"),
        ("serve", np.zeros((1, 8, 8, 1), np.uint8), r"\(None, None, None, 3\)"),
        ("serve", np.zeros((8, 8, 3), np.uint8), r"\(None, None, None, 3\)"),
        ("serve", np.zeros((1, 0, 8, 3), np.uint8), r"Expected images \[N, H, W, 3\] of at least one pixel. Received"),
        ("serve", "seven.png", "dtype=tf.uint8"),
        ("serve_bytes", np.zeros((1, 8, 8, 3), np.uint8), "dtype=tf.string"),
        ("serve_bytes", [b"GIF89a"], "Expected JPEG or PNG"),
        ("serve_bytes", [b""], "Expected JPEG or PNG"),
        ("embeddings_bytes", ["seven.png"], "Expected JPEG or PNG"),
    ],
)
def test_what_is_no_image_is_refused_with_what_was_expected(loaded, signature, given, why):
    with pytest.raises((TypeError, ValueError, tf.errors.InvalidArgumentError), match=why):
        getattr(loaded, signature)(tf.constant(given))


def test_numpy_floats_are_refused_by_name_but_cast_where_the_call_has_none(loaded):
    """As docs/serving.md and the card say: it is TensorFlow's own doing, before any of our functions is called."""
    floats = np.full((1, 8, 8, 3), 0.9, np.float32)
    black = loaded.serve(tf.zeros((1, 8, 8, 3), tf.uint8))["probabilities"]
    np.testing.assert_array_equal(loaded.serve(floats)["probabilities"], black)
    with pytest.raises((TypeError, ValueError, tf.errors.InvalidArgumentError), match="uint8"):
        loaded.signatures["serve"](images=tf.constant(floats))


def test_a_file_that_is_cut_off_is_refused(loaded, files):
    for content in files[:2]:
        with pytest.raises(tf.errors.InvalidArgumentError, match="Invalid|Expected"):
            loaded.serve_bytes([content[: len(content) // 2]])


def test_a_server_that_compares_no_shapes_refuses_other_channels_too(folder):
    """TensorFlow Serving feeds what it is given, as a session's callable does."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(folder))
        signature = meta.signature_def["serving_default"]
        options = config_pb2.CallableOptions()
        options.feed.append(signature.inputs["images"].name)
        options.fetch.append(signature.outputs["probabilities"].name)
        run = session._make_callable_from_options(options)
        assert run(np.zeros((2, 9, 9, 3), np.uint8))[0].shape == (2, 7)
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"Expected images \[N, H, W, 3\].*\[2 9 9 1\]"):
            run(np.zeros((2, 9, 9, 1), np.uint8))


def test_a_transform_that_does_not_resize_is_refused(model):
    with pytest.raises(UserError, match="Expected a transform that begins by resizing"):
        Serving(model, Normalize(MEAN, STD), class_names=NAMES)


def test_what_no_softmax_or_no_name_is_for_is_refused(model):
    _, transform = build_transforms(Augmentation(image_size=6, mean=MEAN, std=STD))
    tagger = SelfDistiller(model.network, multi_label=True)
    with pytest.raises(UserError, match="one class each, whose softmax is served. Received: a model whose labels are "):
        Serving(tagger, transform, class_names=NAMES)
    count = len(NAMES)
    with pytest.raises(UserError, match=f"a name for each of the {count} classes. Received: {count - 1} names"):
        Serving(model, transform, class_names=NAMES[1:])


def test_the_share_of_an_image_that_is_served(serving, model):
    assert serving.crop == 6 / 8
    _, whole = build_transforms(Augmentation(image_size=6, mean=MEAN, std=STD))
    assert Serving(model, whole, class_names=NAMES).crop == 1
    assert model_card._crop(serving) == "75.0% as wide as its shorter side"
