"""A neural additive model (Agarwal et al., 2021): one small network per feature, summed.

The price of being interpretable is a loop over features. Run it with
`.venv/bin/python examples/02_neural_additive_model.py`.
"""

import torch
from torch import nn

from pfcn.testing import assert_matches


class ExU(nn.Module):
    """An exp-centred unit: relu-n((x - b) · exp(w)), for functions with sharp jumps."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs).normal_(4.0, 0.5))
        self.bias = nn.Parameter(torch.empty(inputs).normal_(0.0, 0.5))

    def forward(self, x):
        return torch.clamp((x - self.bias) @ torch.exp(self.weight), 0, 1)


class FeatureNet(nn.Module):
    """One feature's shape function. x: [batch] → [batch, 1]."""

    def __init__(self, units=64, hidden=32, dropout=0.1):
        super().__init__()
        self.input = ExU(1, units)
        self.linear = nn.Linear(units, hidden)
        self.output = nn.Linear(hidden, 1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        h = self.dropout(self.input(x.unsqueeze(1)))
        h = self.dropout(torch.relu(self.linear(h)))
        return self.output(h)


class NeuralAdditiveModel(nn.Module):
    """x: [batch, features] → ([batch] of predictions, [batch, features] of contributions)."""

    def __init__(self, features):
        super().__init__()
        self.feature_nets = nn.ModuleList(FeatureNet() for _ in range(features))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        contributions = torch.cat([net(x[:, i]) for i, net in enumerate(self.feature_nets)], dim=-1)
        return contributions.sum(dim=-1) + self.bias, contributions


def make():
    return NeuralAdditiveModel(features=100).eval()


def inputs(batch):
    return (torch.rand(batch, 100),)


if __name__ == "__main__":
    torch.manual_seed(0)
    print(assert_matches(make(), inputs(64)).report)
