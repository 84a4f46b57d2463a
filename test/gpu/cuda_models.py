"""The models that the CUDA path must run, each of another kind, and small enough to interpret."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from pfcn.bench.seed import ParallelFCN


class Bank(nn.Module):
    """n networks, each on its own slice of the input or all on the same."""

    def __init__(self, n: int, make, width: int, shared: bool = False):
        super().__init__()
        self.models = nn.ModuleList(make() for _ in range(n))
        self.width, self.shared = width, shared

    def forward(self, x):
        w = self.width
        inputs = [x if self.shared else x[:, i * w : (i + 1) * w] for i in range(len(self.models))]
        return torch.cat([m(v) for m, v in zip(self.models, inputs, strict=True)], dim=1)


class SharedInput(nn.Module):
    """An ensemble of three-layer ReLU networks of one input: [batch, 64] → [batch, n, 8]."""

    def __init__(self, n: int, hidden: int):
        super().__init__()
        self.members = nn.ModuleList(
            nn.Sequential(
                *(nn.Linear(64, hidden), nn.ReLU()),
                *(nn.Linear(hidden, hidden), nn.ReLU()),
                nn.Linear(hidden, 8),
            )
            for _ in range(n)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([member(x) for member in self.members], dim=1)


class TwoClasses(nn.Module):
    """Networks of two sizes, interleaved, each on its own slice: two groups."""

    width = 24

    def __init__(self, n: int):
        super().__init__()
        self.networks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(self.width, 7 if i % 2 else 12),
                nn.Tanh(),
                nn.Linear(7 if i % 2 else 12, 2),
            )
            for i in range(n)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = x.split(self.width, dim=1)
        return torch.cat([net(part) for net, part in zip(self.networks, parts, strict=True)], dim=1)


class NormBank(nn.Module):
    """Layer norm and GELU before a linear layer, for every slice."""

    def __init__(self, n: int):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(24), nn.Linear(24, 16), nn.GELU(), nn.Linear(16, 3))
            for _ in range(n)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = x.chunk(len(self.blocks), dim=1)
        return torch.stack([block(part) for block, part in zip(self.blocks, parts, strict=True)])


Made = tuple[nn.Module, torch.Tensor]

# Of each kind: what makes the model and an input, and how many kernels it should become.
MODELS: dict[str, tuple[Callable[[], Made], int]] = {
    "seed": (lambda: (ParallelFCN(1000), torch.rand(1, 20000)), 1),
    "ensemble": (lambda: (SharedInput(3, hidden=64), torch.randn(128, 64)), 1),
    "two classes": (lambda: (TwoClasses(10), torch.randn(6, 240)), 2),
    "norm bank": (lambda: (NormBank(5), torch.randn(9, 120)), 1),
}


def make(kind: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> Made:
    torch.manual_seed(seed)
    model, x = MODELS[kind][0]()
    return model.to(dtype).eval().requires_grad_(False), x.to(dtype)
