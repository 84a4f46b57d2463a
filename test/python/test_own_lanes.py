"""Bodies in which each op has lanes of its own: what is turned for them, against eager.

Attention has all of it. Its weights are read through views, keys are stored with their features
innermost and wanted with their tokens innermost, and three networks fill no vector.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pfcn
from pfcn.testing import assert_matches


class Bank(nn.Module):
    """All networks read the same."""

    def __init__(self, *networks):
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, *inputs):
        return torch.stack([network(*inputs) for network in self.networks])


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.inner = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x, memory):
        return self.inner(x, memory, memory, need_weights=False)[0]


def layer(width, heads, **options):
    return nn.TransformerEncoderLayer(width, heads, 2 * width, 0.1, batch_first=True, **options)


def check(networks, *inputs, own_lanes=True, **tolerances):
    torch.manual_seed(0)
    report = assert_matches(Bank(*networks).eval(), inputs, **tolerances).report
    [group] = report.groups
    if own_lanes:
        assert "lanes of its own" in group.choice


@pytest.mark.parametrize("tokens", [5, 16, 17, 33])
@pytest.mark.parametrize(("width", "heads"), [(32, 4), (24, 3), (20, 1)])
def test_encoders(width, heads, tokens):
    check([layer(width, heads) for _ in range(3)], torch.randn(5, tokens, width))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_types(dtype):
    networks = [layer(32, 4, norm_first=True).to(dtype) for _ in range(3)]
    tolerances = {"rtol": 0.03, "atol": 0.03} if dtype == torch.bfloat16 else {}
    check(networks, torch.randn(2, 5, 32, dtype=dtype), **tolerances)


@pytest.mark.parametrize("tokens", [5, 7])
def test_queries_and_keys_of_two_inputs(tokens):
    """The weights of the projections are two parts of one parameter."""
    networks = [Attention(32, 4) for _ in range(3)]
    check(networks, torch.randn(6, 9, 32), torch.randn(6, tokens, 32))


def test_not_contiguous():
    networks = [layer(32, 4) for _ in range(3)]
    check(networks, torch.randn(16, 32, 6).permute(2, 0, 1))


class Gram(nn.Module):
    """The same value twice, with two dimensions across the lanes."""

    def __init__(self, width):
        super().__init__()
        self.first = nn.Linear(width, width)

    def forward(self, x):
        y = torch.tanh(self.first(x))
        return F.softmax(y @ y.transpose(1, 2), 1) @ y + y.amax(1, keepdim=True)


@pytest.mark.parametrize("width", [8, 16, 19])
def test_a_value_that_is_read_both_ways(width):
    check([Gram(width) for _ in range(3)], torch.randn(9, 16, width), own_lanes=False)


class Operator(nn.Module):
    """Functions × points: a network reads the ones, another the others."""

    def __init__(self, width):
        super().__init__()
        self.branch = nn.Sequential(nn.Linear(5, width), nn.Tanh(), nn.Linear(width, 4))
        self.trunk = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 4))

    def forward(self, functions, points):
        return self.branch(functions) @ self.trunk(points).T


@pytest.mark.parametrize(("functions", "points"), [(1, 19), (33, 17), (128, 100), (7, 1)])
@pytest.mark.parametrize("count", [3, 20])
def test_what_has_one_of_two_batches(count, functions, points):
    networks = [Operator(16) for _ in range(count)]
    check(networks, torch.randn(functions, 5), torch.randn(points, 2), own_lanes=False)


def test_batches_of_unknown_size():
    bank = Bank(*(Operator(16) for _ in range(3))).eval()
    fast = pfcn.compile(bank)
    with torch.no_grad():
        for functions, points in [(9, 20), (30, 11), (17, 40), (64, 3), (1, 2)]:
            inputs = torch.randn(functions, 5), torch.randn(points, 2)
            torch.testing.assert_close(fast(*inputs), bank(*inputs))
