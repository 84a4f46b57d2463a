"""Groups in which an operator has no gradient of pfcn's own: only that operator is torch's."""

import copy

import pytest
import torch
from test_training import Bank, assert_trains, gradients
from torch import nn

import pfcn

ROUGH = {
    "max": lambda x, w: x.max(-1)[0],
    "min": lambda x, w: x.min(-1)[0],
    "sinc": lambda x, w: torch.sinc(x),
    "xlogy": lambda x, w: torch.xlogy(x, w),
    "xlog1py": lambda x, w: torch.special.xlog1py(x, w),
    "entr": lambda x, w: torch.special.entr(x),
    "logit": lambda x, w: torch.logit(x),
    "logaddexp": lambda x, w: torch.logaddexp(x, w.expand_as(x)),
    "logaddexp2": lambda x, w: torch.logaddexp2(x, w.expand_as(x)),
    "div": lambda x, w: x + torch.div(x, w, rounding_mode="floor"),
    "bce": lambda x, w: nn.functional.binary_cross_entropy(x, (x > 0.5).to(x), reduction="none"),
    "kl_div": lambda x, w: nn.functional.kl_div(x.log(), w.expand_as(x), reduction="none"),
    "cosine_similarity": lambda x, w: nn.functional.cosine_similarity(x, w.expand_as(x), -1),
    "norm": lambda x, w: x.norm(p=3, dim=-1),
}


class Rough(nn.Module):
    """n times a layer, an operator without gradient, and a layer."""

    def __init__(self, operator, n=12, width=4, dtype=torch.float32):
        super().__init__()
        torch.manual_seed(0)
        self.operator = operator
        self.inner = nn.ModuleList(nn.Linear(width, width, dtype=dtype) for _ in range(n))
        self.weights = nn.ParameterList(
            torch.rand(width, dtype=dtype) * 0.4 + 0.3 for _ in range(n)
        )
        self.outer = nn.ModuleList(nn.Linear(width, 3, dtype=dtype) for _ in range(n))

    def forward(self, x):  # [n, batch, width]
        results = []
        for y, inner, weight, outer in zip(x, self.inner, self.weights, self.outer, strict=True):
            y = self.operator(torch.sigmoid(inner(y)), weight)
            y = y if y.dim() == 2 else y.unsqueeze(-1).expand(-1, outer.in_features)
            results.append(outer(torch.tanh(y)))
        return torch.stack(results)


@pytest.mark.parametrize("name", ROUGH)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_listed_to_be_without_gradient(name, dtype):
    """The list in docs/Training.md is this one. What is before and after it is two kernels."""
    x = torch.randn(12, 5, 4, dtype=dtype, requires_grad=True)
    fast = assert_trains(Rough(ROUGH[name], dtype=dtype), x, kernels=2)
    (group,) = fast.report.groups
    assert len(group.calls) == 1 and "has torch's gradient" in group.declined
    # Torch itself has no rule for kl_div.
    assert ("runs once per instance" in group.declined) == (name == "kl_div")


@pytest.mark.parametrize("n", [2, 15, 16, 17])
@pytest.mark.parametrize("batch", [1, 15, 16, 17])
def test_sizes(n, batch):
    x = torch.randn(batch, n, 4).transpose(0, 1).requires_grad_()
    assert_trains(Rough(ROUGH["max"], n), x, kernels=2)


def test_of_any_batch():
    model = Rough(ROUGH["xlogy"])
    plain, fast = copy.deepcopy(model), pfcn.compile(model)
    for batch in (5, 3, 40, 1):
        x = torch.randn(12, batch, 4, requires_grad=True)
        torch.testing.assert_close(gradients(fast, [x]), gradients(plain, [x]))
    assert fast.report.eager == "" and fast.report.launches == 2 and fast.report.plans <= 3


class Kinked(nn.Module):
    """The operator alone, on what the test gives it."""

    def __init__(self, operator, weights):
        super().__init__()
        self.operator = operator
        self.weights = nn.ParameterList(weights)

    def forward(self, x):
        parts = zip(x * 1, self.weights, strict=True)
        return torch.stack([self.operator(y * 1, w * 1) * 1 for y, w in parts])


@pytest.mark.parametrize("name", ROUGH)
def test_ties_and_zeros(name):
    torch.manual_seed(0)
    few = torch.tensor([0.0, 0.5, 1.0])
    x = few[torch.randint(0, 3, (15, 7, 4))]
    weights = few[torch.randint(0, 3, (15, 4))]
    assert_trains(Kinked(ROUGH[name], list(weights)), x.requires_grad_(), equal_nan=True)


class TwoBanks(nn.Module):
    """Two banks in one model; the second one has such an operator."""

    def __init__(self, n=15):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2)) for _ in range(n)
        )
        self.second = Rough(ROUGH["logaddexp"], n)

    def forward(self, x, z):
        ours = torch.stack([m(x) for m in self.first])
        return ours, self.second(z)


