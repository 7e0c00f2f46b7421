"""Which cases of a test every test run takes."""

from collections.abc import Iterable

import pytest


def quick(cases: Iterable, *names):
    """Parameters of a test of many cases: `make test` takes those of `names`, `make thorough` the others.

    Args:
        cases: parameters as `pytest.mark.parametrize` takes them; one that has marks keeps them.
        *names: of cases, their ids, or themselves where they have none.
    """
    cases = [case if hasattr(case, "marks") else pytest.param(case) for case in cases]
    by_name = {case.id or case.values[0]: case for case in cases}
    assert by_name.keys() >= set(names), sorted(set(names) - by_name.keys())
    return [
        case if name in names or case.marks else pytest.param(*case.values, id=case.id, marks=pytest.mark.thorough)
        for name, case in by_name.items()
    ]


def few(cases: Iterable, count: int):
    """Parameters of a test of many cases: `make test` takes the first ones, `make thorough` the others."""
    cases = [case if hasattr(case, "marks") or isinstance(case, tuple) else (case,) for case in cases]
    return [
        case if hasattr(case, "marks") else pytest.param(*case, marks=pytest.mark.thorough if number >= count else ())
        for number, case in enumerate(cases)
    ]
