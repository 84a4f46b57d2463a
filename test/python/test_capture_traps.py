"""Models that do something else at another size, or that a recording cannot repeat.

A general recording must be right at every size that it matches; a refusal must say why, where, and
what to do.
"""

from __future__ import annotations

import copy
import random
import re
import threading

import numpy as np
import pytest
import reference
import torch
from test_importer import Function, floats
from torch import nn

import pfcn
from pfcn.capture import CaptureError, matches, record, unify

GLOBAL = torch.ones(3)


def halves(x):
    return x[: x.shape[0] // 2].sum(0), x[x.shape[0] // 2 :].sum(0)


def branch(x):
    return x.relu() if x.shape[0] > 32 else x.neg()


def at_most_64(x):
    return x[: min(x.shape[0], 64)] * 2


def scaled_by_size(x):
    return x / x.shape[0]


def squeezed(x):
    y = x.sum(1, keepdim=True).squeeze()
    return y if y.dim() == 0 else y.cumsum(0)


def viewed(x):
    return x.view(x.shape[0], 3, 2).permute(1, 0, 2).reshape(3, -1)


def doubled(x):
    return torch.cat([x, x]).view(2, x.shape[0], 6).sum(0)


def expanded(x):
    return x[:1].expand(x.shape[0], 6) + x


def filled(x):
    out = torch.zeros(x.shape[0], 2)
    out[:, 0] = x.sum(1)
    out[:, 1] = x.amax(1)
    return out


def kept_zeros(x):
    return torch.cat([x, torch.zeros(x.shape[0], 1)], 1)


def last_rows(x):
    return x[-2:] * x[:2], x[:-1] + x[1:], x[-1]


def swapped(x):
    return x.view(2, -1).sum(1), x.t().reshape(6, x.shape[0])


def first_rows(x):
    return x[:5] * 2, x.narrow(0, 1, x.shape[0] - 1)


def padded(x):
    return torch.cat([x, x.new_ones(64 - x.shape[0], 6)]) if x.shape[0] < 64 else x


SIZE_DEPENDENT = [halves, branch, at_most_64, scaled_by_size, squeezed, viewed, doubled, expanded,
                  filled, kept_zeros, last_rows, swapped, first_rows, padded]  # fmt: skip
SIZES = [1, 2, 3, 4, 5, 8, 9, 31, 32, 33, 40, 63, 64, 65, 100, 128]
# Of these, the general recording covers sizes beyond the two that it was made of.
GENERAL = {viewed, doubled, filled, branch, at_most_64, squeezed, swapped, last_rows, padded}


@pytest.mark.parametrize("function", SIZE_DEPENDENT, ids=lambda function: function.__name__)
def test_each_size_is_answered_rightly(function):
    """As a compiled model does it: an earlier recording serves a size only if it matches."""
    model = Function(function)
    plans, general, served = {}, [], 0
    for size in [*SIZES, *reversed(SIZES)]:
        x = floats(size, 6)
        if size not in plans:
            capture = record(model, [x])
            plan = next((g for g in general if matches(g, capture)), None)
            served += plan is not None
            if plan is None:
                joined = (unify(earlier, capture) for earlier in plans.values())
                plan = next((j for j in joined if j is not None and matches(j, capture)), None)
                general += [plan] if plan is not None else []
            plans[size] = plan or capture
        expected = model(x)
        expected = [expected] if isinstance(expected, torch.Tensor) else expected
        for result, value in zip(reference.run(plans[size].model, [x]), expected, strict=True):
            torch.testing.assert_close(result, value, msg=f"size {size}")
    assert (served > 0) == (function in GENERAL), served


def test_two_sizes_vary_at_once():
    model = Function(lambda x, y: (x @ y).relu())
    shapes = [(2, 3), (4, 5), (7, 9)]
    a, b, c = (record(model, [floats(m, 6), floats(6, n)]) for m, n in shapes)
    assert "tensor<?x6xf32>, tensor<6x?xf32> -> tensor<?x?xf32>" in unify(a, b).model.text()
    assert matches(unify(a, b), c)


def test_an_open_size_is_not_confused_with_another():
    model = Function(lambda x: x.view(x.shape[1], x.shape[0]))  # the sizes change places
    a, b = record(model, [floats(2, 3)]), record(model, [floats(5, 7)])
    assert unify(a, b) is None


def test_numbers_are_part_of_the_key():
    model = Function(lambda x, k: x * k)
    x = floats(3)
    keys = {record(model, [x, k]).tape_key for k in (1, 1.0, 2, True)}
    assert len(keys) == 4
    assert record(model, [x, 2]).tape_key == record(model, [floats(3), 2]).tape_key
    assert hash(record(model, [x, 2]).tape_key)


def test_nested_inputs_and_results():
    def forward(inputs, scale=1.0, *, extra=None):
        a, (b,) = inputs["a"], inputs["rest"]
        return {"sum": a + b, "more": [extra * scale, None, 3, "text"]}

    class Nested(nn.Module):
        def forward(self, *args, **kwargs):
            return forward(*args, **kwargs)

    a, b, c = floats(2), floats(2), floats(2)
    capture = record(Nested(), [{"a": a, "rest": (b,)}], {"scale": 2.0, "extra": c})
    assert [t is u for t, u in zip(capture.inputs, (a, b, c), strict=True)] == [True] * 3
    result = capture.out_spec.unflatten(reference.run(capture.model, [a, b, c]))
    assert result["more"][1:] == [None, 3, "text"]
    torch.testing.assert_close(result["sum"], a + b)
    torch.testing.assert_close(result["more"][0], c * 2)


def test_one_tensor_given_twice_is_two_inputs():
    x = floats(3)
    model = record(Function(lambda a, b: a - 2 * b), [x, x]).model
    a, b = floats(3), floats(3)
    torch.testing.assert_close(reference.run(model, [a, b])[0], a - 2 * b)


def test_a_parameter_given_as_an_input_is_an_input():
    model = nn.Linear(3, 3)
    imported = record(model, [model.weight]).model
    x = floats(3, 3)
    torch.testing.assert_close(reference.run(imported, [x])[0], model(x).detach())


def refusal(function, *inputs, **parts) -> CaptureError:
    model = Function(function)
    for name, part in parts.items():
        setattr(model, name, part)
    with pytest.raises(CaptureError) as error:
        record(model, inputs)
    assert isinstance(error.value, pfcn.errors.Error)
    assert error.value.reason in str(error.value) and error.value.remedy in str(error.value)
    return error.value


def swallow(x):
    try:
        return x * x.sum().item()
    except Exception:
        return x


REFUSED = {
    "item": (lambda x: x * x.sum().item(), "item"),
    "float": (lambda x: x * float(x.sum()), "__float__"),
    "if": (lambda x: x if x.sum() > 0 else -x, "__bool__"),
    "a swallowed error": (swallow, "item"),
    "numpy": (lambda x: x + torch.from_numpy(x.numpy()), "numpy"),
    "tolist": (lambda x: x * sum(x.tolist()), "tolist"),
    "index by a tensor": (lambda x: [x, -x][x.argmax()], "__index__"),
    "print": (lambda x: (x, f"{x}")[0], "__format__|__repr__|tolist"),
    "data_ptr": (lambda x: x * (x.data_ptr() % 2), "data_ptr"),
    "a global tensor": (lambda x: x + GLOBAL, "no input, parameter, buffer or result"),
    "nonzero": (lambda x: x.nonzero(), "aten::nonzero"),
    "mask": (lambda x: x[x > 0], "mask"),
    "masked_select": (lambda x: x.masked_select(x > 0), "aten::masked_select"),
    "unique": (lambda x: x.unique(), "unique"),
    "where of one": (lambda x: torch.where(x > 0)[0], "aten::where|nonzero"),
    "equal": (lambda x: x * torch.equal(x, x), "aten::equal"),
    "allclose": (lambda x: x * torch.allclose(x, x), "aten::allclose"),
    "generator": (lambda x: x + torch.rand(3, generator=torch.Generator()), "generator"),
    "sparse": (lambda x: x.to_sparse(), "sparse"),
    "backward": (lambda x: torch.autograd.grad(x.sum(), x)[0], "backward"),
    "a tensor of tensors": (lambda x: torch.tensor([x[0], x[1]]) * 2, "list of tensors"),
    "as_tensor of tensors": (lambda x: torch.as_tensor([[x[0]], [x[1]]]), "list of tensors"),
    "a number of a tensor": (lambda x: torch.add(x, x, alpha=x[0]), "aten::item"),
    "Python's random numbers": (lambda x: x * random.random(), "random numbers"),
    "NumPy's random numbers": (lambda x: x * np.random.rand(), "random numbers"),
    "deepcopy": (lambda x: copy.deepcopy(x) * 2, "__deepcopy__"),
    "set_": (lambda x: torch.empty(0).set_(x) * 2, "aten::set_"),
    "another device": (lambda x: x.to("meta"), "two devices"),
    "requires_grad_": (lambda x: x.requires_grad_() * 2, "requires_grad_"),
    "a shape out of data": (lambda x: x.repeat_interleave(torch.tensor([1, 2, 3])), "data"),
    "a rounded write": (lambda x: (x * 1).add_(x.double()), "rounds"),
    "an object": (lambda x: object(), "object"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    function, reason = REFUSED[name]
    error = refusal(function, floats(3).requires_grad_(name == "backward"))
    assert re.search(reason, error.reason), error.reason
    if name not in ("an object", "Python's random numbers", "NumPy's random numbers"):
        assert "test_capture_traps.py:" in error.where


def test_the_place_names_the_module():
    inner = Function(lambda x: x * x.sum().item())
    with pytest.raises(CaptureError) as error:
        record(nn.Sequential(nn.ReLU(), nn.Sequential(inner)), [floats(3)])
    assert error.value.where.startswith("1.0 (")


class Remembers(nn.Module):
    def __init__(self, name):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.last, self.name = None, name

    def forward(self, x):
        setattr(self, self.name, self.mean * 0.9 + x)
        return x + self.mean


@pytest.mark.parametrize("name", ["mean", "last"])
def test_a_module_that_keeps_something_is_refused_and_restored(name):
    model = nn.Sequential(Remembers(name))
    mean = model[0].mean
    with pytest.raises(CaptureError, match=f"changes the attribute 0.{name}"):
        record(model, [floats(3)])
    assert model[0].mean is mean and model[0].last is None


@pytest.mark.parametrize("kept", [[1], {"a": 1}, {1}], ids=lambda kept: type(kept).__name__)
def test_a_container_that_grows_is_refused_and_restored(kept):
    def keep(self, x):
        match self.kept:
            case list():
                self.kept.append(x)
            case dict():
                self.kept["x"] = x
            case set():
                self.kept.add(2)
        return x * 2

    before = copy.copy(kept)
    model = Function(lambda x: keep(model, x))
    model.kept = kept
    with pytest.raises(CaptureError, match="changes the attribute kept"):
        record(model, [floats(3)])
    assert kept == before and model.kept is kept


UNUSUAL = {
    "a tensor of a tensor": lambda x: torch.tensor(x) * 2,
    "new_tensor": lambda x: x.new_tensor(x) * 2,
    "as_tensor": lambda x: torch.as_tensor(x, dtype=torch.float64) * 2,
    "asarray": lambda x: torch.asarray(x, copy=True) * 2,
    "Parameter": lambda x: nn.Parameter(x) * 2,
    "data": lambda x: (x * 2).data + x.data,
    "iteration": lambda x: sum(t for t in x),
    "vmap": lambda x: torch.vmap(lambda t: t * 2)(x),
    "index_put": lambda x: (y := x * 1, y.__setitem__(torch.tensor([0, 2]), 5.0), y)[2],
    "masked write": lambda x: (y := x * 1, y.__setitem__(x > 0, 0.0), y)[2],
    "scatter_": lambda x: (x * 1).scatter_(0, torch.tensor([0, 2]), 5.0),
    "linalg": lambda x: torch.linalg.inv(x.outer(x) + torch.eye(3)),
    "quantile": lambda x: x.quantile(0.3),
    "one_hot": lambda x: nn.functional.one_hot(x.long().abs(), 10),
    "dropout in place": lambda x: nn.functional.dropout(x * 1, 0.5, False, True) + 1,
    "complex numbers": lambda x: torch.view_as_real(torch.polar(x, x)),
}


def test_data_is_refused_where_autograd_follows():
    with pytest.raises(CaptureError, match=r"through \.data"):
        record(Function(UNUSUAL["data"]), [floats(3)])


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_but_right(name):
    function = UNUSUAL[name]
    # Behind .data is a tensor that autograd does not follow: it is recorded without autograd.
    with torch.inference_mode(name == "as_tensor"), torch.set_grad_enabled(name != "data"):
        model = record(Function(function), [floats(3)]).model
    x = floats(3)
    torch.testing.assert_close(reference.run(model, [x])[0], function(x).detach())


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, grad):
        return grad * 100


def test_an_autograd_function_is_refused_where_its_backward_would_be_lost():
    model, x = Function(Doubled.apply), floats(3)
    assert "pfcn.mul" in record(model, [x]).model.text()
    with pytest.raises(CaptureError, match=r"an autograd.Function \(DoubledBackward\)"):
        record(model, [x.requires_grad_()])
    with torch.no_grad():
        assert "pfcn.mul" in record(model, [x]).model.text()


def test_modes_that_change_what_operators_do_are_refused():
    torch.set_autocast_enabled("cuda", True)
    try:
        with pytest.raises(CaptureError, match="autocast"):
            record(nn.Linear(3, 3), [floats(2, 3)])
    finally:
        torch.set_autocast_enabled("cuda", False)


def test_casts_of_autocast_are_recorded():
    with torch.autocast("cpu", torch.bfloat16):
        text = record(nn.Linear(3, 3), [floats(2, 3)]).model.text()
    assert text.count("pfcn.cast") == 3 and "-> tensor<2x3xbf16>" in text


def test_autocast_inside_of_the_model():
    def forward(x):
        with torch.autocast("cpu", torch.bfloat16):
            return torch.mm(x, x) + x

    text = record(Function(forward), [floats(3, 3)]).model.text()
    assert "tensor<3x3xbf16>, tensor<3x3xbf16> -> tensor<3x3xbf16>" in text
    assert "tensor<3x3xf32>, tensor<3x3xf32> -> tensor<3x3xf32>" in text


def test_random_operators_are_not_merged():
    def forward(x):
        return x * torch.rand(3) - torch.rand(3)

    state = torch.get_rng_state()
    text = record(Function(forward), [floats(3)]).model.text()
    assert text.count('pfcn.opaque "aten::rand"') == text.count(" random ") == 2
    torch.set_rng_state(state)
    floats(3)
    expected = torch.rand(1)
    torch.set_rng_state(state)
    record(Function(forward), [floats(3)])
    assert torch.equal(torch.rand(1), expected)


def test_types_that_the_dialect_lacks_stay_with_torch():
    x = torch.tensor([1, 200, 255], dtype=torch.uint8)
    text = record(Function(lambda x: x.float() * 2), [x]).model.text()
    assert 'pfcn.opaque "aten::to.dtype"' in text and "pfcn.mul" in text
    text = record(Function(lambda x: (x + 1, x > 3)), [x]).model.text()
    assert "pfcn.add" not in text and "pfcn.compare" not in text
    assert (
        "pfcn.opaque"
        in record(Function(lambda z: z * z), [torch.view_as_complex(floats(3, 2))]).model.text()
    )


def test_scripted_parts_are_recorded():
    model = nn.Sequential(
        nn.Linear(3, 4), torch.jit.script(nn.Sequential(nn.Linear(4, 2), nn.Tanh()))
    )
    x = floats(2, 3)
    imported = record(model, [x]).model
    assert imported.text().count("pfcn.linear") == 2 and "pfcn.tanh" in imported.text()
    torch.testing.assert_close(reference.run(imported, [x])[0], model(x).detach())


def test_a_scripted_part_that_assigns_an_attribute_is_refused():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return x

    model = nn.Sequential(torch.jit.script(Counts()))
    with pytest.raises(CaptureError, match="assigns an attribute"):
        record(model, [floats(3)])
    assert model[0].calls == 0


def test_other_threads_are_not_recorded():
    other = nn.Linear(3, 3)
    results = []

    def forward(x):
        thread = threading.Thread(target=lambda: results.append(other(torch.ones(3)).tolist()))
        thread.start()
        thread.join()
        return x * 2

    assert len(record(Function(forward), [floats(3)]).tape) == 1
    assert len(results[0]) == 3


def test_recordings_of_two_threads_take_turns():
    models, captures = [nn.Sequential(*(nn.Linear(3, 3) for _ in range(50))) for _ in range(4)], {}
    call, x = nn.Module.__call__, floats(2, 3)

    def run(i):
        for _ in range(5):
            captures[i] = record(models[i], [x])

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert nn.Module.__call__ is call
    for i, model in enumerate(models):
        result = reference.run(captures[i].model, [x])[0]
        torch.testing.assert_close(result, model(x).detach())


def test_a_compiled_part_is_recorded_as_the_model_that_it_is():
    part = nn.Linear(3, 3)
    x = floats(2, 3)
    with torch.no_grad():
        compiled = pfcn.compile(part, (x,))
        text = record(nn.Sequential(compiled, nn.ReLU()), [x]).model.text()
    assert "pfcn.linear" in text and "pfcn.relu" in text


def test_large_literals_are_leaves_of_their_own():
    class Literal(nn.Module):
        def __init__(self):
            super().__init__()
            self.constants = nn.ParameterList([nn.Parameter(torch.rand(100))])

        def forward(self, x):
            return x * self.constants[0] + torch.tensor([float(i) for i in range(100)])

    model, x = Literal(), floats(100)
    imported = record(model, [x]).model
    assert imported.tensor_names == ["constants.0", "constants.1"]
    torch.testing.assert_close(reference.run(imported, [x])[0], model(x).detach())


def test_hooks_and_call_are_restored():
    call = nn.Module.__call__
    record(nn.Linear(3, 3), [floats(2, 3)])
    with pytest.raises(CaptureError):
        record(Function(lambda x: x.item()), [floats()])
    assert nn.Module.__call__ is call
    assert torch.backends.mha.get_fastpath_enabled()
