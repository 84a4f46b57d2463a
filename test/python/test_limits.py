"""Inputs at the edges of what there is: as eager, or one clear error."""

from __future__ import annotations

import copy
import resource

import pytest
import torch
from torch import nn

import pfcn

FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


class Bank(nn.Module):
    """n networks, each on its own part of the last dimension."""

    def __init__(self, make, count=6, width=4):
        super().__init__()
        self.nets = nn.ModuleList(make() for _ in range(count))
        self.width = width

    def forward(self, x):
        w = self.width
        return torch.stack(
            [net(x[..., i * w : (i + 1) * w]) for i, net in enumerate(self.nets)], dim=1
        )


class Pointwise(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.scale = nn.Parameter(torch.rand(4) + 0.5)

    def forward(self, x):
        return self.function(x * self.scale)


def agree(model, *inputs, freeze=False, fused=True):
    """Values, and special ones at the same places; exact ones where eager is off."""
    with torch.no_grad():
        fast = pfcn.compile(copy.deepcopy(model), (inputs[0],), freeze=freeze)
        dtype = next(model.parameters()).dtype
        exact = copy.deepcopy(model).double()
        loose = {"rtol": 2e-2, "atol": 2e-2} if dtype.itemsize == 2 else {}
        for x in inputs:
            y, eager = fast(x), model(x)
            # torch's own gelu(inf) is NaN in f32, and gelu(3e38) infinite.
            if not eager.isfinite().all() and x.numel() < 10_000:
                truth = exact(x.double()).to(dtype)
                is_exact = torch.isclose(y, truth, rtol=1e-5, atol=1e-5, equal_nan=True)
                y = torch.where(is_exact & ~eager.isfinite(), eager, y)
            torch.testing.assert_close(y, eager, equal_nan=True, **loose)
    assert not fast.report.eager
    assert bool(fast.report.groups) == fused
    return fast


def mlp():
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))


INFINITY = float("inf")
SPECIAL = [
    float("nan"),
    INFINITY,
    -INFINITY,
    0.0,
    -0.0,
    1e-42,
    -1e-45,
    3e38,
    -3e38,
    65504.0,
]
FUNCTIONS = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "exp": torch.exp,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
    "softplus": nn.functional.softplus,
    "softmax": lambda x: torch.softmax(x, -1),
    "log": torch.log,
    "sqrt": torch.sqrt,
    "amax": lambda x: x.amax(-1),
    "maximum": lambda x: torch.maximum(x, x.flip(-1)),
    "clamp": lambda x: x.clamp(-1, 1),
    "sign": torch.sign,
    "where": lambda x: torch.where(x > 0, x, -x),
    "sum": lambda x: x.sum(-1),
    "layer_norm": lambda x: nn.functional.layer_norm(x, (4,)),
}


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values(name, dtype):
    torch.manual_seed(0)
    model = Bank(lambda: Pointwise(FUNCTIONS[name])).to(dtype)
    x = torch.randn(40, 24, dtype=torch.float64)
    # A variance that overflows is infinite: eager has NaN then, and a kernel zeros.
    for row, value in enumerate(SPECIAL * 2):
        if name == "layer_norm" and 1e30 < abs(value) < INFINITY:
            continue
        x[row, (row * 5) % 24] = value
        if row >= len(SPECIAL):
            x[row, (row * 5 + 1) % 24] = value  # twice in one network
    agree(model, x.to(dtype))


