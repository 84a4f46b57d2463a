"""Scripted, traced and frozen modules: the interpreter's control flow, containers and errors."""

from __future__ import annotations

import warnings
from typing import Dict, List, Optional, Tuple  # noqa: UP035 - as TorchScript knows them

import pytest
import reference
import torch
from test_importer import floats
from torch import Tensor, nn

from pfcn import _C
from pfcn.bench.seed import ParallelFCN
from pfcn.capture import record
from pfcn.errors import Error, ImportError_

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def script(model: nn.Module) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(model.eval())


def trace(model: nn.Module, *inputs: Tensor) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(model.eval(), inputs)


def agree(module, shapes: str, tensors: list[Tensor], expected) -> str:
    imported = _C.import_torchscript(module, shapes)
    expected = [expected] if isinstance(expected, Tensor) else expected
    for result, value in zip(reference.run(imported, tensors), expected, strict=True):
        torch.testing.assert_close(result, value.detach())
    return imported.text()


@pytest.mark.parametrize("batch", [1, 3])
def test_both_front_ends_give_the_same_module(batch, tmp_path):
    model, x = ParallelFCN(3).eval(), torch.rand(batch, 60)
    recorded = record(model, [x]).model
    scripted, traced = script(model), trace(model, x)
    shapes = f"{batch}x60xf32"
    assert _C.import_torchscript(scripted, shapes).text() == recorded.text()
    assert _C.import_torchscript(traced, shapes).text() == recorded.text()
    scripted.save(str(tmp_path / "model.pt"))
    loaded = _C.import_torchscript(tmp_path / "model.pt", shapes)
    assert loaded.text() == recorded.text()
    assert loaded.tensor_names == recorded.tensor_names
    for name, tensor in loaded.tensors.items():
        assert torch.equal(tensor, recorded.tensors[name])


def test_a_frozen_module_keeps_its_weights_as_constants():
    model, x = ParallelFCN(2).eval(), torch.rand(3, 40)
    frozen = torch.jit.freeze(script(model))
    text = agree(frozen, "3x40xf32", [x], model(x))
    assert text.count('pfcn.parameter "constants.') == 8


def test_an_open_batch_is_right_at_every_size():
    model = ParallelFCN(2).eval()
    imported = _C.import_torchscript(script(model), "?x40xf32")
    for batch in (2, 5, 64, 1000):
        x = torch.rand(batch, 40)
        torch.testing.assert_close(reference.run(imported, [x])[0], model(x).detach())


class ByIndex(nn.Module):
    """range, indexing, while, break, nested submodules, and an early return."""

    def __init__(self, n: int):
        super().__init__()
        self.n = n
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"net": nn.Sequential(nn.Linear(2, 2), nn.Tanh())}) for _ in range(3)
        )

    def forward(self, x, deep: bool = True):
        parts = torch.split(x, 2, dim=1)
        outputs: List[Tensor] = []  # noqa: UP006
        for i, block in enumerate(self.blocks):
            outputs.append(block["net"](parts[i]))
        for i in range(self.n):
            if i == 2:
                break
            outputs[i] = outputs[i] * (i + 1)
        k = 0
        while k < len(outputs):
            outputs[k] = outputs[k] - float(k) / 2
            k += 1
        if not deep:
            return outputs[0]
        return torch.cat(outputs[::-1], 1)


def test_control_flow_is_run():
    model, x = ByIndex(5), floats(4, 6)
    agree(script(model), "4x6xf32", [x], model(x))
    agree(script(model), "4x6xf32,false", [x], model(x, False))


class Containers(nn.Module):
    def forward(
        self,
        pair: Tuple[Tensor, Tensor],  # noqa: UP006
        table: Dict[str, Tensor],  # noqa: UP006
        scale: float,
        rest: List[Tensor],  # noqa: UP006
        mask: Optional[Tensor] = None,  # noqa: UP045
    ) -> Tuple[Dict[str, Tensor], List[Tensor]]:  # noqa: UP006
        a, b = pair
        total = a + b * scale + table["p"] - table["q"]
        if mask is not None:
            total = total * mask
        return {"total": total, "first": rest[0]}, [r.neg() for r in rest]


class LastList(nn.Module):
    def forward(self, table: Dict[str, Tensor], scale: float, rest: List[Tensor]):  # noqa: UP006
        total = torch.zeros_like(rest[0])
        for r in rest:
            total = total + r * scale
        return {"total": total, "p": table["p"]}, (table["q"], rest[-1])


