"""A bank of DeepONets (Lu et al., 2021): one operator per output field.

A branch network reads the sampled input function, a trunk network the coordinates; each field is
their scalar product. Run it with `.venv/bin/python examples/10_deeponet_bank.py`.
"""

import itertools

import torch
from torch import nn

from pfcn.testing import assert_matches


def mlp(*widths):
    layers = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


class DeepONet(nn.Module):
    """(function [batch, sensors], coordinates [points, 2]) → field [batch, points]."""

    def __init__(self, sensors, hidden, basis):
        super().__init__()
        self.branch = mlp(sensors, hidden, hidden, basis)
        self.trunk = mlp(2, hidden, hidden, basis)
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, function, coordinates):
        return torch.einsum("bk,pk->bp", self.branch(function), self.trunk(coordinates)) + self.bias


class Bank(nn.Module):
    """(function, coordinates) → fields [batch, fields, points]."""

    def __init__(self, fields, sensors=50, hidden=32, basis=16):
        super().__init__()
        self.operators = nn.ModuleList(DeepONet(sensors, hidden, basis) for _ in range(fields))

    def forward(self, function, coordinates):
        return torch.stack([net(function, coordinates) for net in self.operators], dim=1)


def make():
    return Bank(fields=24).eval()


def inputs(batch):
    return torch.randn(batch, 50), torch.rand(100, 2)


if __name__ == "__main__":
    torch.manual_seed(0)
    print(assert_matches(make(), inputs(16)).report)
