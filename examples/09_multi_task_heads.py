"""Many targets from one trunk: a head for each, every one with its own layers.

Run it with `.venv/bin/python examples/09_multi_task_heads.py`.
"""

import torch
from torch import nn

from pfcn.testing import assert_matches


class Head(nn.Module):
    """One target. x: [batch, width] → a mean and a positive scale, [batch, 1] each."""

    def __init__(self, width, hidden):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, hidden)
        self.mean = nn.Linear(hidden, 1)
        self.scale = nn.Linear(hidden, 1)

    def forward(self, x):
        h = nn.functional.silu(self.hidden(self.norm(x)))
        return self.mean(h), nn.functional.softplus(self.scale(h))


class MultiTask(nn.Module):
    """x: [batch, features] → a dict of targets, (mean, scale) each."""

    def __init__(self, features, targets, width=64, hidden=16):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(features, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        for i in range(targets):
            setattr(self, f"head_{i}", Head(width, hidden))
        self.targets = targets

    def forward(self, x):
        shared = self.trunk(x)
        return {f"target_{i}": getattr(self, f"head_{i}")(shared) for i in range(self.targets)}


def make():
    return MultiTask(features=32, targets=50).eval()


def inputs(batch):
    return (torch.randn(batch, 32),)


if __name__ == "__main__":
    torch.manual_seed(0)
    print(assert_matches(make(), inputs(32)).report)