class Pairs(nn.Module):
    def forward(self, pair: Tuple[Tensor, Tensor], mask: Optional[Tensor] = None):  # noqa: UP006, UP045
        a, b = pair
        return a - b if mask is None else (a - b) * mask


def test_containers_as_inputs_and_results():
    a, b, c = floats(2), floats(2), floats(2)
    (table, (last, end)) = LastList()({"p": a, "q": b}, 0.5, [c, a, b])
    expected = [*table.values(), last, end]
    inputs = [a, b, c, a, b]
    agree(script(LastList()), "p=2xf32,q=2xf32,0.5,2xf32,2xf32,2xf32", inputs, expected)
    agree(script(Pairs()), "2xf32,2xf32", [a, b], a - b)
    agree(script(Pairs()), "2xf32,2xf32,2xf32", [a, b, c], (a - b) * c)


class Parts(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared = nn.Linear(3, 3)
        self.again = self.shared
        self.register_buffer("shift", torch.rand(3))
        self.plain = torch.rand(3)

    def forward(self, x):
        y = self.again(self.shared(x)) + self.shift * self.plain
        y[:, 0] = 0
        y += torch.tensor([1.0, 2.0, 3.0])
        return y.masked_fill(y > 1, -1.0) + torch.ones(3)


def test_shared_parameters_buffers_constants_and_writes():
    model, x = Parts(), floats(2, 3)
    text = agree(script(model), "2x3xf32", [x], model(x))
    assert text.count('pfcn.parameter "shared.weight"') == 1 and "again" not in text
    assert 'pfcn.parameter "shift"' in text and 'pfcn.parameter "plain"' in text
    agree(trace(model, x), "2x3xf32", [x], model(x))


class Sizes(nn.Module):
    """Arithmetic on sizes, which a trace does with tensors."""

    def forward(self, x):
        b, n = x.shape
        y = x.view(b, n // 2, 2).sum(-1) * (b + 1)
        return y.reshape(-1)[: (b * n) // 2], x / x.size(1)


@pytest.mark.parametrize("make", [script, trace])
def test_sizes_are_numbers(make):
    model, x = Sizes(), floats(3, 4)
    module = make(model) if make is script else make(model, x)
    agree(module, "3x4xf32", [x], model(x))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64])
def test_element_types(dtype):
    class Doubles(nn.Module):
        def forward(self, x):
            return x + x * 2

    x = floats(2, 3).mul(5).to(dtype)
    name = {v: k for k, v in reference.DTYPES.items()}[dtype]
    agree(script(Doubles()), f"2x3x{name}", [x], x + x * 2)


class Reads(nn.Module):
    def forward(self, x):
        return x * x.sum().item()


class Branches(nn.Module):
    def forward(self, x):
        if bool(x.sum() > 0):
            return x
        return -x


class Endless(nn.Module):
    def forward(self, x):
        k = 1
        while k > 0:
            k += 1
        return x


class Hoards(nn.Module):
    def forward(self, x):
        many = [0] * 1000000000000
        return x + len(many)


class Assigns(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x


class TooFew(nn.Module):
    def forward(self, x):
        a, b = x.unbind(0)
        return a + b


BAD = {
    Reads: "data",
    Branches: "data",
    Endless: "does not end within",
    Hoards: "lists and strings of more than",
    Assigns: "assigns the attribute 'calls'",
    TooFew: "3 is unpacked into 2|3 elements|expected",
}


@pytest.mark.parametrize("model", BAD, ids=lambda model: model.__name__)
def test_what_cannot_be_imported_is_said(model):
    with pytest.raises(ImportError_, match=BAD[model]) as error:
        _C.import_torchscript(script(model()), "3x2xf32")
    assert isinstance(error.value, Error)
    if model is not Hoards:
        assert "test_importer_torchscript.py:" in str(error.value)


@pytest.mark.parametrize(
    "shapes, reason",
    [
        ("", "takes 1 input, but 0 shapes are given"),
        ("3x2xf32,3x2xf32", "takes 1 input, but 2 shapes are given"),
        ("3x2xfloat", "ends in no element type"),
        ("3x-2xf32", "where a size or"),
        ("7", "is a tensor, but its shape is given as a number"),
    ],
)
def test_bad_shapes(shapes, reason):
    with pytest.raises(ImportError_, match=reason):
        _C.import_torchscript(script(TooFew()), shapes)


def test_a_model_in_training_keeps_its_dropout():
    model = torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)))
    assert " random " in _C.import_torchscript(model, "3x2xf32").text()
    assert "dropout" not in _C.import_torchscript(model.eval(), "3x2xf32").text()
