"""Networks of fifty layers and more, which take seconds to be made."""

from collections.abc import Iterable

import pytest

THOROUGH = {"densenet121_cifar", "resnet50", "resnet101_cifar", "resnext50_32x4d"}
SLOW = {"densenet121", "pyramidnet200", "pyramidnet200_shakedrop", "resnet101", "resnet152", "resnext101_32x4d"}


def deep_ones_later(names: Iterable[str], *more):
    """Parameters of a test for each network, its name and `more`; the deep ones are not of every test run."""
    marks = {**dict.fromkeys(THOROUGH, pytest.mark.thorough), **dict.fromkeys(SLOW, pytest.mark.slow)}
    return [pytest.param(name, *more, marks=[marks[name]] if name in marks else []) for name in names]
