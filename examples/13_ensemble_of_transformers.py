"""An ensemble of small transformers over one sequence.

Run it with `.venv/bin/python examples/13_ensemble_of_transformers.py`.
"""

import torch
from torch import nn

from pfcn.testing import assert_matches


class Member(nn.Module):
    """tokens: [batch, length] of int64 → class scores, [batch, classes]."""

    def __init__(self, vocabulary, length, classes, width=32, heads=4):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.randn(length, width) * 0.02)
        self.layers = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(width, heads, 2 * width, 0.1, batch_first=True)
                for _ in range(2)
            )
        )
        self.head = nn.Linear(width, classes)

    def forward(self, tokens):
        return self.head(self.layers(self.tokens(tokens) + self.positions).mean(dim=1))


def make():
    """Eight members; the same tokens to each, and the mean of their scores."""
    return Vote(Member(100, 16, 5) for _ in range(8)).eval()


class Vote(nn.Module):
    def __init__(self, members):
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, tokens):
        scores = [torch.log_softmax(member(tokens), dim=-1) for member in self.members]
        return torch.stack(scores).logsumexp(dim=0)


def inputs(batch):
    return (torch.randint(100, (batch, 16)),)


if __name__ == "__main__":
    torch.manual_seed(0)
    print(assert_matches(make(), inputs(4)).report)
