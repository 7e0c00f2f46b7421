"""Networks of a hundred layers and more, which take seconds to be made."""

from collections.abc import Iterable

import pytest

DEEP = {"densenet121", "pyramidnet200", "pyramidnet200_shakedrop", "resnet101", "resnet152", "resnext101_32x4d"}


def deep_ones_slow(names: Iterable[str], *more):
    """Parameters of a test for each network, its name and `more`; the deep ones are slow tests."""
    return [pytest.param(name, *more, marks=[pytest.mark.slow] if name in DEEP else []) for name in names]
