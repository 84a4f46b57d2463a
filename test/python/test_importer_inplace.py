"""In-place operators and views become values: what is read later is what eager reads."""

from __future__ import annotations

import random

import pytest
import reference
import torch
import torch.nn.functional as F
from test_importer import Function, both, floats
from torch import nn

from pfcn.capture import CaptureError, record


def columns(x):
    out = torch.empty(2, 3)
    for i in range(3):
        out[:, i] = x[:, i] * i
    return out


def slices(x):
    out = torch.zeros(4, 6)
    out[1:3, ::2] = x
    out[0] += 1
    out[:, -1].mul_(3)
    return out


def base_after_view(x):
    y = x * 2
    row = y[1]
    row.add_(1)
    return y, row


def view_after_base(x):
    y = x * 2
    view = y.t()[1:]
    y.mul_(3)
    view.add_(1)
    return y, view, y.reshape(-1)


def sibling_views(x):
    y = x + 0
    a, b = y.split([1, 2], 1)
    a.add_(1)
    b.mul_(2)
    c, d = y.unbind(0)
    c.sub_(d)
    return y, a, b, c, d


def copies(x):
    y = torch.zeros(2, 3, dtype=torch.float64)
    y.copy_(x)
    z = y.view(3, 2)
    z[1] = 7
    return y, z.unsqueeze(0)


def activations(x):
    y = F.relu(x + 1, inplace=True)
    y = F.leaky_relu_(y)
    y.clamp_(0, 1).sigmoid_()
    y += x
    y /= 2
    return y


def narrow(x):
    y = x * 1
    y.narrow(1, 1, 2).zero_()
    y.select(0, -1).fill_(4)
    return y


def masked(x):
    y = x * 1
    return y.masked_fill_(y > 0, 0.5), y


def permuted(x):
    y = x * 1
    y.permute(1, 0)[2].add_(5)
    y.unsqueeze(0).transpose(1, 2)[0, 0].add_(3)
    y.squeeze().view(-1)[1:3].zero_()
    return y


def dropped(x):
    y = F.dropout(x * 1, 0.5, training=False)
    return y.add_(1)


CASES = [columns, slices, base_after_view, view_after_base, sibling_views, copies, activations,
         narrow, masked, permuted, dropped]  # fmt: skip


def inputs() -> list[torch.Tensor]:
    torch.manual_seed(5)
    return [floats(2, 3)]


@pytest.mark.parametrize("function", CASES, ids=lambda function: function.__name__)
def test_recorded_and_traced_compute_what_eager_computes(function):
    x = inputs()
    before = x[0].clone()
    model = Function(function)
    text = record(model, x).model.text()
    assert torch.equal(x[0], before)
    both(model, x, modelled="opaque" not in text)


def test_a_write_of_a_whole_tensor_leaves_no_scatter():
    assert "opaque" not in record(Function(activations), inputs()).model.text()


def random_program(seed: int, steps: int = 12):
    """A forward of random views and in-place writes, and reads of every tensor it made."""
    choose = random.Random(seed)
    script = [(choose.random(), choose.random(), choose.random()) for _ in range(steps)]

    def forward(x):
        tensors = [x * 2, x + 1]
        for which, kind, place in script:
            t = tensors[int(which * len(tensors))]
            if t.dim() == 0 or t.numel() == 0:
                continue
            dim = int(place * t.dim())
            size = t.shape[dim]
            match int(kind * 10):
                case 0 | 1 if t.shape[dim] > 1:
                    tensors.append(t.narrow(dim, int(which * size / 2), 1 + int(kind * size / 2)))
                case 2:
                    tensors.append(t.select(dim, int(which * size)))
                case 3:
                    tensors.append(t.transpose(dim, -1))
                case 4:
                    tensors.append(t.unsqueeze(dim))
                case 5:
                    tensors.extend(t.chunk(2, dim))
                case 6:
                    tensors.append(torch.tanh(t))
                case 7:
                    t.mul_(1.5)
                case 8:
                    t.add_(tensors[0].sum())
                case _:
                    t[..., -1] = place
        return tuple(tensors)

    return forward


@pytest.mark.parametrize("seed", range(40))
def test_random_views_and_writes(seed):
    model = Function(random_program(seed))
    x = [floats(3, 4)]
    with torch.no_grad():
        expected = model(*x)
        results = reference.run(record(model, x).model, x)
    for result, value in zip(results, expected, strict=True):
        torch.testing.assert_close(result, value, msg=f"seed {seed}")


def refused(function, *tensors, **parts):
    model = Function(function)
    for name, part in parts.items():
        setattr(model, name, part)
    with pytest.raises(CaptureError) as error:
        record(model, tensors)
    assert "test_importer_inplace.py:" in error.value.where
    assert error.value.remedy
    return error.value.reason


def test_writes_to_what_the_caller_holds_are_refused_before_they_happen():
    x = floats(2, 3)
    before = x.clone()
    assert "aten::add_ writes to an input" in refused(lambda x: x.add_(1), x)
    assert "aten::mul_ writes to an input" in refused(lambda x: x.view(-1)[1:].mul_(2), x)
    assert "aten::copy_ writes to an input" in refused(lambda x: x.t()[0].copy_(x[0, :2]), x)
    assert torch.equal(x, before)


def test_a_buffer_that_is_written_keeps_its_value():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x):
            self.count += 1
            return x

    model = Counter()
    assert list(record(model, (floats(2),)).tape.writes) == ["count"]
    assert model.count == 0


def test_operators_without_a_functional_form_are_refused():
    assert "aten::resize_" in refused(lambda x: (x * 1).resize_(6), floats(2, 3))
    assert "aten::unsqueeze_" in refused(lambda x: (x * 1).unsqueeze_(0), floats(2, 3))
    assert "aten::add " in refused(lambda x: torch.add(x, x, out=torch.empty(2, 3)), floats(2, 3))
    assert "as_strided" in refused(lambda x: (x * 1).as_strided((2,), (1,)), floats(2, 3))


def test_memory_shared_for_some_strides_only_is_not_read_after_a_write():
    def read(x):
        y = x * 1
        z = y.reshape(-1)
        z.add_(1)
        return y

    def not_read(x):
        return (x * 1).reshape(-1).add_(1)

    assert "reshape" in refused(read, floats(2, 3))
    both(Function(not_read), [floats(2, 3)], modelled=True)


def test_a_tensor_written_part_by_part_is_a_concatenation():
    def heads(x):
        out = torch.empty(2, 3)
        for i in (2, 0, 1):
            out[:, i] = x[:, i] * i
        return out

    lines = record(Function(heads), [floats(2, 3)]).model.text().splitlines()
    names = [line.split("pfcn.")[1].split(" ")[0] for line in lines if "pfcn." in line]
    assert names == ["select", "constant", "mul"] * 3 + ["unsqueeze"] * 3 + ["cat"]
    both(Function(heads), [floats(2, 3)], modelled=True)


def test_parts_that_overlap_and_what_is_not_written():
    def parts(x):
        out = torch.ones(6, 3)
        out[1:4] = x[0]
        out[3:5] = x[1]
        out[2] = 7
        return out

    both(Function(parts), [floats(2, 3)], modelled=True)
