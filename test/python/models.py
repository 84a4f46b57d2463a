"""Models as people write them, with many small networks side by side."""

from __future__ import annotations

import torch
from torch import nn


class Slices(nn.Module):
    """Network i reads its own slice of the input; results are concatenated."""

    def __init__(self, n: int, inputs: int = 5, hidden: int = 4, outputs: int = 3, act=nn.Tanh):
        super().__init__()
        self.width = inputs
        self.models = nn.ModuleList(
            nn.Sequential(nn.Linear(inputs, hidden), act(), nn.Linear(hidden, outputs))
            for _ in range(n)
        )

    def forward(self, x):
        width = self.width
        parts = [m(x[:, i * width : (i + 1) * width]) for i, m in enumerate(self.models)]
        return torch.cat(parts, dim=1)


class Shared(Slices):
    """All networks read the whole input; results are stacked."""

    def forward(self, x):
        return torch.stack([m(x) for m in self.models])


class OneByOne(Slices):
    """The results are a list."""

    def forward(self, x):
        return [m(part) for m, part in zip(self.models, x.chunk(len(self.models), 1), strict=True)]


class Summed(Shared):
    """The results are added up."""

    def forward(self, x):
        return sum(m(x) for m in self.models)


class Columns(Slices):
    """The results lie one beside the other in a new last dimension."""

    def forward(self, x):
        parts = x.split(self.width, dim=1)
        return torch.stack([m(p) for m, p in zip(self.models, parts, strict=True)], dim=-1)


class TwoClasses(nn.Module):
    """Two kinds of network, interleaved, on slices of different widths."""

    def __init__(self, n: int):
        super().__init__()
        self.narrow = nn.ModuleList(nn.Linear(2, 3) for _ in range(n))
        self.wide = nn.ModuleList(
            nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)) for _ in range(n)
        )

    def forward(self, x):
        parts, start = [], 0
        for narrow, wide in zip(self.narrow, self.wide, strict=True):
            parts.append(narrow(x[:, start : start + 2]))
            parts.append(wide(x[:, start + 2 : start + 6]))
            start += 6
        return torch.cat(parts, dim=1)


def make(model: nn.Module, seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The model in eval mode with seeded weights; the seed is in a failing test's name."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return model.eval().to(dtype)
