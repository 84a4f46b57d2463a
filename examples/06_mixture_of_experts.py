"""A mixture of experts: soft (Jacobs et al., 1991), and with the best k per sample only.

Run it with `.venv/bin/python examples/06_mixture_of_experts.py`.
"""

import torch
from torch import nn

from pfcn.testing import assert_matches


class Expert(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x):
        return self.down(nn.functional.gelu(self.up(x)))


class DenseMixture(nn.Module):
    """Every expert, weighted by a gate. x: [batch, width] → [batch, width]."""

    def __init__(self, experts, width, hidden):
        super().__init__()
        self.gate = nn.Linear(width, experts)
        self.experts = nn.ModuleList(Expert(width, hidden) for _ in range(experts))

    def forward(self, x):
        weights = torch.softmax(self.gate(x), dim=-1)
        return sum(weights[:, i : i + 1] * expert(x) for i, expert in enumerate(self.experts))


class TopKMixture(nn.Module):
    """The best k experts of each sample count, renormalised. x: [batch, width] → [batch, width]."""

    def __init__(self, experts, width, hidden, k=2):
        super().__init__()
        self.gate = nn.Linear(width, experts)
        self.experts = nn.ModuleList(Expert(width, hidden) for _ in range(experts))
        self.k = k

    def forward(self, x):
        logits = self.gate(x)
        best, index = logits.topk(self.k, dim=-1)
        weights = torch.zeros_like(logits).scatter(1, index, torch.softmax(best, dim=-1))
        outputs = torch.stack([expert(x) for expert in self.experts], dim=1)
        return torch.einsum("be,bew->bw", weights, outputs)


class TwoMixtures(nn.Module):
    def __init__(self, experts=16, width=16, hidden=32):
        super().__init__()
        self.dense = DenseMixture(experts, width, hidden)
        self.top = TopKMixture(experts, width, hidden)

    def forward(self, x):
        return self.top(x + self.dense(x))


def make():
    return TwoMixtures().eval()


def inputs(batch):
    return (torch.randn(batch, 16),)


if __name__ == "__main__":
    torch.manual_seed(0)
    print(assert_matches(make(), inputs(32)).report)
