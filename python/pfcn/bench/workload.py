"""What a workload is: a model, its inputs, the systems that run it, and what it must cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

Call = Callable[[torch.Tensor], torch.Tensor]


class LeftOut(Exception):
    """Raised by a set-up where the system cannot run; the text is the reason in the table."""


@dataclass(frozen=True)
class System:
    """One way to run a workload.

    `setup(model, x)` returns a callable that takes `x` and returns what `model(x)` returns; it owns
    `model`, and runs without grad. A `slow` one takes minutes at n = 1000, and runs with `--all`
    only.
    """

    name: str
    setup: Callable[[nn.Module, torch.Tensor], Call]
    slow: bool = False


@dataclass(frozen=True)
class Cost:
    """What no implementation can avoid: the bytes read and written once, and the operations."""

    bytes: int
    flops: int


@dataclass(frozen=True)
class Workload:
    """A named model family of `instances` independent networks."""

    name: str
    about: str
    make: Callable[[int, int], tuple[nn.Module, torch.Tensor]]  # (instances, batch)
    cost: Callable[[int, int], Cost]
    systems: Sequence[System]
