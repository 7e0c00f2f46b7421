"""The papers' networks, by name."""

import functools

import keras

from cskd_tf.networks.features import NetworkOutputs
from cskd_tf.networks.preact_resnet import preact_resnet

NETWORKS = {
    "preact_resnet10": functools.partial(preact_resnet, (1, 1, 1, 1), name="preact_resnet10"),
    "preact_resnet18": functools.partial(preact_resnet, (2, 2, 2, 2), name="preact_resnet18"),
}


def build(
    name: str,
    *,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int],
    width: int = 64,
    synchronized: bool = False,
) -> keras.Model:
    """A network of the papers, initialised as theirs: normalised images `[B, H, W, C]` to logits `[B, num_classes]`.

    Example: `build("preact_resnet18", num_classes=100, input_shape=(32, 32, 3))` has 11,217,444 trainable parameters.

    Args:
        name: one of `NETWORKS`.
        num_classes: at least 2.
        input_shape: `(H, W, C)`; H and W may be None.
        width: channels of the first stage, at least 1.
        synchronized: whether batch norm averages over replicas (and is then computed unfused).

    Raises:
        ValueError: an unknown name, or a size out of range.
    """
    if name not in NETWORKS:
        raise ValueError(f"Unknown network; expected one of {sorted(NETWORKS)}. Received: name={name!r}")
    if num_classes < 2:
        raise ValueError(f"Expected at least two classes. Received: num_classes={num_classes}")
    if width < 1:
        raise ValueError(f"Expected at least one channel in the first stage. Received: width={width}")
    if len(input_shape) != 3:
        raise ValueError(f"Expected input_shape to be (height, width, channels). Received: input_shape={input_shape}")
    return NETWORKS[name](
        num_classes=num_classes, input_shape=tuple(input_shape), width=width, synchronized=synchronized
    )


__all__ = ["NETWORKS", "NetworkOutputs", "build"]
