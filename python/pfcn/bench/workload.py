"""What a workload is: a model, its inputs, the systems that run it, and what it must cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

Call = Callable[..., Any]


class LeftOut(Exception):
    """Raised by a set-up where the system cannot run; the text is the reason in the table."""


@dataclass(frozen=True)
class System:
    """One way to run a workload.

    `setup(model, *inputs)` returns a callable that takes the inputs and returns what the model
    does; it owns `model`, and runs without grad. A `slow` one takes minutes at n = 1000, and runs
    with `--all` only. A `ceiling` is no rival: nobody writes it in place of a model, and it shows
    what could be reached.
    """

    name: str
    setup: Callable[..., Call]
    slow: bool = False
    ceiling: bool = False
    reference: str | None = None  # the system whose first result is right; None: the model itself


@dataclass(frozen=True)
class Cost:
    """What no implementation can avoid: the bytes read and written once, and the operations."""

    bytes: int
    flops: int


@dataclass(frozen=True)
class Workload:
    """A named model of independent networks.

    `make(instances, batch)` returns the model in eval mode and the arguments of a call, on the CPU
    and seeded; without `instances`, the model has its usual size. `cost` is None where it is not
    known.
    """

    name: str
    about: str
    make: Callable[[int | None, int], tuple[nn.Module, tuple[Any, ...]]]
    cost: Callable[[int | None, int], Cost] | None
    systems: Sequence[System]
    ours: str = "pfcn (live weights)"
    baseline: str = "eager loop"
