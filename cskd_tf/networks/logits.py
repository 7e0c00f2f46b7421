"""Whether a network returns logits: told from what comes out of it, whatever its layers are called."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from cskd_tf.errors import UserError
from cskd_tf.networks.features import layers_of

_IMAGES = 4  # enough that outputs which sum to 1 for each are no coincidence
_UNKNOWN_SIZE = 224  # pixels per side, where a network takes images of any size
_TRIES = 8  # sets of other weights
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
# The shape of the outputs, without the batch, of each network that has passed.
_passed: weakref.WeakKeyDictionary[keras.Model, tuple[int, ...]] = weakref.WeakKeyDictionary()


def check_logits(network: keras.Model, *, input_shape: Sequence[int | None], sequences: bool = False) -> int:
    """The number of classes of a network that returns one row of logits per image; other networks are refused.

    The output of a softmax adds up to 1 whatever the weights are; logits that happen to add up to 1, of a network that
    has collapsed, say, do so with these weights only. So outputs that look like probabilities are computed again with
    other weights, which the network does not keep, and are refused only if they look so every time.

    Example:
        A network whose two logits are .5 for every image passes, since with other weights they are something else.

        >>> shape = (None, 4, 4, 1)
        >>> head = keras.layers.Dense(2, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(0.5))
        >>> network = keras.Sequential([keras.Input(shape[1:]), keras.layers.Flatten(), head])
        >>> check_logits(network, input_shape=shape)
        2
        >>> check_logits(keras.Sequential([network, keras.layers.Softmax()], name="mine"), input_shape=shape)
        Traceback (most recent call last):
        cskd_tf.errors.UserError: Expected a network that returns logits: leave out what comes after them
        (activation=None). Received: network='mine', which returns probabilities, as after a softmax

    Args:
        network: from images to outputs.
        input_shape: `[B, H, W, C]`; where a size is None, images of 224 pixels are shown.
        sequences: whether one row of logits per position of an input `[B, L, ...]` is expected instead.

    Raises:
        UserError: several inputs or outputs, outputs of another rank than `[B, C]`, or `[B, L, C]` of sequences, fewer
            than two classes, or something other than logits.
    """
    if len(passed := _passed.get(network, ())) == 1 + sequences:
        return passed[-1]
    check_one_input(network)
    _check_no_state(network)
    random = np.random.default_rng(0)
    shape = (_IMAGES, *(size or _UNKNOWN_SIZE for size in input_shape[1:]))
    if keras.backend.is_int_dtype(dtype := input_dtype(network)):
        images = random.integers(0, 2, shape).astype(dtype)  # symbols that every vocabulary has
    else:
        images = random.normal(size=shape).astype("float32")
    outputs = network(images, training=False)
    _check_form(outputs, network=network, sequences=sequences)
    kinds = _kinds(outputs)
    finite = 0
    for _ in range(_TRIES):
        if not kinds:
            break
        with keras.StatelessScope(state_mapping=_other_weights(network, random)):
            other_outputs = network(images, training=False)
        if keras.ops.all(keras.ops.isfinite(other_outputs)):  # else these weights were too large to tell anything
            finite += 1
            kinds = [kind for kind in _kinds(other_outputs) if kind in kinds]
    if kinds and finite:
        raise UserError(
            "Expected a network that returns logits: leave out what comes after them (activation=None). "
            f"Received: network={network.name!r}, which returns {kinds[0]}"
        )
    _passed[network] = tuple(outputs.shape[1:])
    return outputs.shape[-1]


def _check_no_state(network: keras.Model) -> None:
    """Refuses layers that carry a state from batch to batch, which the partners' pass would go on with."""
    if stateful := [layer.name for layer in layers_of(network) if getattr(layer, "stateful", False)]:
        raise UserError(f"Expected a network without stateful layers. Received: {network.name!r} with {stateful}")


def input_dtype(network: keras.Model) -> str:
    """The type of what a network takes: float32 where it does not tell.

    Example:
        >>> input_dtype(keras.Sequential([keras.Input((5,), dtype="int32"), keras.layers.Embedding(7, 2)]))
        'int32'
    """
    inputs = getattr(network, "inputs", None) or []
    return inputs[0].dtype if inputs else "float32"


def check_one_input(network: keras.Model) -> None:
    """Refuses a network that takes something beside the images.

    Raises:
        UserError: several inputs.
    """
    inputs = getattr(network, "inputs", None) or []
    if len(inputs) > 1:
        names = [tensor.name for tensor in inputs]
        raise UserError(f"Expected a network of one input, the images. Received: {network.name!r} with inputs {names}")


def _check_form(outputs: Any, *, network: keras.Model, sequences: bool) -> None:
    """Refuses what is not one tensor `[B, C]`, or `[B, L, C]` of sequences, of at least two classes."""
    form = "[B, L, C] of at least two classes, one row per position" if sequences else "[B, C] of at least two classes"
    expected = f"Expected a network that returns logits {form}{'' if sequences else ', one row per image'}."
    if isinstance(outputs, (dict, list, tuple)):
        names_or_count = sorted(outputs) if isinstance(outputs, dict) else len(outputs)
        raise UserError(
            f"{expected} Received: {network.name!r} with several outputs ({names_or_count}); choose one by "
            "keras.Model(network.input, network.output[...])"
        )
    if len(outputs.shape) != 2 + sequences or outputs.shape[-1] < 2:
        raise UserError(f"{expected} Received: {network.name!r} with outputs of shape {(None, *outputs.shape[1:])}")


def _kinds(outputs: Any) -> list[str]:
    """What outputs `[..., C]` look like, of `_KINDS`."""
    rows = keras.ops.convert_to_numpy(keras.ops.cast(outputs, "float32")).astype("float64")
    rows = rows.reshape(-1, rows.shape[-1])
    return [kind for kind, looks_so in _KINDS.items() if looks_so(rows)]


def _other_weights(network: keras.Model, random: np.random.Generator) -> list[tuple[keras.Variable, Any]]:
    """Pairs of a variable and another value for it, at which activations keep their order of magnitude."""
    pairs = []
    for variable in network.weights:
        if not keras.backend.is_float_dtype(variable.dtype):
            continue
        value = keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32"))
        noise = random.normal(size=value.shape)
        if variable.name in ("gamma", "beta"):
            continue  # of a batch norm: the factors of a hundred layers would multiply to infinity
        if not variable.trainable and "var" in variable.name:
            value = value * np.exp(noise / 2)  # the variance of a batch norm: it stays above 0
        elif value.ndim > 1:
            value = value + noise * np.sqrt(2 / np.prod(value.shape[:-1]))
        else:
            value = value + 3 * noise  # a bias, which moves the outputs far from where they are
        pairs.append((variable, keras.ops.cast(value, variable.dtype)))
    return pairs
