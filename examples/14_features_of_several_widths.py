"""A network for each feature of a table, where features have 1 to 30 columns each.

Numbers take one column, dates a few, categories a one-hot code each: an additive model over them
has networks of as many widths. Run it with
`.venv/bin/python examples/14_features_of_several_widths.py`.
"""

import torch
from torch import nn

from pfcn.testing import assert_matches

NUMBERS = [1] * 12 + [2, 4, 6, 4, 3, 7, 24, 5, 8, 10]  # columns of each numerical feature
CATEGORIES = [3, 7, 12, 5, 2, 30, 9, 18, 4, 11]  # values of each categorical one


class Shape(nn.Module):
    """One feature. x: [batch, width] → what it adds to each output, [batch, outputs]."""

    def __init__(self, width, outputs, hidden=16):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, outputs))

    def forward(self, x):
        return self.layers(x)


class AdditiveModel(nn.Module):
    """numbers: [batch, columns], categories: [batch, features] of int64 → [batch, outputs]."""

    def __init__(self, numbers, categories, outputs=3):
        super().__init__()
        self.widths, self.counts = numbers, categories
        self.numerical = nn.ModuleList(Shape(width, outputs) for width in numbers)
        self.categorical = nn.ModuleList(Shape(count, outputs) for count in categories)

    def forward(self, numbers, categories):
        parts = [f(x) for f, x in zip(self.numerical, numbers.split(self.widths, dim=1))]
        for i, (f, count) in enumerate(zip(self.categorical, self.counts)):
            code = nn.functional.one_hot(categories[:, i], count)
            parts.append(f(code.to(numbers.dtype)))
        return torch.stack(parts).sum(dim=0)


def make():
    return AdditiveModel(NUMBERS, CATEGORIES).eval()


def inputs(batch):
    categories = [torch.randint(count, (batch,)) for count in CATEGORIES]
    return torch.randn(batch, sum(NUMBERS)), torch.stack(categories, dim=1)


if __name__ == "__main__":
    torch.manual_seed(0)
    print(assert_matches(make(), inputs(32)).report)
