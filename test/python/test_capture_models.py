"""Modules of torch.nn, recorded: evaluated op by op they compute what eager computes."""

from __future__ import annotations

import pytest
import reference
import torch
from test_importer import floats
from torch import nn

from pfcn.capture import record


class Ensemble(nn.Module):
    def __init__(self, make, n=3):
        super().__init__()
        self.members = nn.ModuleList(make() for _ in range(n))

    def forward(self, *x):
        return torch.stack([member(*x) for member in self.members]).mean(0)


class Recurrent(nn.Module):
    def __init__(self, cls, **options):
        super().__init__()
        self.cell = cls(3, 4, num_layers=2, batch_first=True, **options)

    def forward(self, x):
        out, state = self.cell(x)
        return out[:, -1], state


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)


MODELS = {
    "mlp ensemble": (
        lambda: Ensemble(lambda: nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1))),
        (2, 3),
    ),
    "lstm": (lambda: Recurrent(nn.LSTM), (2, 6, 3)),
    "gru": (lambda: Recurrent(nn.GRU, bidirectional=True), (2, 6, 3)),
    "lstm cell": (lambda: nn.LSTMCell(3, 4), (2, 3)),
    "convolution": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(True), nn.MaxPool2d(2), nn.Flatten()
        ),
        (2, 3, 8, 8),
    ),
    "attention": (Attention, (2, 5, 4)),
    "encoder layer": (lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), (2, 5, 4)),
    "norms": (
        lambda: nn.Sequential(nn.LayerNorm(6), nn.GroupNorm(2, 4), nn.Dropout(0.5)),
        (2, 4, 6),
    ),
    "activations": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.PReLU(), nn.Softmax(-1), nn.GLU()),
        (2, 3),
    ),
    "bilinear": (lambda: Ensemble(lambda: nn.Bilinear(3, 3, 2)), (2, 3), (2, 3)),
}


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_model(name, grad):
    torch.manual_seed(3)
    make, *sizes = MODELS[name]
    model, inputs = make().eval(), [floats(*size) for size in sizes]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.set_grad_enabled(grad):
        capture = record(model, inputs)
        expected = model(*inputs)
    leaves = torch.utils._pytree.tree_leaves(expected)
    results = reference.run(capture.model, inputs)
    rebuilt = capture.out_spec.unflatten(results)
    assert torch.utils._pytree.tree_structure(rebuilt) == torch.utils._pytree.tree_structure(
        expected
    )
    for result, value in zip(results, leaves, strict=False):
        torch.testing.assert_close(result, value.detach())
    assert all(torch.equal(model.state_dict()[key], value) for key, value in state.items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_shared_parameter_is_imported_once_under_its_first_name():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x))

    model = record(Tied(), [floats(2, 3)]).model
    assert model.tensor_names == ["a.bias", "a.weight", "b.bias"]
    assert model.text().count('pfcn.parameter "a.weight"') == 1


def test_batch_norm_in_training_is_recorded_and_leaves_its_buffers():
    model = nn.Sequential(nn.BatchNorm1d(3))
    capture = record(model, [floats(4, 3)])
    assert set(capture.tape.writes) >= {"0.running_mean", "0.running_var", "0.num_batches_tracked"}
    assert model[0].num_batches_tracked == 0
    assert torch.equal(model[0].running_mean, torch.zeros(3))
    model = nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False))
    assert "aten::batch_norm" in record(model, [floats(4, 3)]).model.text()


def test_functional_batch_norm_in_training_is_recorded():
    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.zeros(3))
            self.register_buffer("var", torch.ones(3))

        def forward(self, x):
            return nn.functional.batch_norm(x, self.mean, self.var, training=True)

    model = Norm()
    assert set(record(model, [floats(4, 3)]).tape.writes) == {"mean", "var"}
    assert torch.equal(model.mean, torch.zeros(3))
