"""A group that the code generator declines runs on torch's functions, and the report says why."""

import torch
from torch import nn

import pfcn
from pfcn import _C


class Bank(nn.Module):
    def __init__(self, make, count, width):
        super().__init__()
        self.models = nn.ModuleList(make() for _ in range(count))
        self.width = width

    def forward(self, x):
        parts = x.split(self.width, dim=1)
        return torch.cat([m(p) for m, p in zip(self.models, parts, strict=True)], dim=1)


def check(model, *inputs):
    fast = pfcn.compile(model, (inputs[0],))
    with torch.no_grad():
        for x in inputs:
            torch.testing.assert_close(fast(x), model(x))
    assert fast.report.launches == 0
    (group,) = fast.report.groups
    assert group.kernels == []
    return group


def test_wide_layers():
    torch.manual_seed(0)
    model = Bank(lambda: nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 8)), 16, 256)
    group = check(model, torch.randn(1, 4096), torch.randn(1, 4096))
    assert group.instances == 16
    assert "of scratch" in group.declined


def test_op_without_code():
    """The kernel's other ops have code; it runs on torch's functions as a whole nevertheless."""
    text = """func.func @forward(%x: tensor<3x20xi64>) -> tensor<3x20xi64> {
      %init = pfcn.empty : tensor<3x20xi64>
      %y = pfcn.kernel "power" count 5 ins(%x : tensor<3x20xi64>)
        [#pfcn.access<slice dim 1 size 4 stride 4>] outs(%init : tensor<3x20xi64>)
        [#pfcn.access<slice dim 1 size 4 stride 4>] {
      ^bb0(%a: tensor<5x3x4xi64>):
        %0 = pfcn.relu %a : tensor<5x3x4xi64>
        %1 = pfcn.constant dense<2> : tensor<i64>
        %2 = pfcn.pow %0, %1 : tensor<5x3x4xi64>, tensor<i64> -> tensor<5x3x4xi64>
        pfcn.yield %2 : tensor<5x3x4xi64>
      } -> tensor<3x20xi64>
      return %y : tensor<3x20xi64>
    }"""
    compilation = _C.compile(_C.parse(text, {}), fuse=False)
    assert 'pfcn.declined = "pfcn.pow has no lowering here' in compilation.lowered_text
    x = torch.randint(-3, 4, (3, 20))
    (y,) = _C.BoundPlan(compilation.plan, {}, _C.Weights()).run([x])
    torch.testing.assert_close(y, torch.relu(x) ** 2)
