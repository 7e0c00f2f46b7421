"""The papers' networks, by name."""

import functools
import importlib
import inspect

import keras

from cskd_tf.errors import UserError
from cskd_tf.networks.densenet import densenet
from cskd_tf.networks.features import NetworkOutputs
from cskd_tf.networks.preact_resnet import preact_resnet
from cskd_tf.networks.pyramidnet import pyramidnet
from cskd_tf.networks.resnet import bottleneck, resnet, resnet_cifar
from cskd_tf.networks.resnext import SMALL_IMAGES, resnext

# Every family takes num_classes, input_shape, width, synchronized and name; what else it takes is chosen here.
_FAMILIES = {
    "preact_resnet10": (preact_resnet, (1, 1, 1, 1), {}),
    "preact_resnet18": (preact_resnet, (2, 2, 2, 2), {}),
    "preact_resnet34": (preact_resnet, (3, 4, 6, 3), {}),
    "resnet101_cifar": (resnet_cifar, (3, 4, 23, 3), {}),
    "resnext29_8x64d": (resnext, (3, 3, 3), {"cardinality": 8, "group_width": 64, **SMALL_IMAGES}),
    "densenet121_cifar": (densenet, (6, 12, 24, 16), {"small_images": True}),
    "pyramidnet200": (pyramidnet, 200, {}),
    "pyramidnet200_shakedrop": (pyramidnet, 200, {"shake_drop": 0.5}),
    "resnet10": (resnet, (1, 1, 1, 1), {}),
    "resnet18": (resnet, (2, 2, 2, 2), {}),
    "resnet34": (resnet, (3, 4, 6, 3), {}),
    "resnet50": (resnet, (3, 4, 6, 3), {"hidden": bottleneck}),
    "resnet101": (resnet, (3, 4, 23, 3), {"hidden": bottleneck}),
    "resnet152": (resnet, (3, 8, 36, 3), {"hidden": bottleneck}),
    "resnext50_32x4d": (resnext, (3, 4, 6, 3), {"cardinality": 32, "group_width": 4}),
    "resnext101_32x4d": (resnext, (3, 4, 23, 3), {"cardinality": 32, "group_width": 4}),
    "densenet121": (densenet, (6, 12, 24, 16), {}),
}
NETWORKS = {
    name: functools.partial(family, size, **options, name=name) for name, (family, size, options) in _FAMILIES.items()
}


def _find(name: str):
    """A network of the papers, or a function of the user's named as `package.module:function`."""
    if name in NETWORKS:
        return NETWORKS[name]
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise UserError(
            f"Unknown network; expected one of {sorted(NETWORKS)}, or package.module:function. Received: name={name!r}"
        )
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UserError(f"Expected a function that can be imported. Received: name={name!r} ({error})") from error


def build(
    name: str,
    *,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int],
    width: int | None = None,
    synchronized: bool = False,
) -> keras.Model:
    """A network of the papers, initialised as theirs: normalised images `[B, H, W, C]` to logits `[B, num_classes]`.

    Example: `build("preact_resnet18", num_classes=100, input_shape=(32, 32, 3))` has 11,217,444 trainable parameters.

    Args:
        name: one of `NETWORKS`, or `package.module:function` of your own, which is called with `num_classes`,
            `input_shape` and, where they are not the defaults, `width` and `synchronized`.
        num_classes: at least 2.
        input_shape: `(H, W, C)`; H and W may be None.
        width: channels of the first stage, at least 1; None: as published.
        synchronized: whether batch norm averages over replicas (and is then computed unfused).

    Raises:
        ValueError: an unknown name, a size out of range, or images too small for the network's strides.
    """
    function = _find(name)
    if num_classes < 2:
        raise UserError(f"Expected at least two classes. Received: num_classes={num_classes}")
    if width is not None and width < 1:
        raise UserError(f"Expected at least one channel in the first stage. Received: width={width}")
    if len(input_shape) != 3 or any(size is not None and size < 1 for size in input_shape) or input_shape[2] is None:
        raise UserError(f"Expected input_shape to be (height, width, channels). Received: input_shape={input_shape}")
    options = {} if width is None else {"width": width}
    if synchronized:
        options["synchronized"] = True
    known = inspect.signature(function).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    if not takes_all and (refused := sorted(options.keys() - known.keys())):
        raise UserError(f"Expected none of {refused}, which {name} does not take. Received: {options}")
    return function(num_classes=num_classes, input_shape=tuple(input_shape), **options)


__all__ = ["NETWORKS", "NetworkOutputs", "build"]