@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("batch", [1, 3, 17])
def test_special_values_in_products(batch, freeze):
    torch.manual_seed(0)
    model = Bank(mlp)
    for i, value in enumerate(SPECIAL[:5]):
        x = torch.randn(batch, 24)
        x[batch // 2, i * 5 % 24] = value
        agree(model, x, freeze=freeze)
    with torch.no_grad():
        model.nets[2][0].weight[1, 2] = float("inf")
        model.nets[3][2].bias[0] = float("nan")
    agree(model, torch.randn(batch, 24), freeze=freeze)


def test_denormals_stay():
    """They are not flushed: neither as inputs, weights nor results."""
    model = Bank(lambda: Pointwise(lambda x: x * 0.5))
    with torch.no_grad():
        for net in model.nets:
            net.scale.fill_(1.0)
        x = torch.full((3, 24), 3e-42)
        y = pfcn.compile(model, (x,))(x)
    assert (y != 0).all()
    assert torch.equal(y, model(x))


@pytest.mark.parametrize("shape", [(0, 24), (0, 3, 24), (2, 0, 24)], ids=str)
def test_nothing_in_the_batch(shape):
    torch.manual_seed(0)
    x = torch.randn(shape)
    agree(Bank(mlp), x)
    agree(Bank(mlp), torch.randn(*(size or 3 for size in shape)), x)


def test_an_empty_batch_trains():
    model = Bank(mlp)
    fast = pfcn.compile(model)
    fast(torch.randn(0, 24)).sum().backward()
    ours = [parameter.grad for parameter in model.parameters()]
    assert all(grad is not None and not grad.any() for grad in ours)


def test_no_networks():
    class Empty(nn.Module):
        def __init__(self):
            super().__init__()
            self.nets = nn.ModuleList()
            self.last = nn.Linear(3, 2)

        def forward(self, x):
            return self.last(x) + sum(net(x) for net in self.nets)

    agree(Empty(), torch.randn(2, 3), fused=False)
    with pytest.raises(pfcn.InputError):
        pfcn.compile([], (torch.randn(2, 3),))


def test_no_features():
    class Hollow(nn.Module):
        def __init__(self):
            super().__init__()
            self.nets = nn.ModuleList(nn.Linear(2, 0) for _ in range(4))

        def forward(self, x):
            return torch.cat([net(x) for net in self.nets], dim=1)

    model, x = Hollow(), torch.randn(3, 2)
    with torch.no_grad():
        y = pfcn.compile(model, (x,))(x)
    assert y.shape == (3, 0)


def views():
    """Of [5, 24], in every way that memory can be looked at."""
    torch.manual_seed(0)
    base = torch.randn(40_000)
    yield "huge stride", base.as_strided((5, 24), (9_000, 100))
    yield "huge stride within", base.as_strided((5, 24), (1, 1_600))
    yield "overlapping rows", base.as_strided((5, 24), (3, 1))
    yield "overlapping columns", base.as_strided((5, 24), (24, 2))
    yield "all one element", base[:1].expand(5, 24)
    yield "one row", base[:24].expand(5, 24)
    yield "one column", base[:5, None].expand(5, 24)
    yield "reversed copy", torch.randn(5, 24).flip(1)
    yield "every other", torch.randn(10, 48)[::2, ::2]
    yield "transposed", torch.randn(24, 5).t()
    yield "offset", torch.randn(5, 31)[:, 7:]


@pytest.mark.parametrize("name, x", views())
@pytest.mark.parametrize("batch_rows", [1, 5])
def test_strides(name, x, batch_rows):
    torch.manual_seed(0)
    agree(Bank(mlp), x[:batch_rows], torch.randn(batch_rows, 24))


@pytest.mark.parametrize("name, x", views())
def test_gradients_of_strides(name, x):
    torch.manual_seed(0)
    plain = Bank(mlp)
    fast = pfcn.compile(copy.deepcopy(plain))
    grads = []
    for model in (fast, plain):
        leaf = x.detach().requires_grad_()
        model(leaf).square().sum().backward()
        grads.append([leaf.grad, *(p.grad for p in model.parameters())])
    torch.testing.assert_close(*grads)


def test_reversed_memory_of_numpy():
    """torch has no negative strides; what numpy has is refused by torch, before pfcn sees it."""
    array = torch.randn(5, 24).numpy()[:, ::-1]
    with pytest.raises(ValueError, match="negative"):
        torch.from_numpy(array)
    agree(Bank(mlp), torch.from_numpy(array.copy()))


@pytest.mark.parametrize("step", [1, 2, 3])
def test_slices_that_overlap(step):
    class Overlapping(nn.Module):
        def __init__(self):
            super().__init__()
            self.nets = nn.ModuleList(mlp() for _ in range(7))

        def forward(self, x):
            return torch.cat([n(x[:, i * step : i * step + 4]) for i, n in enumerate(self.nets)], 1)

    torch.manual_seed(0)
    agree(Overlapping(), torch.randn(3, 24), torch.randn(17, 24))


class Shared(nn.Module):
    """The same input to each, and the sum of a part of it: no result is large."""

    def __init__(self, part):
        super().__init__()
        self.part = part
        self.scales = nn.ParameterList(torch.rand(1) for _ in range(4))

    def forward(self, x):
        return torch.stack([self.part(x) * scale for scale in self.scales])


@pytest.mark.parametrize("rows", [2**31 - 1, 2**31 + 5, 2**33, 2**61])
def test_more_elements_than_an_int_counts(rows):
    """A tensor that takes no memory: all of it is one row."""
    x = torch.rand(1, 2).expand(rows, 2)
    agree(Shared(lambda x: x[-3:, 1].sum()), x, fused=True)


@pytest.mark.parametrize("rows", [2**40, 2**61])
def test_a_result_that_no_memory_holds(rows):
    x = torch.rand(1, 2).expand(rows, 2)
    model = Shared(lambda x: x + 1)
    with torch.no_grad():
        with pytest.raises(RuntimeError) as eager:
            model(x)
        with pytest.raises(RuntimeError) as ours:
            pfcn.compile(model, (x,))
    assert "memory" in str(eager.value) or "overflow" in str(eager.value)
    assert str(ours.value).splitlines()[0]


def available() -> int:
    pages = resource.getpagesize()
    with open("/proc/meminfo") as info:
        fields = dict(line.split(":") for line in info)
    return int(fields["MemAvailable"].split()[0]) * 1024 // pages * pages


@pytest.mark.skipif(available() < 12 << 30, reason="takes 8 GB")
def test_more_than_two_gigabytes():
    """Offsets in bytes and in elements are beyond 32 bits."""
    rows = 2**31 // 24 + 3
    x = torch.zeros(rows, 24, dtype=torch.int8)
    x[-1] = torch.arange(24)
    x[rows // 2] = 2

    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("shift", torch.randint(1, 4, (4,), dtype=torch.int8))

        def forward(self, x):
            return (x + self.shift).amax(-1)

    model = Bank(Part)
    with torch.no_grad():
        fast = pfcn.compile(model, (x[:5],))
        y = fast(x)
        for row in (0, rows // 2, rows - 1):
            assert torch.equal(y[row], model(x[row : row + 1])[0])
        assert fast.report.groups and not fast.report.eager
