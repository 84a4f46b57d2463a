"""Calls with lists, tuples and dicts of tensors: answered without Python, where they fit."""

import collections

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

import pfcn


class Mixed(nn.Module):
    """What it returns depends on everything but the tensors' values."""

    def __init__(self, n=4):
        super().__init__()
        self.nets = nn.ModuleList(nn.Linear(3, 2) for _ in range(n))

    def forward(self, xs, table=None, mode="plain", scale=1):
        ys = [net(x) * scale for net, x in zip(self.nets, xs)]
        if mode == "dict":
            return {"first": ys[0], "rest": (ys[1:], None), "mode": mode}
        if table is not None:
            ys = [y + table["a"] - table["b"][0] for y in ys]
        return ys if isinstance(xs, list) else tuple(ys)


@pytest.fixture
def fast():
    torch.manual_seed(0)
    return pfcn.compile(Mixed().eval())


def tensors():
    return [torch.randn(5, 3) for _ in range(4)]


def check(fast, *args, **kwargs):
    """Agrees with eager, types of the nest included; returns the calls that C++ answered."""
    before = fast._engine.dispatcher.hits
    with torch.no_grad():
        for _ in range(3):
            got, expected = fast(*args, **kwargs), fast._model(*args, **kwargs)
            assert repr(_types(got)) == repr(_types(expected))
            got, expected = (pytree.tree_leaves(nest) for nest in (got, expected))
            for a, b in zip(got, expected, strict=True):
                assert a == b if not isinstance(a, torch.Tensor) else torch.allclose(a, b)
    return fast._engine.dispatcher.hits - before


def _types(nest):
    if isinstance(nest, torch.Tensor):
        return "tensor"
    if isinstance(nest, dict):
        return {key: _types(value) for key, value in nest.items()}
    return type(nest)(map(_types, nest)) if isinstance(nest, (list, tuple)) else nest


def test_lists_and_tuples(fast):
    assert check(fast, tensors()) == 2
    assert check(fast, tuple(tensors())) == 2
    assert check(fast, tensors()) == 3  # both are known now


def test_dicts_and_constants(fast):
    assert check(fast, tensors(), None, "dict") == 2
    assert check(fast, tensors(), {"a": torch.randn(2), "b": [torch.randn(2)]}) == 2
    assert check(fast, tensors(), {"b": [torch.randn(2)], "a": torch.randn(2)}) == 2


def test_constants_are_told_apart_by_type_and_value(fast):
    for scale in (1, 2, True, False, 1):
        check(fast, tensors(), None, "plain", scale)
    assert check(fast, tensors(), None, "plain", 2) == 3
    assert check(fast, tensors(), None, "plain", 1.5) == 0  # floats go to Python


def test_other_shapes_of_a_nest_are_noticed(fast):
    check(fast, tensors())
    check(fast, tensors()[:3])
    check(fast, [*tensors()[:3], torch.randn(5, 3)[:, [2, 0, 1]]])
    check(fast, [torch.randn(7, 3) for _ in range(4)])
    with pytest.raises(TypeError), torch.no_grad():
        fast(["a", "b", "c", "d"])


class Pair(collections.namedtuple("Pair", ["a", "b"])):
    pass


def test_subclasses_go_to_python(fast):
    check(fast, tensors(), {"a": torch.randn(2), "b": [torch.randn(2)]})
    ordered = collections.OrderedDict(a=torch.randn(2), b=[torch.randn(2)])
    assert check(fast, tensors(), ordered) == 0
    check(fast, tensors())
    assert check(fast, Pair(*tensors()[:2])) == 0


def test_keywords_go_to_python(fast):
    assert check(fast, xs=tensors()) == 0


def test_results_are_new_lists(fast):
    with torch.no_grad():
        xs = tensors()
        first, second = fast(xs), fast(xs)
    assert first is not second and first[0] is not second[0]
    first.append(None)
    assert len(second) == 4


def test_training_through_a_nest():
    torch.manual_seed(0)
    model = Mixed()
    fast = pfcn.compile(model)
    xs = tensors()
    for _ in range(3):
        expected = torch.autograd.grad(sum(y.square().sum() for y in model(xs)), model.parameters())
        got = torch.autograd.grad(sum(y.square().sum() for y in fast(xs)), model.parameters())
        torch.testing.assert_close(got, expected)
    assert fast._engine.dispatcher.hits == 2
    xs[0].requires_grad_()
    (gradient,) = torch.autograd.grad(fast(xs)[0].sum(), xs[0])
    torch.testing.assert_close(gradient, model.nets[0].weight.sum(0).expand(5, 3))
