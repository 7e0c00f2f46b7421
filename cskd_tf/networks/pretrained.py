"""Networks of Keras' applications and of KerasHub, with the weights that they were trained to, and a new classifier."""

import difflib
import inspect
import os
import pathlib
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from absl import logging

from cskd_tf.errors import UserError, installing
from cskd_tf.networks.weights import RANDOM

APPLICATIONS, HUB = "keras.applications", "keras_hub"
HOSTS = {"kaggle": "www.kaggle.com", "hf": "huggingface.co", "modelscope": "www.modelscope.cn"}
SECONDS = 5.0  # to wait for a host
PRESET = "config.json"  # in the folder of a preset
Normalization = tuple[Sequence[float], Sequence[float]]


def is_pretrained(name: str) -> bool:
    """Whether a network's name is of this module: `keras.applications:NAME` or `keras_hub:PRESET`."""
    return name.partition(":")[0] in (APPLICATIONS, HUB)


@keras.saving.register_keras_serializable("cskd_tf")
class Renormalization(keras.layers.Layer):
    """From images as one network takes them to images as another does: channels in another order, scaled and shifted.

    Example:
        >>> layer = Renormalization(order=[2, 1, 0], scale=[1.0, 1.0, 2.0], offset=[0.0, 0.0, -1.0])
        >>> layer(np.array([[[[1.0, 2.0, 3.0]]]])).numpy().ravel().tolist()
        [3.0, 2.0, 1.0]

    Args:
        order: which channel of the input each of the output is.
        scale: what it is multiplied by.
        offset: what is added then.
    """

    def __init__(self, *, order: Sequence[int], scale: Sequence[float], offset: Sequence[float], **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})  # pixels must not be rounded before they are scaled
        self.order, self.scale, self.offset = list(order), list(scale), list(offset)

    def call(self, inputs):
        if self.order != sorted(self.order):
            inputs = keras.ops.take(inputs, keras.ops.convert_to_tensor(self.order, "int32"), axis=-1)
        scale, offset = (keras.ops.convert_to_tensor(each, self.compute_dtype) for each in (self.scale, self.offset))
        return inputs * scale + offset

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "order": self.order, "scale": self.scale, "offset": self.offset}


def check(name: str, *, input_shape: Sequence[int | None], weights: str = "", width: int | None = None) -> None:
    """Refuses what `build` cannot build, without downloading anything. Arguments and errors as of `build`."""
    kind, _, which = name.partition(":")
    if kind == APPLICATIONS:
        _known_application(which)
    else:
        check_preset(weights if _is_folder(weights) else which)
    if input_shape[-1] != 3:
        raise UserError(f"Expected images of 3 channels for {name}. Received: {input_shape[-1]} of them")
    if width is not None:
        raise UserError(f"Expected network.width=0 for {name}, which comes in one width. Received: width={width}")
    if kind == APPLICATIONS:
        _application(which, weights=RANDOM, input_shape=input_shape)


def build(
    name: str,
    *,
    num_classes: int,
    input_shape: Sequence[int | None],
    weights: str = "",
    normalization: Normalization | None = None,
) -> keras.Model:
    """A pretrained network with a new dense layer on its features, averaged over pixels or tokens.

    Args:
        name: `keras.applications:NAME`, such as MobileNetV3Small, or `keras_hub:PRESET`, one that KerasHub knows, an
            address such as `hf://...`, or the folder of one.
        num_classes: at least 2.
        input_shape: `(H, W, 3)`.
        weights: `""` for those that the network comes with, `random` for none; of a preset the folder in which it lies.
        normalization: mean and standard deviation of each channel, of pixels in [0, 1], by which the images are
            normalised that it will be given. They are brought to what the network was trained on; None: they are that
            already.

    Raises:
        UserError: an unknown name, images of a size or number of channels that it does not take, weights that are
            neither here nor within reach.
    """
    kind, _, which = name.partition(":")
    make = _application if kind == APPLICATIONS else _of_hub
    backbone, pixels_to_inputs = make(which, weights=weights, input_shape=input_shape)
    images = keras.Input(tuple(input_shape), name="image")
    inputs = images
    if normalization is not None and pixels_to_inputs is not None:
        inputs = _renormalization(pixels_to_inputs, normalization)(images)
    features = _run(backbone, images, inputs)
    features = _pooled(features, name=name)
    head = keras.layers.Dense(num_classes, dtype="float32", name="classifier")
    return keras.Model(images, head(features), name=which.rstrip("/").rpartition("/")[2].replace(":", "_"))


