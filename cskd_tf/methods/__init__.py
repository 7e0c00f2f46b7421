"""Every method, and the way from a config's list to their objects."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from cskd_tf.errors import UserError, did_you_mean
from cskd_tf.methods.adacos import AdaCos
from cskd_tf.methods.base import Head, Method, View
from cskd_tf.methods.byot import BYOT
from cskd_tf.methods.composition import Composition
from cskd_tf.methods.cskd import CSKD
from cskd_tf.methods.cutmix import CutMix
from cskd_tf.methods.cutout import Cutout
from cskd_tf.methods.ddgsd import DDGSD
from cskd_tf.methods.distillation import Distillation
from cskd_tf.methods.dlb import DLB
from cskd_tf.methods.label_smoothing import LabelSmoothing
from cskd_tf.methods.max_entropy import MaxEntropy
from cskd_tf.methods.mixing import Mixing
from cskd_tf.methods.mixup import Mixup
from cskd_tf.methods.pskd import PSKD
from cskd_tf.methods.tfkd import TFKD
from cskd_tf.methods.uskd import USKD
from cskd_tf.methods.virtual_softmax import VirtualSoftmax
from cskd_tf.methods.zipf_label_smoothing import ZipfLabelSmoothing

METHODS = {
    method.__name__: method
    for method in (
        CSKD,
        LabelSmoothing,
        MaxEntropy,
        AdaCos,
        VirtualSoftmax,
        DDGSD,
        BYOT,
        Mixup,
        CutMix,
        Cutout,
        Distillation,
        PSKD,
        TFKD,
        ZipfLabelSmoothing,
        USKD,
        DLB,
    )
}


for _method in METHODS.values():
    keras.saving.register_keras_serializable("cskd_tf")(_method)


def build(descriptions: Sequence[Mapping[str, Any]]) -> list[Mixing | Head | Method]:
    """The methods of a config.

    Example:
        >>> build([{"name": "Mixup", "alpha": 0.4}])
        [Mixup(alpha=0.4)]

    Args:
        descriptions: one mapping per method: `name`, and the keyword arguments of the class.

    Raises:
        UserError: an unknown method or argument (the known ones are listed), a missing one, a value out of range, or a
            list that cannot work together.
    """
    if not isinstance(descriptions, (list, tuple)) or not all(isinstance(entry, Mapping) for entry in descriptions):
        raise UserError(
            'Expected a list with a mapping for each method, as [{"name": "CSKD", "temperature": 4.0}] or, in Python, '
            f'({{"name": "CSKD"}},) with its comma. Received: methods={descriptions!r}'
        )
    methods: list[Mixing | Head | Method] = []
    for description in descriptions:
        arguments = dict(description)
        name = arguments.pop("name", None)
        if not isinstance(name, str) or name not in METHODS:
            known = f"Unknown method; expected one of {sorted(METHODS)}"
            raise UserError(f"{known}. Received: name={name!r}{did_you_mean(name, METHODS)}")
        parameters = dict(inspect.signature(METHODS[name]).parameters)
        parameters.pop("kwargs", None)
        if unknown := sorted(set(arguments) - set(parameters)):
            raise UserError(f"Unknown argument of {name}; expected some of {list(parameters)}. Received: {unknown}")
        needed = {key for key, parameter in parameters.items() if parameter.default is parameter.empty}
        if missing := sorted(needed - set(arguments)):
            raise UserError(f"Expected {name} with {missing}. Received: {description}")
        methods.append(METHODS[name](**arguments))
    Composition(methods)  # refuses what cannot work together
    return methods


def for_inference(descriptions: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The part of a config's list without which its classifier would compute something else: what replaces the head.

    Example:
        >>> for_inference([{"name": "AdaCos"}, {"name": "CSKD"}])
        [{'name': 'AdaCos'}]
    """
    return [description for description in descriptions if issubclass(METHODS[description["name"]], Head)]


__all__ = [
    "BYOT",
    "CSKD",
    "DDGSD",
    "DLB",
    "METHODS",
    "PSKD",
    "TFKD",
    "USKD",
    "AdaCos",
    "Composition",
    "CutMix",
    "Cutout",
    "Distillation",
    "Head",
    "LabelSmoothing",
    "MaxEntropy",
    "Method",
    "Mixing",
    "Mixup",
    "View",
    "VirtualSoftmax",
    "ZipfLabelSmoothing",
    "build",
    "for_inference",
]