def test_the_other_group_trains_on_kernels():
    model = TwoBanks()
    x, z = torch.randn(17, 8, requires_grad=True), torch.randn(15, 17, 4, requires_grad=True)
    fast = assert_trains(model, x, z, kernels=3)
    plain, rough = sorted(fast.report.groups, key=lambda group: len(group.calls))
    assert plain.kernels == [plain.name] and not plain.declined
    assert rough.calls == ["aten::logaddexp"] and len(rough.kernels) == 2
    assert "aten::logaddexp has torch's gradient: its gradient is not that of" in str(fast.report)


def test_stacked():
    model = TwoBanks()
    plain, fast = copy.deepcopy(model), pfcn.compile(model)
    x, z = torch.randn(17, 8), torch.randn(15, 17, 4)
    fast(x, z)
    optimizers = [
        torch.optim.Adam(pfcn.optim.stack(fast), lr=0.01),
        torch.optim.Adam(plain.parameters(), lr=0.01),
    ]
    for _ in range(5):
        for one, optimizer in zip((fast, plain), optimizers, strict=True):
            optimizer.zero_grad()
            sum(result.square().sum() for result in one(x, z)).backward()
            optimizer.step()
    assert fast.report.launches == 3
    expected = dict(plain.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, expected[name], rtol=1e-4, atol=1e-5)


def test_second_derivatives():
    model = Rough(ROUGH["logaddexp2"], 4, dtype=torch.float64)
    plain, fast = copy.deepcopy(model), pfcn.compile(model)
    found = []
    for one in (fast, plain):
        x = torch.linspace(-1, 1, 48, dtype=torch.float64).reshape(4, 3, 4).requires_grad_()
        (first,) = torch.autograd.grad(one(x).square().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), [x, *one.parameters()]))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("kernel", [9, 3])
def test_large_windows_that_overlap(kernel):
    """Of more than 64 elements, where the gradient would be too much code."""

    def layer():
        return nn.Sequential(
            nn.Conv2d(2, 3, 3), nn.MaxPool2d(kernel, stride=2), nn.Flatten(), nn.LazyLinear(2)
        )

    torch.manual_seed(0)
    x = torch.randn(3, 5, 2, 17, 17)
    model = Bank(layer, 5)
    model(x)
    fast = assert_trains(model, x.requires_grad_(), rtol=1e-4, atol=1e-5)
    (group,) = fast.report.groups
    assert group.calls == (["max_pool"] if kernel == 9 else [])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_types_in_recurrences(kind, dtype):
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 4, dtype=dtype)
            self.layer = kind(4, 5, batch_first=True, dtype=dtype)
            self.outer = nn.Linear(5, 2, dtype=dtype)

        def forward(self, x):
            return self.outer(self.layer(torch.tanh(self.inner(x)))[0][:, -1])

    torch.manual_seed(0)
    x = torch.randn(2, 5, 40, 3).to(dtype).requires_grad_()
    fast = assert_trains(Bank(Layer, 5), x, rtol=0.05, atol=0.05)
    (group,) = fast.report.groups
    assert group.calls == [f"aten::{kind.__name__.lower()}.input"] and len(group.kernels) == 2


def test_what_takes_no_gradient_costs_no_cut():
    """Places of extremes, and what is only compared, are part of the kernel."""

    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 6)

        def forward(self, x):
            y = self.layer(x)
            return y * (y.argmax(-1, keepdim=True) > 2)

    torch.manual_seed(0)
    fast = assert_trains(Bank(Gated, 7), torch.randn(3, 7, 4, requires_grad=True), kernels=1)
    assert fast.report.groups[0].calls == []


def test_a_batching_rule_with_another_gradient_is_not_used():
    """Of equal numbers, as the trial of a plan for inference sees them."""
    library = torch.library.Library("pfcn_foreign", "FRAGMENT")
    library.define("twice(Tensor x) -> Tensor")

    functorch = torch._C._functorch

    def of_all(x):
        level = functorch.maybe_get_level(x)
        return functorch._add_batch_dim(2 * functorch.get_unwrapped(x).detach(), 0, level)

    library.impl("twice", lambda x: 2 * x, "CompositeImplicitAutograd")
    library.impl("twice", of_all, "FuncTorchBatched")
    operator = torch.ops.pfcn_foreign.twice
    x = torch.randn(12, 5, 4, requires_grad=True)
    fast = assert_trains(Rough(lambda y, w: operator(y) * w), x)
    (group,) = fast.report.groups
    assert group.calls == ["pfcn_foreign::twice"] and "has another gradient" in group.declined
    with torch.no_grad():
        fast(x)
    assert "has another gradient" not in fast.report.groups[0].declined
