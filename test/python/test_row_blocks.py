"""Ops with lanes of their own that compute blocks of rows, against eager: batches that are no
multiples of a block, cut for threads or not, and what has to stay with single rows."""

import pytest
import torch
from torch import nn

import pfcn

# Kernels only, on a core whose second cache is quick: blocks of rows win where weights are wide.
MACHINE = "library-rate=0;operation=0.28;call=640;matrix=71;second-cache=0.5;last-cache=2.6"


class Bank(nn.Module):
    """`count` networks, all of which see the same rows of 64 features."""

    def __init__(self, count: int, make=None):
        super().__init__()
        make = make or (lambda: nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64)))
        self.nets = nn.ModuleList(make() for _ in range(count))

    def forward(self, x):
        return torch.stack([net(x) for net in self.nets])


class Positions(nn.Module):
    """Adds to each row its number, which a block of rows does not know."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 256), nn.Linear(256, 64)

    def forward(self, x):
        rows = torch.arange(x.shape[0], dtype=x.dtype)[:, None]
        return self.second(torch.relu(self.first(x) + rows))


@pytest.fixture(autouse=True)
def _machine(_machine_of_the_tests):
    pfcn._C.calibrate(MACHINE)


def compare(model: nn.Module, x: torch.Tensor, tolerance: float = 1e-4, in_blocks: bool = True):
    expected = model(x)
    fast = pfcn.compile(model, (x,))
    torch.testing.assert_close(fast(x), expected, rtol=tolerance, atol=tolerance)
    if in_blocks and torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        (group,) = fast.report.groups
        assert "for blocks of the batch" in group.choice


# 240 is whole blocks, and its parts for threads are not.
@pytest.mark.parametrize("batch", [128, 160, 240, 250, 256, 257])
@pytest.mark.parametrize("count", [2, 3, 17])
def test_batches(count, batch):
    torch.manual_seed(count * batch)
    with torch.no_grad():
        compare(Bank(count), torch.randn(batch, 64))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_types(dtype):
    torch.manual_seed(0)
    tolerance = 1e-9 if dtype == torch.float64 else 3e-2
    with torch.no_grad():
        compare(Bank(3).to(dtype), torch.randn(160, 64, dtype=dtype), tolerance, in_blocks=False)


def test_strided_rows():
    torch.manual_seed(0)
    with torch.no_grad():
        compare(Bank(3), torch.randn(64, 250).t())
        compare(Bank(3), torch.randn(500, 130)[::2, 3:67])


def test_positions():
    torch.manual_seed(0)
    with torch.no_grad():
        compare(Bank(3, Positions), torch.randn(250, 64), in_blocks=False)


def test_gradients():
    torch.manual_seed(0)
    model, x = Bank(3), torch.randn(250, 64, requires_grad=True)
    wanted = [x, *model.parameters()]
    expected = torch.autograd.grad(model(x).square().mean(), wanted)
    fast = pfcn.compile(model, (x,))
    actual = torch.autograd.grad(fast(x).square().mean(), wanted)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)
