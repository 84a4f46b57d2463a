"""Calls that autograd follows: gradients of compiled models are those of eager."""

import copy

import models
import pytest
import torch
from torch import nn

import pfcn


def loss_of(result):
    """A number that depends on each element of each result in its own way."""
    results = result if isinstance(result, (tuple, list)) else [result]
    total = 0.0
    for index, tensor in enumerate(results):
        weights = torch.arange(tensor.numel(), dtype=tensor.dtype).reshape(tensor.shape)
        total = total + (tensor * torch.cos(weights + index)).sum()
    return total


def gradients(model, inputs):
    """Of all parameters and of the inputs that want one."""
    model.zero_grad()
    inputs = [x.detach().clone().requires_grad_(x.requires_grad) for x in inputs]
    loss_of(model(*inputs)).backward()
    tensors = [*model.parameters(), *inputs]
    return [None if tensor.grad is None else tensor.grad.clone() for tensor in tensors]


def assert_trains(model, *inputs, kernels=None, calls=2, **tolerance):
    """Gradients agree with eager's, call after call, and a plan computed them."""
    plain = copy.deepcopy(model)
    fast = pfcn.compile(model)
    expected = gradients(plain, inputs)
    for _ in range(calls):
        torch.testing.assert_close(gradients(fast, inputs), expected, **tolerance)
    report = fast.report
    assert report.eager == "" and report.tracked_calls == 0, report
    if kernels is not None:
        assert report.launches == kernels, report
    return fast


@pytest.mark.parametrize(
    ("instances", "batch"), [(1, 3), (2, 1), (15, 17), (16, 1), (17, 16), (40, 3)]
)
def test_slices(instances, batch):
    torch.manual_seed(0)
    model = models.Slices(instances, inputs=20)
    assert_trains(model, torch.randn(batch, 20 * instances, requires_grad=True))


@pytest.mark.parametrize("wants_input", [False, True])
def test_shared_input(wants_input):
    torch.manual_seed(0)
    members = [nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1)) for _ in range(20)]
    model = pfcn.compile(members)._model
    assert_trains(model, torch.randn(5, 8, requires_grad=wants_input), kernels=1)


class Members(nn.Module):
    """n times `function` of a slice of the input and of a weight and a bias of its own."""

    def __init__(self, n, shape, function, dtype):
        super().__init__()
        self.shape, self.function = shape, function
        self.weights = nn.ParameterList(torch.randn(shape, dtype=dtype) for _ in range(n))
        self.biases = nn.ParameterList(torch.randn(shape[-1:], dtype=dtype) for _ in range(n))

    def forward(self, x):  # [batch, n, *shape]
        parts = zip(x.unbind(1), self.weights, self.biases, strict=True)
        return torch.stack([self.function(part, w, b) for part, w, b in parts], dim=1)


