"""Checks for users and for the tests: does the compiled model compute what the model does?"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from .compile import Compiled, compile

__all__ = ["assert_matches"]


def assert_matches(
    model: nn.Module,
    inputs: Sequence[Any] | torch.Tensor,
    kwargs: dict[str, Any] | None = None,
    *,
    strict: bool = False,
    freeze: bool = False,
    **tolerances: Any,
) -> Compiled:
    """Compiles a copy of the model, compares its results with eager's, and returns it.

    Values are compared by `torch.testing.assert_close` with the given tolerances, dtypes and
    strides exactly, at the first call and the second. The model itself is left as it is, and runs
    with no grad. Raises AssertionError where they differ, and with `strict` FusionError where
    nothing was fused.
    """
    args = (inputs,) if isinstance(inputs, torch.Tensor) else tuple(inputs)
    kwargs = dict(kwargs or {})
    reference = copy.deepcopy(model)
    with torch.no_grad():
        expected = reference(*args, **kwargs)
        fast = compile(copy.deepcopy(model), args, kwargs or None, strict=strict, freeze=freeze)
        for _ in range(2):
            _assert_same(fast(*args, **kwargs), expected, tolerances)
    return fast


def _assert_same(actual: Any, expected: Any, tolerances: dict[str, Any]) -> None:
    actual_leaves, actual_tree = pytree.tree_flatten(actual)
    expected_leaves, expected_tree = pytree.tree_flatten(expected)
    if actual_tree != expected_tree:
        raise AssertionError(f"results are nested as {actual_tree}, not as {expected_tree}")
    for number, (mine, theirs) in enumerate(zip(actual_leaves, expected_leaves, strict=True)):
        if not isinstance(theirs, torch.Tensor):
            if mine != theirs:
                raise AssertionError(f"result {number} is {mine!r}, not {theirs!r}")
            continue
        torch.testing.assert_close(
            mine, theirs, **tolerances, msg=lambda text, n=number: f"result {n}: {text}"
        )
        if mine.stride() != theirs.stride():
            raise AssertionError(
                f"result {number} has strides {mine.stride()}, not {theirs.stride()}"
            )
