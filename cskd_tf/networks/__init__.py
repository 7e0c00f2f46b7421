"""The papers' networks, by name."""

import functools
import importlib
import inspect
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras

from cskd_tf.errors import UserError, did_you_mean
from cskd_tf.networks import pretrained
from cskd_tf.networks.backbone import backbone
from cskd_tf.networks.densenet import densenet
from cskd_tf.networks.features import NetworkOutputs
from cskd_tf.networks.preact_resnet import preact_resnet
from cskd_tf.networks.pyramidnet import pyramidnet
from cskd_tf.networks.resnet import bottleneck, resnet, resnet_cifar
from cskd_tf.networks.resnext import SMALL_IMAGES, resnext
from cskd_tf.networks.weights import RANDOM, find_file, load_into


class _Network(NamedTuple):
    """A network of the papers: its family, what tells it from others of the family, and what it cannot do without.

    Attributes:
        family: takes `size`, `num_classes`, `input_shape`, `width`, `synchronized`, `name` and the options.
        size: blocks per stage, or layers.
        least_pixels: of height and width, with which every layer of stride 2 still sees two pixels.
        least_width: channels of the first stage, with which every layer and every group has one.
        options: of the family.
    """

    family: Callable[..., keras.Model]
    size: tuple[int, ...] | int
    least_pixels: int
    least_width: int = 1
    options: Mapping[str, Any] = {}


# Five padded layers of stride 2 make 17 pixels 9, 5, 3, 2 and 1; 16 would end one layer early.
_TABLE = {
    "preact_resnet10": _Network(preact_resnet, (1, 1, 1, 1), 5),
    "preact_resnet18": _Network(preact_resnet, (2, 2, 2, 2), 5),
    "preact_resnet34": _Network(preact_resnet, (3, 4, 6, 3), 5),
    "resnet101_cifar": _Network(resnet_cifar, (3, 4, 23, 3), 5),
    "resnext29_8x64d": _Network(resnext, (3, 3, 3), 3, options={"cardinality": 8, "group_width": 64, **SMALL_IMAGES}),
    "densenet121_cifar": _Network(densenet, (6, 12, 24, 16), 8, least_width=2, options={"small_images": True}),
    "pyramidnet200": _Network(pyramidnet, 200, 3),
    "pyramidnet200_shakedrop": _Network(pyramidnet, 200, 3, options={"shake_drop": 0.5}),
    "resnet10": _Network(resnet, (1, 1, 1, 1), 17),
    "resnet18": _Network(resnet, (2, 2, 2, 2), 17),
    "resnet34": _Network(resnet, (3, 4, 6, 3), 17),
    "resnet50": _Network(resnet, (3, 4, 6, 3), 17, options={"hidden": bottleneck}),
    "resnet101": _Network(resnet, (3, 4, 23, 3), 17, options={"hidden": bottleneck}),
    "resnet152": _Network(resnet, (3, 8, 36, 3), 17, options={"hidden": bottleneck}),
    "resnext50_32x4d": _Network(
        resnext, (3, 4, 6, 3), 17, least_width=16, options={"cardinality": 32, "group_width": 4}
    ),
    "resnext101_32x4d": _Network(
        resnext, (3, 4, 23, 3), 17, least_width=16, options={"cardinality": 32, "group_width": 4}
    ),
    "densenet121": _Network(densenet, (6, 12, 24, 16), 29, least_width=2),
}
NETWORKS = {
    name: functools.partial(network.family, network.size, **network.options, name=name)
    for name, network in _TABLE.items()
}


def _find(name: str):
    """A network of the papers, or a function of the user's named as `package.module:function`."""
    if name in NETWORKS:
        return NETWORKS[name]
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise UserError(
            f"Unknown network; expected one of {sorted(NETWORKS)}, keras.applications:NAME, keras_hub:PRESET, or "
            f"package.module:function. Received: name={name!r}{did_you_mean(name, NETWORKS)}"
        )
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UserError(f"Expected a function that can be imported. Received: name={name!r} ({error})") from error


def check(
    name: str,
    *,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int],
    width: int | None = None,
    synchronized: bool = False,
    weights: str = "",
) -> None:
    """Refuses what `build` cannot build, without the work of it. Arguments and errors as of `build`."""
    if num_classes < 2:
        raise UserError(f"Expected at least two classes. Received: num_classes={num_classes}")
    _check_shape(input_shape)
    if pretrained.is_pretrained(name):
        if synchronized:
            raise UserError(f"Expected none of synchronized, which {name} does not take. Received: synchronized=True")
        pretrained.check(name, input_shape=input_shape, weights=weights, width=width)
    else:
        _check_function(name, input_shape=input_shape, width=width, synchronized=synchronized)
    if not _comes_with(name, weights):
        find_file(weights)


def is_known(name: str) -> bool:
    """Whether a network is made by code of this package or of Keras alone, whatever files there are."""
    return name in NETWORKS or name.startswith(f"{pretrained.APPLICATIONS}:")


def for_other_weights(name: str, weights: str) -> str:
    """What `weights` may be where all of them are about to be replaced: the file of the first ones may be gone."""
    return weights if _is_preset(name, weights) else RANDOM