OPS = {
    "neg": lambda x, w, b: -(x * w),
    "abs": lambda x, w, b: (x * w).abs(),
    "relu": lambda x, w, b: torch.relu(x * w + b),
    "exp": lambda x, w, b: torch.exp(x * w),
    "expm1": lambda x, w, b: torch.expm1(x * w),
    "log": lambda x, w, b: torch.log(x.abs() + w.abs() + 0.1),
    "log1p": lambda x, w, b: torch.log1p(x.abs() * w.abs()),
    "sqrt": lambda x, w, b: torch.sqrt(x.abs() + w.abs() + 0.1),
    "rsqrt": lambda x, w, b: torch.rsqrt(x.abs() + w.abs() + 0.1),
    "reciprocal": lambda x, w, b: torch.reciprocal(x.abs() + w.abs() + 0.1),
    "tanh": lambda x, w, b: torch.tanh(x * w + b),
    "sigmoid": lambda x, w, b: torch.sigmoid(x * w + b),
    "silu": lambda x, w, b: nn.functional.silu(x * w + b),
    "mish": lambda x, w, b: nn.functional.mish(x * w + b),
    "erf": lambda x, w, b: torch.erf(x * w),
    "sin": lambda x, w, b: torch.sin(x * w),
    "cos": lambda x, w, b: torch.cos(x * w),
    "tan": lambda x, w, b: torch.tan(0.1 * x * w),
    "asin": lambda x, w, b: torch.asin(torch.tanh(x * w) * 0.9),
    "acos": lambda x, w, b: torch.acos(torch.tanh(x * w) * 0.9),
    "atan": lambda x, w, b: torch.atan(x * w),
    "sinh": lambda x, w, b: torch.sinh(x * w),
    "cosh": lambda x, w, b: torch.cosh(x * w),
    "asinh": lambda x, w, b: torch.asinh(x * w),
    "acosh": lambda x, w, b: torch.acosh((x * w).abs() + 1.5),
    "atanh": lambda x, w, b: torch.atanh(torch.tanh(x * w) * 0.9),
    "exp2": lambda x, w, b: torch.exp2(x * w),
    "log2": lambda x, w, b: torch.log2(x.abs() + w.abs() + 0.1),
    "log10": lambda x, w, b: torch.log10(x.abs() + w.abs() + 0.1),
    "erfc": lambda x, w, b: torch.erfc(x * w),
    "trunc": lambda x, w, b: x * w - torch.trunc(x * w),
    "round": lambda x, w, b: x * w - torch.round(x * w),
    "flip": lambda x, w, b: (x * w).flip(-1) * b,
    "var": lambda x, w, b: (x * w).var(-1, keepdim=True) * b,
    "mse_loss": lambda x, w, b: nn.functional.mse_loss(x * w, b.expand_as(x), reduction="none"),
    "addcmul": lambda x, w, b: torch.addcmul(b, x, w, value=0.7),
    "roll": lambda x, w, b: torch.roll(x * w, 1, -1) * b,
    "floor": lambda x, w, b: x * w - torch.floor(x * w),
    "ceil": lambda x, w, b: x * w - torch.ceil(x * w),
    "hardswish": lambda x, w, b: nn.functional.hardswish(4 * x * w),
    "hardsigmoid": lambda x, w, b: nn.functional.hardsigmoid(4 * x * w),
    "logsigmoid": lambda x, w, b: nn.functional.logsigmoid(x * w),
    "leaky_relu": lambda x, w, b: nn.functional.leaky_relu(x * w, 0.2),
    "elu": lambda x, w, b: nn.functional.elu(x * w, 1.5),
    "selu": lambda x, w, b: nn.functional.selu(x * w),
    "celu": lambda x, w, b: nn.functional.celu(x * w, 0.7),
    "softplus": lambda x, w, b: nn.functional.softplus(x * w, beta=1.5, threshold=1.0),
    "gelu": lambda x, w, b: nn.functional.gelu(x * w),
    "gelu_tanh": lambda x, w, b: nn.functional.gelu(x * w, approximate="tanh"),
    "clamp": lambda x, w, b: torch.clamp(x * w, -0.5, 0.8),
    "clamp_min": lambda x, w, b: torch.clamp(x * w, min=-0.5),
    "add": lambda x, w, b: x + w + 2 * b,
    "sub": lambda x, w, b: b - x - w,
    "mul": lambda x, w, b: x * b * w,
    "div": lambda x, w, b: x / (w.abs() + 0.5) / (b.abs() + 0.5),
    "pow2": lambda x, w, b: (x * w) ** 2,
    "pow3": lambda x, w, b: (x * w) ** 3,
    "pow_half": lambda x, w, b: (x.abs() + w.abs()) ** 0.5,
    "pow_general": lambda x, w, b: (x.abs() + 0.1) ** (w * b),
    "pow_scalar_base": lambda x, w, b: 2.0 ** (x * w),
    "maximum": lambda x, w, b: torch.maximum(x, w) + torch.maximum(x, b),
    "minimum": lambda x, w, b: torch.minimum(x, w) + torch.minimum(b, x),
    "where": lambda x, w, b: torch.where(x > w, x * b, w),
    "linear": lambda x, w, b: nn.functional.linear(x, w) + b.sum(),
    "matmul": lambda x, w, b: x @ w.t() @ x,
    "addmm": lambda x, w, b: torch.addmm(b, x[0], w, beta=0.5, alpha=2.0).unsqueeze(0) + x,
    "sum": lambda x, w, b: x + (x * w).sum(-1, keepdim=True),
    "sum_all": lambda x, w, b: x * (w * b).sum(),
    "mean": lambda x, w, b: x - (x * w).mean(-1, keepdim=True),
    "amax": lambda x, w, b: x + (x * w).amax(-1, keepdim=True),
    "amin": lambda x, w, b: x + (x * w).amin((1, 2), keepdim=True),
    "prod": lambda x, w, b: x + (x * w).prod(-1, keepdim=True),
    "softmax": lambda x, w, b: torch.softmax(x * w, -1),
    "softmax_rows": lambda x, w, b: torch.softmax(x * w, 1),
    "log_softmax": lambda x, w, b: torch.log_softmax(x * w, -1),
    "layer_norm": lambda x, w, b: nn.functional.layer_norm(x * w, b.shape, b, b),
    "layer_norm_plain": lambda x, w, b: nn.functional.layer_norm(x * w, w.shape) * b,
    "reshape": lambda x, w, b: (x.flatten(1) * w.flatten()).view_as(x),
    "permute": lambda x, w, b: (x.transpose(1, 2) @ w).transpose(1, 2),
    "slice": lambda x, w, b: x * w + x[..., 1:3].sum(-1, keepdim=True) * b[:1],
    "slice_step": lambda x, w, b: x * w + (x[..., ::2] * w[..., ::2]).sum(-1, keepdim=True),
    "select": lambda x, w, b: x * w[1] + x.select(-1, 2).unsqueeze(-1),
    "expand": lambda x, w, b: x * b.unsqueeze(0).expand_as(w) * w,
    "cat": lambda x, w, b: torch.cat([x[..., :2] * 2, (x * w)[..., 2:]], -1),
    "stack": lambda x, w, b: torch.stack([x * w, x + b], 0).sum(0),
    "squeeze": lambda x, w, b: (x.unsqueeze(1) * w).squeeze(1) + b,
    "detach": lambda x, w, b: x * w + (x * b).detach() * x,
    "cast": lambda x, w, b: (x.float() * w.float()).to(x.dtype) * b,
}


