"""The aten table: what a model becomes in the pfcn dialect computes what the model computes.

Every case goes through both front ends, is evaluated op by op by `reference.py`, and compared with
eager torch: values, element types and shapes.
"""

from __future__ import annotations

import warnings

import pytest
import reference
import torch
import torch.nn.functional as F
from torch import nn

from pfcn import _C
from pfcn.capture import record

SEED = 7
NAMES = {v: k for k, v in reference.DTYPES.items()}


def floats(*sizes, dtype=torch.float32):
    return torch.randn(sizes, dtype=dtype)


def integers(*sizes, dtype=torch.int64):
    return torch.randint(-5, 6, sizes, dtype=dtype)


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def check(model: nn.Module, inputs: list[torch.Tensor], imported, expected) -> None:
    expected = [expected] if isinstance(expected, torch.Tensor) else list(expected)
    results = reference.run(imported, inputs)
    assert len(results) == len(expected)
    for result, value in zip(results, expected, strict=True):
        torch.testing.assert_close(result, value.detach(), equal_nan=True)


def shapes(inputs: list[torch.Tensor]) -> str:
    return ",".join("x".join([*map(str, x.shape), NAMES[x.dtype]]) for x in inputs)


def both(model: nn.Module, inputs: list[torch.Tensor], modelled: bool) -> None:
    with torch.no_grad():
        expected = model(*inputs)
        recorded = record(model, inputs).model
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(model, tuple(inputs), check_trace=False)
        imported = _C.import_torchscript(traced, shapes(inputs))
    check(model, inputs, recorded, expected)
    check(model, inputs, imported, expected)
    assert modelled == ("pfcn.opaque" not in recorded.text()), recorded.text()
    assert modelled == ("pfcn.opaque" not in imported.text()), imported.text()


x23, y23 = (lambda: floats(2, 3)), (lambda: floats(2, 3))
UNARY = """neg abs sign relu exp expm1 log log1p sqrt rsqrt reciprocal tanh sigmoid erf sin cos
    floor ceil square positive""".split()
ACTIVATIONS = """silu mish hardswish hardsigmoid logsigmoid leaky_relu elu selu celu softplus gelu
    hardtanh relu6""".split()
