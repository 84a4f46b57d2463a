"""A group that the code generator declines runs on torch's functions, and the report says why."""

import torch
from torch import nn

import pfcn
from pfcn import _C


def check(model, *inputs):
    fast = pfcn.compile(model, (inputs[0],))
    with torch.no_grad():
        for x in inputs:
            torch.testing.assert_close(fast(x), model(x))
    assert fast.report.launches == 0
    (group,) = fast.report.groups
    assert group.kernels == []
    return group


class Wide(nn.Module):
    """Layers of which a tile fits no scratch."""

    def __init__(self, width=2048):
        super().__init__()
        self.models = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            for _ in range(3)
        )

    def forward(self, x):
        return torch.stack([model(x) for model in self.models])


def test_one_instance_after_the_other():
    """All instances at once would leave the caches. Autograd follows the batched form."""
    torch.manual_seed(0)
    model, x = Wide(), torch.randn(128, 2048)
    group = check(model, x, torch.randn(128, 2048))
    assert "instance by instance" in group.declined
    fast = pfcn.compile(model, (x,))
    results = []
    for one in (fast, model):
        model.zero_grad()
        y = one(x)
        y.square().mean().backward()
        results.append([y, *(p.grad.clone() for p in model.parameters())])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


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