def _comes_with(name: str, weights: str) -> bool:
    """Whether these are the weights that a network is built with, and not those of a file."""
    return weights in ("", RANDOM) or _is_preset(name, weights)


def _is_preset(name: str, weights: str) -> bool:
    return name.startswith(f"{pretrained.HUB}:") and (pathlib.Path(weights) / pretrained.PRESET).is_file()


def _check_shape(input_shape: tuple[int | None, ...]) -> None:
    if len(input_shape) != 3 or any(size is not None and size < 1 for size in input_shape) or input_shape[2] is None:
        raise UserError(f"Expected input_shape to be (height, width, channels). Received: {input_shape=}")


def _check_function(name: str, *, input_shape: tuple[int | None, ...], width: int | None, synchronized: bool) -> None:
    """Refuses what a network of the papers, or the user's function, cannot make."""
    function = _find(name)
    least = _TABLE[name].least_width if name in _TABLE else 1
    if width is not None and width < least:
        raise UserError(
            f"Expected a width of at least {least} for {name}, a channel for each layer and group. Received: {width=}"
        )
    least = _TABLE[name].least_pixels if name in _TABLE else 1
    if any(size is not None and size < least for size in input_shape[:2]):
        raise UserError(
            f"Expected images of at least {least} x {least} pixels for {name}: a stride would read a single pixel of "
            f"smaller images. Received: {input_shape=}"
        )
    if inspect.isclass(function) and function.__module__.partition(".")[0] == "keras":  # which takes neither, and warns
        raise UserError(f"Expected {name} to be a function of num_classes and input_shape. Received: a class of Keras")
    options = _given_options(width=width, synchronized=synchronized)
    try:
        known = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:  # of a module, a number or what has no signature
        raise UserError(
            f"Expected {name} to be a function of num_classes and input_shape. Received: {error}"
        ) from error
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    if not takes_all and (refused := sorted(options.keys() - known.keys())):
        raise UserError(f"Expected none of {refused}, which {name} does not take. Received: {options}")


def build(
    name: str,
    *,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int],
    width: int | None = None,
    synchronized: bool = False,
    weights: str = "",
    normalization: pretrained.Normalization | None = None,
    embedding_layer: str | None = None,
) -> keras.Model:
    """A network of the papers, initialised as theirs: normalised images `[B, H, W, C]` to logits `[B, num_classes]`.

    Example: 11,217,444 trainable parameters with 100 classes, and at a width of 8
        >>> network = build("preact_resnet18", num_classes=100, input_shape=(32, 32, 3), width=8)
        >>> sum(math.prod(weight.shape) for weight in network.trainable_weights)
        181916

    Args:
        name: one of `NETWORKS`; `keras.applications:NAME` or `keras_hub:PRESET`, pretrained; or
            `package.module:function` of your own, which is called with `num_classes`, `input_shape` and, where they are
            not the defaults, `width` and `synchronized`.
        num_classes: at least 2.
        input_shape: `(H, W, C)`; H and W may be None.
        width: channels of the first stage, at least 1; None: as published.
        synchronized: whether batch norm averages over replicas (and is then computed unfused).
        weights: a file to begin with, as of `load_into`; "random": none, also of a pretrained network; "": its own.
        normalization: of the images, as of `pretrained.build`, for pretrained networks.
        embedding_layer: where the classifier is found by name, as for `NetworkOutputs`; it keeps its first weights.

    Raises:
        UserError: an unknown name, a size out of range, images too small for the network's strides, or weights that
            are not there or are another network's.
    """
    sizes: dict[str, Any] = {"num_classes": num_classes, "input_shape": input_shape}
    check(name, **sizes, width=width, synchronized=synchronized, weights=weights)
    if pretrained.is_pretrained(name):
        network = pretrained.build(name, **sizes, weights=weights, normalization=normalization)
    else:
        network = _call(name, **sizes, width=width, synchronized=synchronized)
    if not _comes_with(name, weights):
        load_into(network, weights, embedding_layer=embedding_layer)
    return network


def _call(name: str, *, width: int | None, synchronized: bool, num_classes: int, input_shape) -> keras.Model:
    """What a network of the papers, or the user's function, makes."""
    options = _given_options(width=width, synchronized=synchronized)
    try:
        network = _find(name)(num_classes=num_classes, input_shape=tuple(input_shape), **options)
    except (TypeError, ValueError) as error:
        if name in NETWORKS or isinstance(error, UserError):
            raise
        raise UserError(
            f"Expected {name} to make a network of num_classes and input_shape. Received: {error}"
        ) from error
    if not isinstance(network, keras.Model):
        raise UserError(f"Expected {name} to return a Keras model. Received: {type(network).__name__}")
    return network


def _given_options(*, width: int | None, synchronized: bool) -> dict[str, Any]:
    """What a network's function is called with beside classes and shape: what is not the default."""
    return {**({} if width is None else {"width": width}), **({"synchronized": True} if synchronized else {})}


__all__ = ["NETWORKS", "NetworkOutputs", "backbone", "build", "check", "for_other_weights", "is_known"]