MODELLED = {
    **{name: (getattr(torch, name), floats(3, 4)) for name in UNARY},
    **{name: (getattr(F, name), 3 * floats(3, 4)) for name in ACTIVATIONS},
    "leaky_relu slope": (lambda x: F.leaky_relu(x, 0.3), floats(3, 4)),
    "elu alpha": (lambda x: F.elu(x, 0.7), floats(3, 4)),
    "celu alpha": (lambda x: F.celu(x, 0.7), floats(3, 4)),
    "gelu tanh": (lambda x: F.gelu(x, approximate="tanh"), floats(3, 4)),
    "softplus beta": (lambda x: F.softplus(x, 2.0, 1.0), floats(3, 4)),
    "clamp": (lambda x: x.clamp(-0.3, 0.5), floats(3, 4)),
    "clamp one side": (lambda x: x.clamp(min=0.1) + x.clamp(max=0.2), floats(3, 4)),
    "threshold": (lambda x: F.threshold(x, 0.1, 2.0), floats(3, 4)),
    "add": (torch.add, floats(2, 3), floats(3)),
    "add alpha": (lambda x, y: torch.add(x, y, alpha=2.5), floats(2, 3), floats(3)),
    "sub alpha": (lambda x, y: torch.sub(x, y, alpha=3), floats(2, 3), floats(2, 1)),
    "rsub": (lambda x: 2 - x, floats(2, 3)),
    "rsub alpha": (lambda x, y: torch.rsub(x, y, alpha=2), floats(2, 3), floats(2, 3)),
    "scalars": (lambda x: (x * 3 + 0.1) / 7 - 2, floats(2, 3)),
    "div": (torch.div, floats(2, 3), floats(2, 3)),
    "div of integers": (torch.div, integers(2, 3), integers(2, 3).abs() + 1),
    "integers": (lambda x, y: x * y + 2 - y, integers(2, 3), integers(3)),
    "integer by float": (lambda x: x * 0.5, integers(2, 3)),
    "mixed floats": (lambda x, y: x * y, floats(2, 3), floats(3, dtype=torch.float64)),
    "float64 scalar tensor": (lambda x, y: x + y, floats(2, 3), floats(dtype=torch.float64)),
    "integer and float": (lambda x, y: x + y, integers(2, 3), floats(3)),
    "half": (lambda x: x * 0.1 + 1, floats(2, 3).half()),
    "pow": (lambda x: x**3 + x**2, floats(2, 3)),
    "pow of tensors": (lambda x, y: x.abs() ** y, floats(2, 3), floats(2, 3)),
    "scalar to the power": (lambda x: 2**x, floats(2, 3)),
    "maximum": (torch.maximum, floats(2, 3), floats(3)),
    "minimum": (torch.minimum, floats(2, 3), floats(3)),
    "addcmul": (
        lambda x, y, z: torch.addcmul(x, y, z, value=0.5),
        floats(3),
        floats(2, 3),
        floats(3),
    ),
    "addcdiv": (lambda x, y, z: torch.addcdiv(x, y, z, value=2), floats(3), floats(3), floats(3)),
    "compare": (
        lambda x, y: (x < y, x <= y, x > y, x >= y, x == y, x != y),
        integers(2, 3),
        integers(3),
    ),
    "compare scalar": (lambda x: (x > 0.5, x == 1), floats(2, 3)),
    "compare integer with float": (lambda x: (x > 0.5, x <= 2.5), integers(2, 3)),
    "compare dtypes": (lambda x, y: x < y, integers(2, 3), floats(3)),
    "where": (lambda x, y: torch.where(x > y, x, y), floats(2, 3), floats(3)),
    "where scalar": (lambda x: torch.where(x > 0, x, 0.5), floats(2, 3)),
    "masked_fill": (lambda x: x.masked_fill(x > 0, float("-inf")), floats(2, 3)),
    "to": (lambda x: (x.double(), x.to(torch.int32), x.bool(), x.half().float()), 3 * floats(2, 3)),
    "identities": (lambda x: F.dropout(x.clone().contiguous().detach(), 0.5, False), floats(2, 3)),
    "linear": (F.linear, floats(5, 2, 3), floats(4, 3), floats(4)),
    "linear no bias": (F.linear, floats(2, 3), floats(4, 3)),
    "linear of a vector": (F.linear, floats(3), floats(4, 3), floats(4)),
    "matmul": (torch.matmul, floats(5, 2, 3), floats(3, 4)),
    "matmul broadcast": (torch.matmul, floats(5, 1, 2, 3), floats(6, 3, 4)),
    "matmul vector right": (torch.matmul, floats(5, 2, 3), floats(3)),
    "matmul vector left": (torch.matmul, floats(3), floats(5, 3, 2)),
    "dot": (torch.matmul, floats(3), floats(3)),
    "mv": (torch.mv, floats(2, 3), floats(3)),
    "mm": (torch.mm, floats(2, 3), floats(3, 4)),
    "bmm": (torch.bmm, floats(5, 2, 3), floats(5, 3, 4)),
    "addmm": (
        lambda c, a, b: torch.addmm(c, a, b, beta=0.5, alpha=2),
        floats(4),
        floats(2, 3),
        floats(3, 4),
    ),
    "baddbmm": (torch.baddbmm, floats(5, 1, 4), floats(5, 2, 3), floats(5, 3, 4)),
    "baddbmm beta": (
        lambda c, a, b: torch.baddbmm(c, a, b, beta=0),
        floats(5, 1, 4),
        floats(5, 2, 3),
        floats(5, 3, 4),
    ),
    "sum": (lambda x: (x.sum(), x.sum(1), x.sum((0, -1), keepdim=True)), floats(2, 3, 4)),
    "sum dtype": (lambda x: x.sum(1, dtype=torch.float64), floats(2, 3)),
    "sum of integers": (lambda x: x.sum(1), integers(2, 3, dtype=torch.int32)),
    "sum of booleans": (lambda x: (x > 0).sum(1), floats(2, 3)),
    "mean": (lambda x: (x.mean(), x.mean(-1), x.mean((0, 1))), floats(2, 3, 4)),
    "amax": (
        lambda x: (x.amax(1), x.amin((0, 2), True), x.max(), x.min(), x.amax()),
        floats(2, 3, 4),
    ),
    "prod": (lambda x: (x.prod(), x.prod(1), x.prod(-1, keepdim=True)), floats(2, 3)),
    "softmax": (lambda x: (x.softmax(1), x.log_softmax(-1)), floats(2, 3)),
    "softmax dtype": (lambda x: x.softmax(-1, dtype=torch.float64), floats(2, 3)),
    "layer_norm": (
        lambda x, w, b: F.layer_norm(x, (3, 4), w, b, 1e-3),
        floats(2, 3, 4),
        floats(3, 4),
        floats(3, 4),
    ),
    "layer_norm plain": (lambda x: F.layer_norm(x, (4,)), floats(2, 3, 4)),
    "view": (
        lambda x: (x.view(6, 4), x.reshape(-1), x.flatten(1), x.unflatten(2, (2, 2))),
        floats(2, 3, 4),
    ),
    "view_as": (lambda x, y: (x.view_as(y), x.reshape_as(y)), floats(2, 3), floats(6)),
    "reshape of a transpose": (lambda x: x.t().reshape(-1), floats(2, 3)),
    "permute": (
        lambda x: (x.permute(2, 0, -2), x.transpose(0, -1), x.mT, x.movedim(0, -1)),
        floats(2, 3, 4),
    ),
    "movedim": (lambda x: x.movedim((0, 1), (2, 0)), floats(2, 3, 4)),
    "t": (lambda x: (x.t(), x.T, x.swapaxes(0, 1)), floats(2, 3)),
    "squeeze": (
        lambda x: (x.squeeze(), x.squeeze(1), x.squeeze(0), x.squeeze((0, 2))),
        floats(1, 3, 1),
    ),
    "unsqueeze": (lambda x: (x.unsqueeze(-1), x.unsqueeze(0), x[:, None]), floats(2, 3)),
    "expand": (
        lambda x, y: (x.expand(4, 2, 3), x.expand(-1, 3), x.expand_as(y)),
        floats(2, 1),
        floats(5, 2, 3),
    ),
    "slice": (
        lambda x: (x[1:], x[:, 1:-1], x[..., ::2], x[-2:], x[:, 3:2], x[:, 1:100]),
        floats(3, 4),
    ),
    "select": (lambda x: (x[1], x[:, -1], x.select(1, 2), x.narrow(1, 1, 2)), floats(3, 4)),
    "split": (
        lambda x: x.split(2, 1) + x.split([1, 4], -1) + x.chunk(3, 1) + x.unbind(0),
        floats(2, 5),
    ),
    "tensor_split": (lambda x: x.tensor_split(3, 1) + x.tensor_split((1, 2), 1), floats(2, 5)),
    "cat": (lambda x, y: (torch.cat([x, y], 1), torch.cat((x, x))), floats(2, 3), floats(2, 2)),
    "cat of dtypes": (lambda x, y: torch.cat([x, y], 1), floats(2, 3), integers(2, 2)),
    "stack": (
        lambda x, y: (torch.stack([x, y]), torch.stack([x, y], -1)),
        floats(2, 3),
        floats(2, 3),
    ),
    "hstack": (
        lambda x, y: (torch.hstack([x, y]), torch.vstack([x, y])),
        floats(2, 3),
        floats(2, 3),
    ),
    "hstack of vectors": (lambda x: torch.hstack([x, x]), floats(3)),
    "constants": (
        lambda x: (
            x + torch.zeros(2, 3) + torch.ones_like(x) + torch.full((3,), 2.5) + x.new_full((3,), 4)
        ),
        floats(2, 3),
    ),
    "literals": (lambda x: x * torch.tensor([1.0, 2.0, 3.0]) + torch.tensor(2), floats(2, 3)),
    "double": (lambda x: x * 0.1 + torch.tanh(x) ** 3, floats(2, 3, dtype=torch.float64)),
    "NaN and Inf": (
        lambda x: (x.relu(), x.clamp(0, 1), x * float("inf"), x.amax(1)),
        torch.tensor([[float("nan"), -1.0, float("inf")], [1.0, -0.0, 2.0]]),
    ),
    "scalars of rank 0": (lambda x: x.sum() * 2 + x.mean(), floats(2, 3)),
}
OPAQUE = {
    "cumsum": (lambda x: x.cumsum(1) * 2, floats(2, 3)),
    "max over a dimension": (lambda x: tuple(x.max(1)), floats(2, 3)),
    "einsum": (lambda x, y: torch.einsum("ij,kj->ik", x, y), floats(2, 3), floats(4, 3)),
    "var": (lambda x: x.var(1), floats(2, 3)),
    "conv": (lambda x, w: F.conv1d(x, w, padding=1), floats(2, 3, 8), floats(5, 3, 3)),
    "gather": (lambda x, i: x.gather(1, i), floats(2, 3), integers(2, 2).abs() % 3),
    "index": (lambda x, i: x[i], floats(6, 3), integers(2).abs()),
    "and of booleans": (lambda x, y: x & y, floats(2, 3) > 0, floats(2, 3) > 0),
    "add of booleans": (lambda x, y: x + y, floats(2, 3) > 0, floats(2, 3) > 0),
    "topk": (lambda x: tuple(x.topk(2, 1)), floats(2, 5)),
    "arange": (lambda x: x + torch.arange(3), floats(2, 3)),
    "remainder": (lambda x: x % 2, floats(2, 3)),
    "roll": (lambda x: torch.roll(x, 1, 1), floats(2, 3)),
    "attention": (
        F.scaled_dot_product_attention,
        floats(2, 3, 4),
        floats(2, 5, 4),
        floats(2, 5, 4),
    ),
    "cast in an operator": (lambda x: x.cumsum(0, dtype=torch.float64), floats(2, 3)),
    "pad": (lambda x: F.pad(x, (1, 2)), floats(2, 3)),
    "clamp of integers": (lambda x: x.clamp(0, 2), integers(2, 3)),
}


@pytest.mark.parametrize("name", MODELLED)
def test_modelled(name):
    function, *inputs = MODELLED[name]
    both(Function(function), inputs, modelled=True)


@pytest.mark.parametrize("name", OPAQUE)
def test_opaque(name):
    function, *inputs = OPAQUE[name]
    both(Function(function), inputs, modelled=False)
