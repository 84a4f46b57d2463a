"""Operators that the dialect does not model, in groups: one call for all instances."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pfcn


class Bank(nn.Module):
    """n copies of a body, each with a weight of its own, on the same input."""

    def __init__(self, body, n=5, width=6):
        super().__init__()
        self.body = body
        self.weights = nn.ParameterList(torch.randn(width, width) for _ in range(n))

    def forward(self, x):
        return torch.stack([self.body(x, weight) for weight in self.weights])


def check(body, *inputs, kinds=None, **kwargs):
    """The compiled bank, compared with eager; `kinds`: of its steps."""
    torch.manual_seed(0)
    bank = Bank(body, **kwargs)
    fast = pfcn.compile(bank)
    with torch.no_grad():
        for x in inputs:
            torch.testing.assert_close(fast(x), bank(x))
    assert len(fast.report.groups) == 1 and fast.report.eager == ""
    if kinds is not None:
        assert [kind for kind, _ in fast.report.steps if kind != "allocation"] == kinds
    return fast


def test_a_foreign_operator_is_one_call_between_two_kernels():
    fast = check(
        lambda x, w: torch.logcumsumexp(x @ w, 1).logcumsumexp(0) @ w,
        torch.randn(7, 6),
        kinds=["kernel", "operator", "operator", "kernel"],
    )
    assert fast.report.groups[0].calls == ["aten::logcumsumexp"] * 2
    assert "runs once" not in fast.report.groups[0].declined


def test_groups_with_a_foreign_operator_take_any_batch():
    fast = check(
        lambda x, w: torch.logcumsumexp(F.relu(x @ w), 1) @ w,
        *(torch.randn(batch, 6) for batch in (4, 9, 17, 1, 16)),
    )
    assert fast.report.plans <= 3


def test_an_operator_of_several_results():
    fast = check(lambda x, w: sum(torch.kthvalue(x @ w, 2, dim=1)), torch.randn(3, 6))
    assert fast.report.groups[0].calls == ["aten::kthvalue"]


def test_an_operator_that_torch_cannot_batch_is_called_for_each():
    fast = check(lambda x, w: F.bilinear(x, x, torch.stack([w] * 4)) * 2, torch.randn(3, 6))
    if fast.report.groups[0].calls:
        assert "aten::bilinear runs once per instance" in fast.report.groups[0].declined


def test_the_operators_of_uint8():
    class Model(nn.Module):
        def forward(self, x):
            return torch.stack([(x[i] * 3) // 2 for i in range(4)])

    x = torch.randint(0, 255, (4, 5), dtype=torch.uint8)
    assert torch.equal(pfcn.compile(Model())(x), Model()(x))


def test_types_that_the_dialect_lacks_run_in_eager():
    class Model(nn.Module):
        def forward(self, x):
            return x.to(torch.float8_e4m3fn)

    fast = pfcn.compile(Model())
    x = torch.rand(3)
    assert torch.equal(fast(x).float(), Model()(x).float())
    assert "Float8_e4m3fn" in fast.report.eager


@pytest.mark.parametrize("width", [1, 15, 16, 17])
def test_each_instance_draws_its_own(width):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.models = nn.ModuleList(
                nn.Sequential(nn.Linear(width, width), nn.Dropout(0.25)) for _ in range(6)
            )
            with torch.no_grad():
                for model in self.models:
                    model[0].weight.zero_()
                    model[0].bias.fill_(3.0)

        def forward(self, x):
            return torch.stack([model(x) for model in self.models])

    model = Model().train()
    fast = pfcn.compile(model)
    x = torch.randn(4000, width)
    with torch.no_grad():
        torch.manual_seed(7)
        first = fast(x)
        torch.manual_seed(7)
        assert torch.equal(fast(x), first)
        assert not torch.equal(fast(x), first)
        assert len(fast.report.groups) == 1 and fast.report.groups[0].instances == 6
    assert set(first.unique().tolist()) == {0.0, 4.0}
    kept = (first != 0).double().reshape(6, -1)
    assert bool((kept.mean(1) - 0.75).abs().max() < 0.03)
    correlation = torch.corrcoef(kept) - torch.eye(6)
    assert bool(correlation.abs().max() < 0.1)  # 4000 draws or more of each
