"""Whether a network returns logits: told from what comes out of it, whatever its layers are called."""

import weakref
from collections.abc import Callable, Sequence

import keras
import numpy as np

from cskd_tf.errors import UserError

_IMAGES = 4  # enough that sums of 1 are no coincidence
_UNKNOWN_SIZE = 224  # pixels, where a network takes images of any size
_TRIES = 8
# What an output may be instead of logits, and how its rows [n, C] then look. Half precision rounds.
_KINDS: dict[str, Callable[[np.ndarray], bool]] = {
    "probabilities, as after a softmax": lambda rows: bool(
        (rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=1e-2)
    ),
    "logarithms of probabilities, as after a log_softmax": lambda rows: bool(
        (rows <= 0).all() and np.allclose(np.exp(rows).sum(axis=1), 1, atol=1e-2)
    ),
    "probabilities of each class by itself, as after a sigmoid": lambda rows: bool(((rows >= 0) & (rows <= 1)).all()),
}
_known: weakref.WeakKeyDictionary[keras.Model, int] = weakref.WeakKeyDictionary()  # classes of each that passed


def check_logits(network: keras.Model, *, input_shape: Sequence[int | None]) -> int:
    """The number of classes of a network that makes one row of logits of each image; others are refused.

    The output of a softmax adds up to 1 whatever the weights are; logits that happen to add up to 1, of a network that
    has collapsed, say, do so with these weights only. So outputs that look like probabilities are computed again with
    other weights, which change nothing of the network, and are refused only if they always do.

    Example: two logits that are (.5, .5) for every image pass, since with other weights they are (1.2, -3.1), say; a
    `Lambda(tf.nn.softmax)` at the end is found out.

    Args:
        network: from images to outputs.
        input_shape: `[B, H, W, C]`; for sizes that are None, 224 pixels are shown.

    Raises:
        ValueError: several inputs or outputs, outputs of another rank than `[B, C]`, fewer than two classes, or
            something else than logits.
    """
    if network in _known:
        return _known[network]
    check_one_input(network)
    random = np.random.default_rng(0)
    shape = [size or _UNKNOWN_SIZE for size in input_shape[1:]]
    images = random.normal(size=(_IMAGES, *shape)).astype("float32")
    outputs = network(images, training=False)
    _check_form(outputs, network=network)
    kinds = _kinds(outputs)
    finite = 0
    for _ in range(_TRIES):
        if not kinds:
            break
        with keras.StatelessScope(state_mapping=_other_weights(network, random)):
            others = network(images, training=False)
        if keras.ops.all(keras.ops.isfinite(others)):  # else these weights were too large to tell anything
            finite += 1
            kinds = [kind for kind in _kinds(others) if kind in kinds]
    if kinds and finite:
        raise UserError(
            "Expected a network that returns logits: leave out what comes after them (activation=None). "
            f"Received: network={network.name!r}, which returns {kinds[0]}"
        )
    return _known.setdefault(network, outputs.shape[1])


def check_one_input(network: keras.Model) -> None:
    """Raises ValueError for a network that takes something beside the images."""
    inputs = getattr(network, "inputs", None) or []
    if len(inputs) > 1:
        names = [each.name for each in inputs]
        raise UserError(f"Expected a network of one input, the images. Received: {network.name!r} with inputs {names}")


def _check_form(outputs, *, network: keras.Model) -> None:
    expected = "Expected a network that returns logits [B, C] of at least two classes, one row an image."
    if isinstance(outputs, (dict, list, tuple)):
        names = sorted(outputs) if isinstance(outputs, dict) else len(outputs)
        raise UserError(
            f"{expected} Received: {network.name!r} with several outputs ({names}); choose one by "
            "keras.Model(network.input, network.output[...])"
        )
    if len(outputs.shape) != 2 or outputs.shape[1] < 2:
        raise UserError(f"{expected} Received: {network.name!r} with outputs of shape {(None, *outputs.shape[1:])}")


def _kinds(outputs) -> list[str]:
    rows = keras.ops.convert_to_numpy(keras.ops.cast(outputs, "float32")).astype("float64")
    return [kind for kind, looks_so in _KINDS.items() if looks_so(rows)]


def _other_weights(network: keras.Model, random: np.random.Generator) -> list:
    """Pairs of a variable and another value for it, at which activations keep their order of magnitude."""
    pairs = []
    for variable in network.weights:
        if not keras.backend.is_float_dtype(variable.dtype):
            continue
        value = keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32"))
        noise = random.normal(size=value.shape)
        if variable.name in ("gamma", "beta"):
            continue  # of a batch norm: a hundred of them would multiply to infinity
        if not variable.trainable and "var" in variable.name:
            value = value * np.exp(noise / 2)  # of a batch norm: it stays above 0
        elif value.ndim > 1:
            value = value + noise * np.sqrt(2 / np.prod(value.shape[:-1]))
        else:
            value = value + 3 * noise  # a bias, which moves the outputs far from where they are
        pairs.append((variable, keras.ops.cast(value, variable.dtype)))
    return pairs
