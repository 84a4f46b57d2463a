"""Gradients that were wrong once."""

import copy

import torch
from torch import nn

import pfcn


class Bessel(nn.Module):
    """A foreign operator, so that the group's operands are stacked by a view."""

    def __init__(self):
        super().__init__()
        self.weights = nn.ParameterList(torch.tensor([0.3 + i]) for i in range(3))

    def forward(self, x):
        parts = zip(x.split(1, dim=1), self.weights, strict=True)
        return torch.cat([torch.special.i0e(part) * weight for part, weight in parts], dim=1)


def test_elements_that_share_memory_have_gradients_of_their_own():
    """Rows of a leaf that all lie in one place each had the mean of their gradients."""
    plain = Bessel()
    fast = pfcn.compile(copy.deepcopy(plain))
    grads = []
    for model in (fast, plain):
        x = torch.randn(1, 3, generator=torch.Generator().manual_seed(0)).expand(4, 3)
        x = x.detach().requires_grad_()
        (model(x) * torch.arange(12.0).reshape(4, 3)).sum().backward()
        grads.append(x.grad)
    assert fast.report.groups and not fast.report.eager
    torch.testing.assert_close(*grads)
