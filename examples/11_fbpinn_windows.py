"""Finite-basis PINNs (Moseley et al., 2023): a small network per subdomain, under a window.

Each network sees the coordinate as it is normalised to its own subdomain, so the networks differ in
constants too. Run it with `.venv/bin/python examples/11_fbpinn_windows.py`.
"""

import torch
from torch import nn

from pfcn.testing import assert_matches


class Subdomain(nn.Module):
    """x: [points, 1] → the windowed network, [points, 1]."""

    def __init__(self, centre, half_width, hidden=16):
        super().__init__()
        self.centre, self.half_width = centre, half_width
        self.net = nn.Sequential(
            nn.Linear(1, hidden),
            nn.Tanh(),
            nn.Linear(hidden, hidden),
            nn.Tanh(),
            nn.Linear(hidden, 1),
        )

    def forward(self, x):
        local = (x - self.centre) / self.half_width
        window = torch.sigmoid((local + 1) * 10) * torch.sigmoid((1 - local) * 10)
        return window * self.net(local)


class FBPINN(nn.Module):
    """x: [points, 1] → the solution, [points, 1]: zero at x = 0 by a factor."""

    def __init__(self, subdomains):
        super().__init__()
        step = 1.0 / subdomains
        self.subdomains = nn.ModuleList(
            Subdomain(step * (i + 0.5), 0.7 * step) for i in range(subdomains)
        )

    def forward(self, x):
        solution = torch.zeros_like(x)
        for subdomain in self.subdomains:
            solution = solution + subdomain(x)
        return torch.tanh(x) * solution


def make():
    return FBPINN(60).eval()


def inputs(batch):
    return (torch.rand(batch, 1),)


if __name__ == "__main__":
    torch.manual_seed(0)
    print(assert_matches(make(), inputs(200)).report)
