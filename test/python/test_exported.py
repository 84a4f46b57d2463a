"""pfcn.compile of an ExportedProgram: called, and answering, as its `module()` does."""

from __future__ import annotations

import copy

import models
import pytest
import torch
from torch import nn
from torch.export import Dim, export

import pfcn


class Nested(nn.Module):
    """Nests in and out, a buffer that is not saved, a constant, weights of two names."""

    def __init__(self):
        super().__init__()
        self.bank = models.Slices(3)
        self.first = self.bank.models[0]  # a second name for the same weights
        self.register_buffer("scale", torch.full((2,), 3.0), persistent=False)
        self.constant = torch.tensor([2.0, 5.0])

    def forward(self, x, *, extra):
        y = self.bank(x) * self.constant[0] + extra["s"][0] * self.scale[1]
        return {"y": y, "rest": [self.first(x[:, :5]), extra["s"][1]]}


@pytest.fixture(scope="module")
def nested():
    model = models.make(Nested(), seed=1)
    extra = {"s": (torch.ones(9), torch.ones(4))}
    batch = Dim("batch", min=2, max=64)
    shapes = {"x": {0: batch}, "extra": {"s": (None, None)}}
    return model, export(model, (torch.randn(4, 15),), {"extra": extra}, dynamic_shapes=shapes)


def extra():
    return {"s": (torch.randn(9), torch.randn(4))}


def test_nests_and_sizes(nested):
    model, program = nested
    fast = pfcn.compile(program)
    with torch.no_grad():
        for batch in (4, 7, 33, 2, 64):
            x, more = torch.randn(batch, 15), extra()
            torch.testing.assert_close(fast(x, extra=more), program.module()(x, extra=more))
            torch.testing.assert_close(fast(x, extra=more), model(x, extra=more))
    assert fast.report.groups[0].instances == 3
    assert fast.report.plans <= 3
    assert not fast.report.eager


def test_names_and_parameters_are_the_programs(nested):
    model, program = nested
    fast = pfcn.compile(program)
    assert fast.state_dict().keys() == program.module().state_dict().keys()
    for name, parameter in fast.named_parameters():
        assert parameter is program.state_dict[name]
    with torch.no_grad():
        x, more = torch.randn(4, 15), extra()
        fast(x, extra=more)
        model.first[0].weight.mul_(2)  # torch.export shares the parameters with the model
        torch.testing.assert_close(fast(x, extra=more), model(x, extra=more))


def test_what_the_program_refuses(nested):
    fast = pfcn.compile(nested[1])
    x = torch.randn(4, 15)
    with torch.no_grad():
        fast(x, extra=extra())
        with pytest.raises(Exception, match=r"[Gg]uard|Expected input|<= 64"):
            fast(torch.randn(65, 15), extra=extra())
        with pytest.raises(Exception, match=r"[Gg]uard|Expected input"):
            fast(torch.randn(4, 16), extra=extra())
        with pytest.raises((ValueError, TypeError)):
            fast(x, extra={"t": 1})
    with pytest.raises(NotImplementedError):
        fast.train()
    with pytest.raises(pfcn.InputError, match="dynamic shapes"):
        pfcn.compile(nested[1], dynamic_shapes={"x": None})


def test_gradients(nested):
    model, program = nested
    fast = pfcn.compile(program)
    x, more = torch.randn(4, 15), extra()
    fast(x, extra=more)["y"].square().sum().backward()
    got = [p.grad.clone() for p in fast.parameters()]
    fast.zero_grad()
    program.module()(x, extra=more)["y"].square().sum().backward()
    torch.testing.assert_close(got, [p.grad for p in fast.parameters()])
    model.zero_grad()


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.bank = models.Slices(3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls.add_(1)
        return self.bank(x) + self.calls


def test_buffers_that_are_written():
    program = export(models.make(Counting()), (torch.randn(4, 15),))
    fast, wanted = pfcn.compile(program), copy.deepcopy(program).module()
    with torch.no_grad():
        for _ in range(3):
            x = torch.randn(4, 15)
            torch.testing.assert_close(fast(x), wanted(x))
    assert fast.state_dict()["calls"] == 3
    assert fast.report.eager == ""


@pytest.mark.parametrize("decompose", [False, True])
def test_inference_graphs(decompose):
    model = models.make(models.TwoClasses(8))
    program = export(model, (torch.randn(3, 48),))
    if decompose:
        program = program.run_decompositions()
    fast = pfcn.compile(program)
    with torch.no_grad():
        x = torch.randn(3, 48)
        torch.testing.assert_close(fast(x), model(x))
    assert [group.instances for group in fast.report.groups] == [8, 8]


def test_module_of_a_program_and_copies(nested):
    model, program = nested
    fast = pfcn.compile(program.module())
    other = copy.deepcopy(fast)
    x, more = torch.randn(4, 15), extra()
    with torch.no_grad():
        torch.testing.assert_close(fast(x, extra=more), model(x, extra=more))
        before = other(x, extra=more)
        next(iter(fast.parameters())).mul_(2)
        torch.testing.assert_close(other(x, extra=more), before)
        torch.testing.assert_close(fast(x, extra=more), model(x, extra=more))
    assert not fast.report.eager and not other.report.eager


def test_places():
    fast = pfcn.compile(export(models.make(models.Slices(3)), (torch.randn(4, 15),)))
    with torch.no_grad():
        fast(torch.randn(4, 15))
    assert "models.0.0" in fast.report.groups[0].where
    assert "models.py" in fast.report.groups[0].where


def test_thousand_are_one_launch():
    model = models.make(models.Slices(1000))
    x = torch.randn(2, 5000)
    fast = pfcn.compile(export(model, (x,)))
    with torch.no_grad():
        torch.testing.assert_close(fast(x), model(x))
    assert fast.report.launches == 1
    assert fast.report.groups[0].instances == 1000


def test_of_a_compiled_module():
    model = models.make(models.Slices(3))
    program = export(pfcn.compile(model), (torch.randn(4, 15),))
    x = torch.randn(4, 15)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x), model(x))
    assert program.state_dict.keys() == model.state_dict().keys()
