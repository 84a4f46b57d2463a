"""Few instances with many rows: their batch is cut into parts, which threads share."""

import pytest
import torch
from torch import nn

import pfcn
from pfcn.testing import assert_matches


class Bank(nn.Module):
    def __init__(self, n, make, width):
        super().__init__()
        self.models = nn.ModuleList(make() for _ in range(n))
        self.width = width

    def forward(self, x):
        parts = x.split(self.width, dim=1)
        return torch.cat([m(p) for m, p in zip(self.models, parts, strict=True)], dim=1)


def perceptron():
    return nn.Sequential(nn.Linear(24, 40), nn.Tanh(), nn.LayerNorm(40), nn.Linear(40, 5))


def narrow():
    return nn.Sequential(nn.Linear(24, 3), nn.ReLU())


def wide():
    return nn.Sequential(nn.Linear(24, 300), nn.ReLU(), nn.Linear(300, 24))


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("batch", [128, 192, 250, 257, 512])
@pytest.mark.parametrize("n", [2, 3, 10, 17])
@pytest.mark.parametrize("make", [perceptron, narrow, wide])
def test_matches_eager(make, n, batch, threads):
    torch.manual_seed(n)
    model, x = Bank(n, make, 24).eval(), torch.randn(batch, 24 * n)
    with torch.no_grad():
        expected = model(x)
        frozen = pfcn.compile(model, (x,), freeze=True)
        torch.testing.assert_close(frozen(x), expected)
    launches = assert_matches(model, (x,)).report.launches
    assert launches == 1 or make is narrow  # which torch's functions may be quicker for


def test_rows_of_a_strided_input(threads):
    torch.manual_seed(0)
    model, x = Bank(3, perceptron, 24).eval(), torch.randn(72, 256).t()
    assert_matches(model, (x,))
