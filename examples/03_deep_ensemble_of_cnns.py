"""A deep ensemble (Lakshminarayanan et al., 2017) of small convolutional networks.

Every member sees the same image; the mean of their probabilities is the prediction, their
disagreement its uncertainty. Run it with `.venv/bin/python examples/03_deep_ensemble_of_cnns.py`.
"""

import torch
from torch import nn

from pfcn.testing import assert_matches


def block(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


class SmallCNN(nn.Module):
    """x: [batch, 1, 16, 16] → [batch, 10]."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(block(1, 8), block(8, 16))
        self.head = nn.Linear(16 * 4 * 4, 10)

    def forward(self, x):
        return self.head(torch.flatten(self.features(x), 1))


class DeepEnsemble(nn.Module):
    """x: [batch, 1, 16, 16] → mean and variance of the members' probabilities, [batch, 10] each."""

    def __init__(self, members):
        super().__init__()
        self.members = nn.ModuleList(SmallCNN() for _ in range(members))

    def forward(self, x):
        p = torch.stack([torch.softmax(member(x), dim=-1) for member in self.members])
        return p.mean(dim=0), p.var(dim=0)


def make():
    return DeepEnsemble(members=16).eval()


def inputs(batch):
    return (torch.rand(batch, 1, 16, 16),)


if __name__ == "__main__":
    torch.manual_seed(0)
    print(assert_matches(make(), inputs(4)).report)
