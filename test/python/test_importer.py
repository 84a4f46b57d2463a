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
    "clamp of integers": (lambda x: x.clamp(0, 2), integers(2, 3)),
    "and of booleans": (lambda x, y: (x & y) | ~x ^ y, floats(2, 3) > 0, floats(2, 3) > 0),
    "logic": (
        lambda x, y: (torch.logical_and(x, y), torch.logical_not(x), x.bool().any(1), x.all()),
        integers(2, 3),
        floats(3),
    ),
    "bits": (lambda x: (x & 3) | 8 ^ ~x, integers(2, 3)),
    "remainder": (lambda x, i: (x % 2, x.fmod(-1.5), i % 3, i.fmod(-2)), floats(2, 3), integers(4)),
    "trigonometry": (
        lambda x: (x.tan(), x.atan(), x.sinh(), x.asinh(), torch.atan2(x, x + 1), x.round()),
        floats(2, 3),
    ),
    "einsum": (lambda x, y: torch.einsum("ij,kj->ik", x, y), floats(2, 3), floats(4, 3)),
    "conv": (
        lambda x, w, b: (
            F.conv1d(x, w, b, padding=1, stride=2),
            F.conv1d(x[0], w, dilation=2, padding="same"),
            F.conv_transpose1d(x, w.transpose(0, 1), stride=3, output_padding=1),
        ),
        floats(2, 3, 8),
        floats(5, 3, 3),
        floats(5),
    ),
    "conv2d": (lambda x, w: F.conv2d(x, w, groups=2), floats(2, 4, 5, 6), floats(6, 2, 3, 2)),
    "pooling": (
        lambda x: (
            F.max_pool2d(x, 2, 2, 1, ceil_mode=True),
            F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
            F.adaptive_avg_pool2d(x, (2, 1)),
            F.adaptive_max_pool2d(x, 1),
            F.max_pool1d(x[0], 2),
        ),
        floats(2, 3, 6, 7),
    ),
    "batch_norm": (
        lambda x, m, v, w: F.batch_norm(x, m, v.abs(), w, m, eps=0.1),
        floats(2, 3, 4),
        floats(3),
        floats(3),
        floats(3),
    ),
    "flip": (lambda x: (x.flip(0, -1), torch.fliplr(x)), floats(2, 3)),
}
# What torch has one operator for, and the dialect several ops: the body of `pfcn.composed`.
COMPOSED = {
    "cumsum": (lambda x: (x.cumsum(1) * 2, x.cumprod(0)), floats(2, 3)),
    "cast in an operator": (lambda x: x.cumsum(0, dtype=torch.float64), floats(2, 3)),
    "max over a dimension": (
        lambda x: (*x.max(1), x.min(0).values, x.argmax(), x.argmin(1)),
        floats(2, 3),
    ),
    "extremes with NaN": (
        lambda x: (x.argmax(1), x.argmin(1, keepdim=True), *x.max(1), *torch.aminmax(x)),
        torch.tensor([[1.0, float("nan"), 3.0], [2.0, 2.0, 1.0]]),
    ),
    "var": (
        lambda x: (x.var(1), x.std(), x.var((0, 1), unbiased=False), x.std(1, correction=2)),
        floats(4, 5),
    ),
    "var_mean": (
        lambda x: (*torch.var_mean(x, 1, keepdim=True), *torch.std_mean(x, 0)),
        floats(4, 5),
    ),
    "norms": (
        lambda x: (
            x.norm(),
            x.norm(1, 1),
            torch.linalg.vector_norm(x, float("inf"), 0),
            torch.linalg.vector_norm(x, 2.5, (0, 1), keepdim=True),
            F.normalize(x, dim=1),
            F.cosine_similarity(x, x + 1),
            torch.dist(x, x * 2),
        ),
        floats(3, 4),
    ),
    "logsumexp": (
        lambda x: (x.logsumexp(1), x.logsumexp((0, 1), True)),
        torch.tensor([[1.0, -float("inf")], [-float("inf"), -float("inf")], [float("inf"), 1e30]]),
    ),
    "nan": (
        lambda x: (x.nansum(1), x.nanmean(0), x.nan_to_num(), x.isfinite(), x.signbit(), x.isinf()),
        torch.tensor([[1.0, float("nan"), -0.0], [float("-inf"), 2.0, -3.0]]),
    ),
    "shrinks": (
        lambda x: (F.hardshrink(x), F.softshrink(x, 0.2), F.prelu(x, x[0, :1])),
        floats(2, 3),
    ),
    "rounding division": (
        lambda x, y: (x // y, torch.div(x, y, rounding_mode="trunc"), torch.floor_divide(x, 0.3)),
        3 * floats(5, 3),
        floats(3),
    ),
    "two operands": (
        lambda x, y: (
            torch.logaddexp(x, y),
            torch.fmax(x, y),
            torch.lerp(x, y, 0.7),
            torch.xlogy(x, y.abs()),
            torch.isclose(x, y),
            x.clamp(y, y + 1),
        ),
        floats(2, 3),
        floats(3),
    ),
    "bf16 is rounded once": (
        # Not lerp, whose weight torch rounds in vectors, and not in what is left over.
        lambda x, y: (torch.addcmul(x, y, y, value=0.3), F.mse_loss(x, y)),
        floats(5, 7, dtype=torch.bfloat16),
        floats(5, 7, dtype=torch.bfloat16),
    ),
    "losses": (
        lambda x, y: (
            F.mse_loss(x, y),
            F.smooth_l1_loss(x, y, reduction="sum"),
            F.huber_loss(x, y, reduction="none"),
            F.binary_cross_entropy_with_logits(x, y.sigmoid()),
            F.kl_div(x, y.softmax(1), reduction="batchmean"),
        ),
        floats(3, 4),
        floats(3, 4),
    ),
    "cross_entropy": (
        lambda x, y: (
            F.cross_entropy(x, y),
            F.cross_entropy(x, y, ignore_index=2, reduction="sum"),
            F.nll_loss(x.log_softmax(1), y, reduction="none"),
            F.cross_entropy(x, y, ignore_index=2, label_smoothing=0.1),
            F.cross_entropy(x, y, reduction="none", label_smoothing=0.3),
        ),
        floats(5, 4),
        integers(5).abs() % 4,
    ),
    "cross_entropy of probabilities": (
        lambda x, y: (
            F.cross_entropy(x, y.softmax(1)),
            F.cross_entropy(x, y.softmax(1), reduction="sum", label_smoothing=0.1),
            F.cross_entropy(x, y.softmax(1), reduction="none"),
            F.cross_entropy(x[0], y[0].softmax(0)),
        ),
        floats(5, 4, 3),
        floats(5, 4, 3),
    ),
    "soft_margin_loss": (
        lambda x, y: (F.soft_margin_loss(x, y.sign()), F.soft_margin_loss(x, y, reduction="none")),
        floats(5, 4),
        floats(5, 4),
    ),
    "hypot": (
        lambda x, y: (torch.hypot(x, y), torch.hypot(y, x)),
        torch.tensor([[0.0, -0.0, float("inf"), float("nan"), 3e38, 1e-38, 3.0]]),
        torch.tensor([[0.0], [float("-inf")], [float("nan")], [2e38], [-4.0]]),
    ),
    "normalisations": (
        lambda x, w: (
            F.group_norm(x, 2, w, w),
            F.instance_norm(x, weight=w),
            F.rms_norm(x, (5,), eps=1e-3),
            F.local_response_norm(x, 3),
        ),
        floats(2, 6, 5),
        floats(6),
    ),
    "attention": (
        lambda q, k, v: (
            F.scaled_dot_product_attention(q, k, v),
            F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3),
            F.scaled_dot_product_attention(q, k, v, attn_mask=q[0, :, :1] > -9.0),
        ),
        floats(2, 3, 4),
        floats(2, 5, 4),
        floats(2, 5, 6),
    ),
    "pad": (
        lambda x: (
            F.pad(x, (1, 2)),
            F.pad(x, (-1, 1, 0, 2), value=3.0),
            F.pad(x, (2, 1), mode="reflect"),
            F.pad(x, (1, 3), mode="replicate"),
            F.pad(x, (2, 2), mode="circular"),
        ),
        floats(2, 3, 4),
    ),
    "order": (
        lambda x: (
            torch.roll(x, 1, 1),
            torch.roll(x, (-2, 5), (0, 2)),
            x.repeat(2, 1, 3),
            x.repeat_interleave(2, 1),
            F.glu(x),
        ),
        floats(2, 3, 4),
    ),
    "pixels": (
        lambda x: (F.pixel_shuffle(x, 2), F.pixel_unshuffle(x, 2), F.channel_shuffle(x, 4)),
        floats(2, 8, 4, 2),
    ),
    "one_hot": (lambda x: F.one_hot(x, 5), integers(2, 3).abs() % 5),
    "bilinear": (F.bilinear, floats(4, 2), floats(4, 3), floats(5, 2, 3), floats(5)),
    "products": (
        lambda m, v, x: (
            torch.outer(v, v),
            torch.addmv(v[:2], m, v),
            x.baddbmm(x, x).sum(),
            torch.addbmm(m, x[:, :2], x),
        ),
        floats(2, 3),
        floats(3),
        floats(4, 3, 3),
    ),
}


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent(kind):
    class First(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(SEED)
            self.layer = kind(3, 4, num_layers=2, bidirectional=True, batch_first=True)

        def forward(self, x):
            return self.layer(x)[0]

    both(First(), [floats(2, 5, 3)], modelled=True)


@pytest.mark.parametrize("name", COMPOSED)
def test_composed(name):
    function, *inputs = COMPOSED[name]
    both(Function(function), inputs, modelled=True)


OPAQUE = {
    "gather": (lambda x, i: x.gather(1, i), floats(2, 3), integers(2, 2).abs() % 3),
    "index": (lambda x, i: x[i], floats(6, 3), integers(2).abs()),
    "add of booleans": (lambda x, y: x + y, floats(2, 3) > 0, floats(2, 3) > 0),
    "topk": (lambda x: tuple(x.topk(2, 1)), floats(2, 5)),
    "arange": (lambda x: x + torch.arange(3), floats(2, 3)),
    "median": (lambda x: x.median(1).values, floats(2, 3)),
    "cumsum of many": (lambda x: x.cumsum(1), floats(2, 100)),
    "remainder of unknown integers": (lambda x, y: x % y, integers(2, 3), integers(2, 3).abs() + 1),
}


@pytest.mark.parametrize("name", MODELLED)
def test_modelled(name):
    function, *inputs = MODELLED[name]
    both(Function(function), inputs, modelled=True)


@pytest.mark.parametrize("name", OPAQUE)
def test_opaque(name):
    function, *inputs = OPAQUE[name]
    both(Function(function), inputs, modelled=False)
