"""Makes a failing case small: one field at a time, as long as it still fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from banks import Case


def smaller(case: Case) -> Iterator[Case]:
    """Cases with a little less in them, the largest steps first."""

    def change(**fields: Any) -> Case:
        return replace(case, **fields)

    for name in ("trunk", "tied", "interleaved", "multi_head"):
        if getattr(case, name):
            yield change(**{name: False})
    if case.odd:
        yield change(odd={})
    if case.edit:
        yield change(edit="")
    plain = {"layout": "plain", "join": "list", "source": "slice", "dtype": "float32"}
    for name, value in plain.items():
        if getattr(case, name) != value and not (name == "dtype" and "int" in case.dtype):
            yield change(**{name: value})
    if case.mode != "eval":
        yield change(mode="eval")
    if case.mode == "stacked":
        yield change(mode="train")
    for name, least in (("count", 1), ("batch", 1), ("width", 1), ("out", 1), ("length", 1)):
        value = getattr(case, name)
        odd = max((int(index) for index in case.odd), default=-1)
        for lower in sorted({least, 2, 3, value // 2, value - 1}):
            if least <= lower < value and not (name == "count" and lower <= odd):
                yield change(**{name: lower})
    for i in range(len(case.formula) - 1, 0, -1):
        yield change(formula=without(case.formula, i))
    for i in range(len(case.layers)):
        if len(case.layers) > 1:
            hidden = list(case.hidden)
            if hidden:
                del hidden[min(i, len(hidden) - 1)]
            yield change(layers=case.layers[:i] + case.layers[i + 1 :], hidden=hidden)
        layer = case.layers[i]
        for key, value in layer.items():
            low: Any = {bool: False, int: 1, str: ""}[type(value)]
            if value != low and key not in ("kind", "mode", "heads"):
                yield change(layers=[*case.layers[:i], {**layer, key: low}, *case.layers[i + 1 :]])
    for i, size in enumerate(case.hidden):
        if size > 1:
            yield change(hidden=[*case.hidden[:i], size // 2, *case.hidden[i + 1 :]])


def without(formula: list, i: int) -> list:
    """The formula without step i, whose users read its operand instead."""
    result = []
    for name, *operands in formula[:i] + formula[i + 1 :]:
        result.append([name, *(formula[i][1] if k == i + 2 else k - (k > i + 2) for k in operands)])
    return result


def minimise(case: Case, fails: Callable[[Case], bool], seconds: float = 120) -> Case:
    """The smallest case found in time that still fails."""
    end = time.monotonic() + seconds
    while True:
        for candidate in smaller(case):
            if time.monotonic() > end:
                return case
            if fails(candidate):
                case = candidate
                break
        else:
            return case