def _run(backbone: keras.Model, images: keras.KerasTensor, inputs: keras.KerasTensor) -> keras.KerasTensor:
    """What the layers of a backbone make of `inputs`, which follow from `images`: one graph, without a model inside."""

    def call(layer, *args, **kwargs):
        args, kwargs = keras.tree.map_structure(lambda value: inputs if value is images else value, (args, kwargs))
        return layer(*args, **kwargs)

    graph = keras.Model(backbone.inputs[0], backbone.outputs[0])
    return keras.models.clone_model(
        graph, input_tensors=images, clone_function=lambda layer: layer, call_function=call
    ).output


def _pooled(features: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    if len(features.shape) == 4:
        return keras.layers.GlobalAveragePooling2D(data_format="channels_last", name="embedding")(features)
    if len(features.shape) == 3:
        return keras.layers.GlobalAveragePooling1D(data_format="channels_last", name="embedding")(features)
    if len(features.shape) == 2:
        return features
    raise UserError(f"Expected a backbone of features per pixel, token or image. Received: {name} of {features.shape}")


def _known_application(name: str) -> Callable[..., keras.Model]:
    """The function of `keras.applications` that builds it."""
    known = {
        key: function
        for key, function in vars(keras.applications).items()
        if inspect.isfunction(function) and "include_top" in inspect.signature(function).parameters
    }
    if name not in known:
        raise UserError(f"Unknown application of Keras; expected one of {sorted(known)}. Received: name={name!r}")
    return known[name]


def _application(name: str, *, weights: str, input_shape: Sequence[int | None]) -> tuple[keras.Model, Callable | None]:
    """The application without its classifier, the same layers whatever `weights`, and its preprocessing of pixels."""
    function = _known_application(name)
    module = sys.modules[function.__module__]  # keras.applications.mobilenet_v3 has no MobileNetV3Small
    options = {"include_top": False, "input_shape": tuple(input_shape)}
    try:
        backbone = function(weights=None if weights else "imagenet", **options)
    except ValueError as error:
        raise UserError(f"Expected images that {name} takes. Received: {tuple(input_shape)} ({error})") from error
    except Exception as error:  # of the download
        raise UserError(
            f"Expected the weights of {name} within reach; network.weights=FILE names a copy, random does without. "
            f"Received: {_first_line(error)}"
        ) from error
    if weights and (deviations := getattr(module, "IMAGENET_STDDEV_RGB", None)):
        backbone = _with_deviations(backbone, deviations)
    return backbone, module.preprocess_input


def _with_deviations(backbone: keras.Model, deviations: Sequence[float]) -> keras.Model:
    """An EfficientNet as Keras makes it for the weights of ImageNet, which it gives a layer behind its normalisation.

    That divides by the roots of ImageNet's deviations. Without it a file of these weights would see other images, and
    a run that began with them could not be built again.
    """

    def call(layer, *args, **kwargs):
        result = layer(*args, **kwargs)
        return divide(result) if isinstance(layer, keras.layers.Normalization) else result

    divide = keras.layers.Rescaling([1 / np.sqrt(deviation) for deviation in deviations])
    return keras.models.clone_model(backbone, clone_function=lambda layer: layer, call_function=call)


def _of_hub(preset: str, *, weights: str, input_shape: Sequence[int | None]) -> tuple[keras.Model, Callable | None]:
    """The backbone of a preset, and what its image converter, if it has one, makes of pixels from 0 to 255."""
    hub = _hub()
    preset = weights if _is_folder(weights) else preset
    try:
        backbone = hub.models.Backbone.from_preset(preset, load_weights=not weights or _is_folder(weights))
    except Exception as error:  # of the download, or of whatever lies in a folder
        raise UserError(
            f"Expected a preset that KerasHub can load. Received: {preset} ({_first_line(error)})"
        ) from error
    shapes = [tuple(tensor.shape) for tensor in backbone.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or len(backbone.outputs) != 1:
        raise UserError(f"Expected a backbone of images. Received: {preset} with inputs of shape {shapes}")
    if any(None not in sizes and len(set(sizes)) > 1 for sizes in zip(shapes[0][1:], input_shape, strict=True)):
        raise UserError(
            f"Expected images of shape {shapes[0][1:]}, as {preset} takes them; data.augment.image_size says their "
            f"size. Received: {tuple(input_shape)}"
        )
    try:
        converter = hub.layers.ImageConverter.from_preset(preset)
    except (FileNotFoundError, ValueError):
        logging.warning(
            "%s has no image converter: images reach it as data.augment.mean and std normalise them", preset
        )
        return backbone, None
    converter.image_size = None  # to scale is all that is asked of it here
    return backbone, converter


def check_preset(preset: str) -> None:
    """Refuses a preset that is not here and cannot be had, within seconds.

    Raises:
        UserError: KerasHub is not installed; an unknown name, with those like it; no such folder, or none of a preset;
            or a host that does not answer.
    """
    hub = _hub()
    known = hub.models.Backbone.presets
    if _is_folder(preset) or preset.startswith((".", "/", "~")):
        if not (pathlib.Path(preset) / PRESET).is_file():
            raise UserError(f"Expected the folder of a preset of KerasHub, with {PRESET}. Received: {preset}")
        return
    handle = known[preset]["kaggle_handle"] if preset in known else preset
    if "://" not in handle:
        like = difflib.get_close_matches(preset, known, n=5)
        raise UserError(
            f"Unknown preset; expected one of KerasHub's {like or len(known)}, or a folder of one. Received: {preset!r}"
        )
    scheme, _, rest = handle.partition("://")
    if scheme not in HOSTS or any(key.lower() == "https_proxy" for key in os.environ):
        return
    if scheme == "kaggle":
        import kagglehub

        if (pathlib.Path(kagglehub.config.get_cache_folder()) / "models" / rest).is_dir():
            return
    try:
        socket.create_connection((HOSTS[scheme], 443), timeout=SECONDS).close()
    except OSError as error:
        raise UserError(
            f"Expected {HOSTS[scheme]} within reach, where {preset} is; network.weights=FOLDER names a copy. "
            f"Received: {error}"
        ) from error


def _hub() -> Any:
    try:
        import keras_hub
    except ImportError as error:
        raise UserError(
            f"Expected KerasHub for a network named keras_hub:...: {installing('hub')}. Received: {error}"
        ) from error
    return keras_hub


def _is_folder(path: str) -> bool:
    return bool(path) and pathlib.Path(path).is_dir()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _renormalization(pixels_to_inputs: Callable, normalization: Normalization) -> Renormalization:
    """The layer between images normalised as ours are and what a network's own preprocessing makes of their pixels.

    That is found by trying it on a few colours: each channel is some channel of the pixel, times a factor, and shifted.

    Raises:
        UserError: it is something else.
    """

    def colour(pixel) -> np.ndarray:
        values = np.asarray(pixel, "float32").reshape(1, 1, 1, 3)
        return keras.ops.convert_to_numpy(pixels_to_inputs(values.copy())).astype("float64").reshape(3)

    black = colour([0, 0, 0])
    gains = np.stack([colour(255 * np.eye(3)[channel]) - black for channel in range(3)]) / 255
    order = np.abs(gains).argmax(axis=0)
    factors = gains[order, range(3)]
    pixel = np.array([10.0, 130.0, 240.0])
    if not np.allclose(colour(pixel), pixel[order] * factors + black, atol=1e-3):
        raise UserError("Expected a network whose preprocessing scales and shifts channels. Received: another one")
    mean, deviation = (np.asarray(values, "float64") for values in normalization)
    scale = 255 * deviation[order] * factors
    offset = 255 * mean[order] * factors + black
    return Renormalization(order=order.tolist(), scale=scale.tolist(), offset=offset.tolist(), name="renormalization")
