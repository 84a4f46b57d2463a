"""Per-feature networks for tables: embeddings of every column, then an ensemble of heads.

Numerical columns each have a small network, categorical ones an embedding with as many rows as the
column has values; the heads differ by scales of their inputs and outputs, as in TabM
(Gorishniy et al., 2025). Run it with `.venv/bin/python examples/07_tabular_networks.py`.
"""

import torch
from torch import nn

from pfcn.testing import assert_matches


class NumericalEmbedding(nn.Module):
    """One column. x: [batch, 1] → [batch, width]."""

    def __init__(self, width, frequencies=8):
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(frequencies))
        self.linear = nn.Linear(2 * frequencies, width)

    def forward(self, x):
        angles = 2 * torch.pi * self.frequencies * x
        return torch.relu(self.linear(torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)))


class Head(nn.Module):
    """One member of the ensemble: a layer that all share, and scales of its own."""

    def __init__(self, shared, outputs):
        super().__init__()
        self.shared = shared
        self.r = nn.Parameter(torch.randn(shared.in_features).sign())
        self.s = nn.Parameter(torch.randn(shared.out_features).sign())
        self.output = nn.Linear(shared.out_features, outputs)

    def forward(self, x):
        return self.output(torch.relu(self.shared(x * self.r) * self.s))


class TabularEnsemble(nn.Module):
    """numbers: [batch, columns], categories: [batch, columns] of int64 → [batch, heads, 1]."""

    def __init__(self, numerical, cardinalities, width=8, hidden=64, heads=32):
        super().__init__()
        self.numerical = nn.ModuleList(NumericalEmbedding(width) for _ in range(numerical))
        self.categorical = nn.ModuleList(nn.Embedding(count, width) for count in cardinalities)
        shared = nn.Linear((numerical + len(cardinalities)) * width, hidden)
        self.heads = nn.ModuleList(Head(shared, 1) for _ in range(heads))

    def forward(self, numbers, categories):
        columns = [net(numbers[:, [i]]) for i, net in enumerate(self.numerical)]
        columns += [embed(categories[:, i]) for i, embed in enumerate(self.categorical)]
        x = torch.cat(columns, dim=-1)
        return torch.stack([head(x) for head in self.heads], dim=1)


CARDINALITIES = [3, 5, 12, 2, 7, 30, 4, 4]


def make():
    return TabularEnsemble(40, CARDINALITIES).eval()


def inputs(batch):
    categories = [torch.randint(count, (batch,)) for count in CARDINALITIES]
    return torch.randn(batch, 40), torch.stack(categories, dim=1)


if __name__ == "__main__":
    torch.manual_seed(0)
    print(assert_matches(make(), inputs(32)).report)