def members(name, n=17, shape=(4, 5), batch=3, dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    model = Members(n, (5, 5) if name in ("linear", "matmul", "addmm", "permute") else shape,
                    OPS[name], dtype)  # fmt: skip
    return model, torch.randn(batch, n, *model.shape, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("name", OPS)
def test_op(name):
    """Each op in f64, against eager and against finite differences."""
    model, x = members(name)
    fast = assert_trains(model, x)
    assert sum(group.instances for group in fast.report.groups) >= 17
    if name not in ("cast", "detach"):
        small, x = members(name, n=2, batch=2)
        fast = pfcn.compile(small)
        weights = [p for p in small.parameters() if p.requires_grad]
        assert torch.autograd.gradcheck(lambda x, *_: fast(x), (x, *weights), fast_mode=True)


@pytest.mark.parametrize("name", ["tanh", "gelu", "softmax", "layer_norm", "linear", "maximum"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtypes(name, dtype):
    model, x = members(name, dtype=dtype)
    tolerance = {} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 5e-2}
    assert_trains(model, x, **tolerance)


KINKS = {
    "relu": lambda x, w, b: torch.relu(x) * w,
    "abs": lambda x, w, b: x.abs() * w,
    "clamp": lambda x, w, b: x.clamp(-1, 1) * w,
    "maximum": lambda x, w, b: torch.maximum(x, w) * b,
    "minimum": lambda x, w, b: torch.minimum(w, x) * b,
    "amax": lambda x, w, b: x.amax(-1, keepdim=True) * w,
    "amin": lambda x, w, b: x.amin((1, 2), keepdim=True) * w,
    "max": lambda x, w, b: x * x.max() * w,
    "prod": lambda x, w, b: x.prod(-1, keepdim=True) * w,
    "hardswish": lambda x, w, b: nn.functional.hardswish(3 * x) * w,
    "hardsigmoid": lambda x, w, b: nn.functional.hardsigmoid(3 * x) * w,
    "leaky_relu": lambda x, w, b: nn.functional.leaky_relu(x) * w,
    "elu": lambda x, w, b: nn.functional.elu(x) * w,
    "softplus": lambda x, w, b: nn.functional.softplus(x, threshold=1.0) * w,
    "pow0": lambda x, w, b: x**0 * w,
    "pow1": lambda x, w, b: x**1 * w,
    "pow_tensor": lambda x, w, b: x.abs() ** w.abs(),
    "div": lambda x, w, b: x / w,
    "sqrt": lambda x, w, b: x.abs().sqrt() * w,
    "log_sigmoid": lambda x, w, b: nn.functional.logsigmoid(x) * w,
    "where": lambda x, w, b: torch.where(x > 0, x / w, w),
}


@pytest.mark.parametrize("name", KINKS)
def test_kinks_and_ties(name):
    """Small integers, zeros, infinities and NaN: where a derivative is a matter of convention."""
    torch.manual_seed(0)
    model = Members(17, (4, 5), KINKS[name], torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randint(-1, 2, parameter.shape))
    x = torch.randint(-1, 2, (3, 17, 4, 5)).float()
    assert_trains(model, x.requires_grad_(), equal_nan=True)
    if name in ("prod", "hardswish"):  # eager's own depend on the elements beside them
        return
    x = x.detach()
    x.view(-1)[::7] = torch.tensor(float("inf"))
    x.view(-1)[3::11] = torch.tensor(float("nan"))
    assert_trains(model, x.requires_grad_(), equal_nan=True)
