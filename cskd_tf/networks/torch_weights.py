"""Weights of the same networks from checkpoints of the public PyTorch code, and of torchvision.

A name there and a layer here differ in spelling only, so a short list of rules translates every family.
"""

import collections
import pathlib
import re
from collections.abc import Mapping

import keras
import numpy as np

from cskd_tf.errors import UserError

# Spellings of the CS-KD and PS-KD code, of torchvision, of the ResNeXt-29 and of the PyramidNet that PS-KD uses.
# Blocks are counted from 0 there and from 1 here, but in torchvision's DenseNets.
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
_WEIGHTS = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "kernel": "weight",
    "bias": "bias",
}


def _layer_name(module: str) -> str | None:
    """The layer here of a module there. Example: `layer2.0.shortcut.1` is `stage2_block1_shortcut_bn`."""
    for pattern, layer in _RULES:
        if match := re.fullmatch(pattern, module):
            found = match.groupdict()
            name = layer.format(**found).replace("norm", "bn")
            if "stage" not in found:
                return name
            block = int(found["from_0"]) + 1 if found.get("from_0") else int(found["from_1"])
            return f"stage{found['stage']}_block{block}_{name}"
    return None


def _bare(name: str) -> str:
    """A weight's name without what DataParallel and torch.compile put before it, in any order."""
    return re.sub(r"^((module|_orig_mod)\.)+", "", name)


def _bare_names(arrays: Mapping) -> dict:
    """As `_bare`, of all names; ValueError where two become one."""
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
        ValueError: PyTorch is not installed, or the file is not a checkpoint, or holds more than weights and numbers.
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
    except Exception as error:  # whatever its parsers stumble over in a file that is none of theirs
        raise UserError(
            f"Expected a PyTorch checkpoint of weights only. Received: {path} ({_reason(error)})"
        ) from error
    for key in ("net", "state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    tensors = isinstance(content, Mapping) and _bare_names(
        {name: tensor for name, tensor in content.items() if torch.is_tensor(tensor)}
    )
    if not tensors or len(tensors) < len(content):
        raise UserError(
            "Expected a state dict, alone or under 'net': names and tensors. "
            f"Received: {path} with {sorted(map(str, content))[:8] if isinstance(content, Mapping) else type(content)}"
        )
    return {
        name: tensor.detach().to(torch.float32).numpy()
        for name, tensor in tensors.items()
        if not name.endswith("num_batches_tracked")
    }


def load_torch_weights(network: keras.Model, weights: str | pathlib.Path | Mapping[str, np.ndarray]) -> None:
    """Gives `network` the weights of the same network in PyTorch; nothing changes unless all of them fit.

    Example: `load_torch_weights(build("resnet18", num_classes=1000, input_shape=(224, 224, 3)), "resnet18.pth")`.

    Args:
        network: of `cskd_tf.networks.build`.
        weights: a file for `read_torch_checkpoint`, or what that returned. A convolution's kernel is `[O, I, H, W]`
            there and `[H, W, I, O]` here, a dense one `[O, I]` and `[I, O]`.

    Raises:
        ValueError: weights that are missing, left over, or of another shape; all are listed. Errors of
            `read_torch_checkpoint`.
    """
    arrays = weights if isinstance(weights, Mapping) else read_torch_checkpoint(weights)
    arrays = _bare_names(arrays)
    by_layer: dict[str, str] = {}
    left_over = []
    for name in arrays:
        module, _, weight = name.rpartition(".")
        key = f"{_layer_name(module)}.{weight}"
        if key in by_layer or _layer_name(module) is None:
            left_over.append(name)
        by_layer.setdefault(key, name)
    missing, other_shape, values = [], [], []
    for layer in network.layers:
        for variable in layer.weights:
            kind = variable.name.rpartition("/")[2]
            if kind not in _WEIGHTS:  # the state of ShakeDrop's random numbers
                continue
            name = by_layer.pop(f"{layer.name}.{_WEIGHTS[kind]}", None)
            if name is None:
                missing.append(f"{layer.name}/{kind}")
                continue
            array = np.asarray(arrays[name])
            array = array.transpose((2, 3, 1, 0)) if array.ndim == 4 else array.T
            if array.shape != tuple(variable.shape):
                there, here = arrays[name].shape, tuple(variable.shape)
                here = here[::-1] if len(here) != 4 else (here[3], here[2], here[0], here[1])
                other_shape.append(f"{name}: {there} in the file, {here} in the network")
            values.append((variable, array))
    left_over += [f"{name} ({key.rpartition('.')[0]})" for key, name in by_layer.items() if name not in left_over]
    problems = {"missing": missing, "left over": left_over, "of another shape": other_shape}
    if any(problems.values()):
        found = "; ".join(f"{len(names)} {what}: {', '.join(names)}" for what, names in problems.items() if names)
        raise UserError(f"Expected exactly the weights of {network.name}, by name and shape. Received: {found}")
    for variable, array in values:
        variable.assign(array)


def count_classes(weights: Mapping[str, np.ndarray]) -> int | None:
    """Classes that the weights of `read_torch_checkpoint` tell apart; None where no classifier is among them."""
    for name, array in weights.items():
        if _layer_name(_bare(name).rpartition(".")[0]) == "classifier":
            return len(array)
    return None


def _reason(error: Exception) -> str:
    """What PyTorch says, in a line: what it refuses to execute, where that is the reason, and no colours."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    refused = re.search(r"unsupported (?:global|class|operand)[^\n]*?(?= was not|\n|$)", text, re.IGNORECASE)
    return refused[0] if refused else (text.splitlines() or [type(error).__name__])[0][:200]
