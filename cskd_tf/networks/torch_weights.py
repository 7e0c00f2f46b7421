"""Weights of the same networks from checkpoints of the public PyTorch code, and of torchvision.

The names in a checkpoint and those of the layers here differ in spelling only, so a short list of rules translates
them for every family.
"""

import collections
import pathlib
import re
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from cskd_tf.errors import UserError

# Spellings of the CS-KD and PS-KD code, of torchvision, of the ResNeXt-29 and of the PyramidNet that PS-KD uses.
# Blocks are counted from 1 here, and in torchvision's DenseNets; in all other checkpoints they are counted from 0.
_RULES = [
    (r"(features\.)?conv0|conv1|conv_1_3x3", "stem_conv"),
    (r"(features\.)?norm0|bn1|bn_1", "stem_bn"),
    (r"(?:layer|dense)(?P<stage>\d+)\.(?P<from_0>\d+)\.(?P<kind>conv|bn)(?P<number>\d)", "{kind}{number}"),
    (r"layer(?P<stage>\d+)\.(?P<from_0>\d+)\.(shortcut|downsample)\.0", "shortcut_conv"),
    (r"layer(?P<stage>\d+)\.(?P<from_0>\d+)\.(shortcut|downsample)\.1", "shortcut_bn"),
    (r"stage_(?P<stage>\d)\.stage_\d_bottleneck_(?P<from_0>\d+)\.(?P<kind>conv|bn)_reduce", "{kind}1"),
    (r"stage_(?P<stage>\d)\.stage_\d_bottleneck_(?P<from_0>\d+)\.(?P<kind>conv|bn)(_conv)?", "{kind}2"),
    (r"stage_(?P<stage>\d)\.stage_\d_bottleneck_(?P<from_0>\d+)\.(?P<kind>conv|bn)_expand", "{kind}3"),
    (r"stage_(?P<stage>\d)\.stage_\d_bottleneck_(?P<from_0>\d+)\.shortcut\.(?P<shortcut>shortcut_\w+)", "{shortcut}"),
    # Older torchvision wrote norm.1 for norm1.
    (
        r"features\.denseblock(?P<stage>\d)\.denselayer(?P<from_1>\d+)\.(?P<kind>conv|norm)\.?(?P<number>\d)",
        "{kind}{number}",
    ),
    (r"(?:features\.transition|trans)(?P<transition>\d)\.(?P<kind>conv|bn|norm)", "transition{transition}_{kind}"),
    (r"features\.norm5|bn|bn_final", "final_bn"),
    (r"linear|fc|classifier", "classifier"),
]
# What the weights of a Keras layer are called in PyTorch.
_WEIGHTS = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "kernel": "weight",
    "bias": "bias",
}


def _layer_name(module: str) -> str | None:
    """The layer here that a module of PyTorch corresponds to; None where no rule knows the module.

    Example:
        >>> _layer_name("layer2.0.shortcut.1"), _layer_name("features.denseblock1.denselayer2.norm1")
        ('stage2_block1_shortcut_bn', 'stage1_block2_bn1')
    """
    for pattern, layer in _RULES:
        if match := re.fullmatch(pattern, module):
            fields = match.groupdict()
            name = layer.format(**fields).replace("norm", "bn")
            if "stage" not in fields:
                return name
            block = int(fields["from_0"]) + 1 if fields.get("from_0") else int(fields["from_1"])
            return f"stage{fields['stage']}_block{block}_{name}"
    return None


def _bare(name: str) -> str:
    """A weight's name without the prefixes of DataParallel and torch.compile, in any order.

    Example:
        >>> _bare("module._orig_mod.conv1.weight")
        'conv1.weight'
    """
    return re.sub(r"^((module|_orig_mod)\.)+", "", name)


def _bare_names(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays by their bare names; refuses two names that become the same."""
    bare = {_bare(str(name)): array for name, array in arrays.items()}
    if len(bare) < len(arrays):
        twice = sorted(name for name, count in collections.Counter(map(_bare, map(str, arrays))).items() if count > 1)
        raise UserError(f"Expected each weight once. Received: {twice[:8]} with and without module. or _orig_mod.")
    return bare


def read_torch_checkpoint(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """The weights in a file of PyTorch's, by their names there.

    The file is read as weights only: what else is pickled in it is not executed. A state dict may stand by itself or
    under `net` (the CS-KD and PS-KD code), `state_dict` or `model`; the prefixes of DataParallel and torch.compile
    (`module.`, `_orig_mod.`) are dropped, and so are the batch counters that PyTorch keeps.

    Args:
        path: a `.pth` or `.t7` file, of any version of PyTorch.

    Returns:
        float32 arrays, shaped as PyTorch has them.

    Raises:
        UserError: PyTorch is not installed, or the file is not a checkpoint, or holds more than weights and numbers.
    """
    try:
        import torch
    except ImportError as error:
        raise UserError(
            "Expected PyTorch, which reads its own files: pip install torch==2.13.0 (a build for the CPU will do)."
        ) from error
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(f"Expected a checkpoint file. Received: {path}, which is no file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever PyTorch's parsers raise for a file that is not one of theirs
        raise UserError(
            f"Expected a PyTorch checkpoint of weights only. Received: {path} ({_reason(error, path)})"
        ) from error
    return {
        name: tensor.detach().to(torch.float32).numpy()
        for name, tensor in _state_dict(content, path=path).items()
        if not name.endswith("num_batches_tracked")
    }


def _state_dict(content: Any, *, path: pathlib.Path) -> dict[str, Any]:
    """The tensors of a checkpoint by their bare names."""
    import torch

    for key in ("net", "state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    is_dictionary = isinstance(content, Mapping)
    tensors = {name: tensor for name, tensor in content.items() if torch.is_tensor(tensor)} if is_dictionary else {}
    bare = _bare_names(tensors)
    if not bare or len(bare) < len(content):
        raise UserError(
            "Expected a state dict, alone or under 'net': names and tensors. "
            f"Received: {path} with {sorted(map(str, content))[:8] if is_dictionary else type(content)}"
        )
    return bare


def load_torch_weights(network: keras.Model, weights: str | pathlib.Path | Mapping[str, np.ndarray]) -> None:
    """Gives `network` the weights of the same network in PyTorch; nothing changes unless all of them fit.

    A convolution's kernel is `[O, I, H, W]` in PyTorch and `[H, W, I, O]` here, a dense one `[O, I]` and `[I, O]`.

    Example:
        >>> images = keras.Input((3,))
        >>> network = keras.Model(images, keras.layers.Dense(2, name="classifier")(images))
        >>> load_torch_weights(network, {"fc.weight": np.arange(6).reshape(2, 3), "fc.bias": np.zeros(2)})
        >>> network.get_layer("classifier").get_weights()[0].tolist()
        [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]

    Args:
        network: of `cskd_tf.networks.build`.
        weights: a file for `read_torch_checkpoint`, or what that returned.

    Raises:
        UserError: weights that are missing, left over, of another shape, or not finite; all are listed. Errors of
            `read_torch_checkpoint`.
    """
    arrays = _bare_names(weights if isinstance(weights, Mapping) else read_torch_checkpoint(weights))
    names, left_over = _names_by_weight(arrays)
    missing, other_shape, not_finite, values = [], [], [], []
    for layer, kind, variable in _variables(network):
        name = names.pop((layer, _WEIGHTS[kind]), None)
        if name is None:
            missing.append(f"{layer}/{kind}")
            continue
        torch_array = np.asarray(arrays[name])
        array = torch_array.transpose((2, 3, 1, 0)) if torch_array.ndim == 4 else torch_array.T
        if array.shape != tuple(variable.shape):
            expected = _torch_shape(tuple(variable.shape))
            other_shape.append(f"{name}: {torch_array.shape} in the file, {expected} in the network")
        if not np.isfinite(array).all():
            not_finite.append(name)
        values.append((variable, array))
    left_over += [f"{name} ({layer})" for (layer, _), name in names.items()]
    problems = {
        "missing": missing,
        "left over": left_over,
        "of another shape": other_shape,
        "not finite": not_finite,
    }
    if any(problems.values()):
        listed = "; ".join(
            f"{len(items)} {problem}: {', '.join(items)}" for problem, items in problems.items() if items
        )
        raise UserError(f"Expected exactly the weights of {network.name}, by name and shape. Received: {listed}")
    for variable, array in values:
        variable.assign(array)


def _names_by_weight(arrays: Mapping[str, Any]) -> tuple[dict[tuple[str, str], str], list[str]]:
    """The arrays' names by the layer here and PyTorch's name of the weight; and the names that get no layer.

    Example:
        >>> _names_by_weight({"conv1.weight": None, "features.conv0.weight": None, "teacher.bias": None})
        ({('stem_conv', 'weight'): 'conv1.weight'}, ['features.conv0.weight', 'teacher.bias'])
    """
    names: dict[tuple[str, str], str] = {}
    left_over = []
    for name in arrays:
        module, _, weight = name.rpartition(".")
        layer = _layer_name(module)
        if layer is None or (layer, weight) in names:
            left_over.append(name)
        else:
            names[layer, weight] = name
    return names, left_over


def _variables(network: keras.Model) -> Iterator[tuple[str, str, keras.Variable]]:
    """The weights that PyTorch has too: the layer's name, the kind (a key of `_WEIGHTS`), and the variable."""
    for layer in network.layers:
        for variable in layer.weights:
            kind = variable.name.rpartition("/")[2]
            if kind in _WEIGHTS:  # else it is the state of ShakeDrop's random numbers
                yield layer.name, kind, variable


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in PyTorch of a weight that has `shape` here.

    Example:
        >>> _torch_shape((3, 3, 16, 32)), _torch_shape((512, 10))
        ((32, 16, 3, 3), (10, 512))
    """
    if len(shape) == 4:
        height, width, inputs, outputs = shape
        return outputs, inputs, height, width
    return shape[::-1]


def count_classes(weights: Mapping[str, np.ndarray]) -> int | None:
    """The number of classes of a network with these weights; None where no classifier is among them.

    Example:
        >>> count_classes({"conv1.weight": np.zeros((64, 3, 3, 3)), "fc.weight": np.zeros((10, 512))})
        10

    Args:
        weights: of `read_torch_checkpoint`.
    """
    for name, array in weights.items():
        if _layer_name(_bare(name).rpartition(".")[0]) == "classifier":
            return len(array)
    return None


def _reason(error: Exception, path: pathlib.Path) -> str:
    """PyTorch's message in one line without colours; only what it refuses to execute, where that is the reason."""
    if path.read_bytes()[:4] == b"PK\x03\x04" and not zipfile.is_zipfile(path):
        return "its end is missing, as of a download that broke off"
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    refused = re.search(r"unsupported (?:global|class|operand)[^\n]*?(?= was not|\n|$)", text, re.IGNORECASE)
    return refused[0] if refused else (text.splitlines() or [type(error).__name__])[0][:200]
