"""Under torch.autocast: its casts are recorded, and banks run and train on kernels."""

import copy

import pytest
import torch
from test_training import Bank, loss_of
from torch import nn

import pfcn

DTYPES = [torch.bfloat16, torch.float16]


def mlp():
    return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 3))


def normed():
    return nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 2))


def convolved():
    return nn.Sequential(nn.Conv1d(5, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.LazyLinear(2))


BANKS = {
    "linear": (lambda: nn.Linear(5, 3), (5,)),
    "mlp": (mlp, (5,)),
    "layer_norm": (normed, (5,)),
    "conv": (convolved, (5, 6)),
}


def bank(name, n, batch):
    torch.manual_seed(0)
    make, shape = BANKS[name]
    model, x = Bank(make, n), torch.randn(n, batch, *shape).transpose(0, 1)
    model(x)
    return model, x


def run(model, x, dtype=None):
    """The result and all gradients, in f64."""
    model.zero_grad()
    x = x.detach().clone().requires_grad_()
    if dtype is None:
        result = model(x)
    else:
        with torch.autocast("cpu", dtype=dtype):
            result = model(x)
            assert result.dtype == dtype
    loss_of(result.double()).backward()
    tensors = [p.grad for p in model.parameters()]
    assert all(t.dtype == p.dtype for t, p in zip(tensors, model.parameters(), strict=True))
    return [tensor.detach().double().clone() for tensor in (result, x.grad, *tensors)]


def assert_as_near(ours, eager, exact):
    """No further from the numbers of f64 than twice as far as eager is, of the model as a whole."""

    def distance(found):
        parts = zip(found, exact, strict=True)
        return torch.stack([(a - b).norm() / (1e-6 + b.norm()) for a, b in parts]).max()

    assert distance(eager) > 1e-6  # it casts
    assert distance(ours) <= 2 * distance(eager)
    for a, b, c in zip(ours, eager, exact, strict=True):
        bound = 4 * (b - c).norm() + 0.02 * c.norm() + 1e-3
        assert (a - b).norm() <= bound


@pytest.mark.parametrize("name", BANKS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "batch"), [(2, 1), (15, 17), (16, 15), (17, 16)])
def test_banks(name, dtype, n, batch):
    model, x = bank(name, n, batch)
    plain = copy.deepcopy(model)
    exact = run(copy.deepcopy(model).double(), x.double())
    fast = pfcn.compile(model)
    eager = run(plain, x, dtype)
    for _ in range(2):
        assert_as_near(run(fast, x, dtype), eager, exact)
    report = fast.report
    assert report.eager == "" and report.tracked_calls == 0 and report.launches > 0, report
    # Torch has an operator for bf16 with weights of f32, and the dialect has not.
    (group,) = report.groups
    assert group.calls == (["aten::layer_norm"] if name == "layer_norm" else []), report


@pytest.mark.parametrize("name", BANKS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_inference(name, dtype):
    model, x = bank(name, 15, 16)
    fast = pfcn.compile(model)
    with torch.no_grad():
        exact = copy.deepcopy(model).double()(x.double())
        for _ in range(2):
            with torch.autocast("cpu", dtype=dtype):
                ours, eager = fast(x), model(x)
            assert ours.dtype == eager.dtype == dtype
            assert (ours - exact).norm() <= 2 * (eager - exact).norm()
            # Outside of the context the same call is of f32.
            torch.testing.assert_close(fast(x), model(x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_stacked(dtype):
    model, x = bank("mlp", 15, 17)
    plain, fast = copy.deepcopy(model), pfcn.compile(model)
    fast(x)
    optimizers = [
        torch.optim.SGD(pfcn.optim.stack(fast), lr=0.05),
        torch.optim.SGD(plain.parameters(), lr=0.05),
    ]
    for _ in range(5):
        losses = []
        for one, optimizer in zip((fast, plain), optimizers, strict=True):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=dtype):
                loss = one(x).float().square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        torch.testing.assert_close(*losses, rtol=0.02, atol=1e-3)
    assert fast.report.eager == ""
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=0.02, atol=2e-3)


def test_weights_cast_before_and_after():
    """Autocast keeps what it has cast until it is left: neither side may take the other's."""
    model, x = bank("mlp", 4, 3)
    plain, fast = copy.deepcopy(model), pfcn.compile(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        before = model(x)  # in the cache now
        ours = fast(x)
        after = model(x)
        torch.testing.assert_close(before, after, rtol=0, atol=0)
        (before.float().sum() + ours.float().sum() + after.float().sum()).backward()
        plain_results = [plain(x) for _ in range(3)]
        sum(result.float().sum() for result in plain_results).backward()
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=0.05, atol=0.05)


def test_a_context_inside_of_the_model():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.outer = nn.Linear(5, 8), nn.Linear(8, 2)

        def forward(self, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                y = self.inner(x)
            return self.outer(torch.tanh(y).float())

    torch.manual_seed(0)
    model = Bank(Mixed, 7)
    plain, fast = copy.deepcopy(model), pfcn.compile(model)
    x = torch.randn(3, 7, 5)
    results = [one(x) for one in (fast, plain)]
    assert results[0].dtype == torch.float32 and fast.report.eager == ""
    torch.testing.assert_close(*results, rtol=0.01, atol=0.01)
    for result in results:
        result.square().sum().backward()
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=0.05, atol=0.05)


def test_casts_inside_of_an_operator():
    """A composite that is one operator to the recording, and calls what autocast casts."""

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(4, 5, batch_first=True)

        def forward(self, x):
            return self.lstm(x)[0]

    torch.manual_seed(0)
    model = Bank(Layer, 3)
    plain, fast = copy.deepcopy(model), pfcn.compile(model)
    x = torch.randn(2, 3, 6, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours, theirs = fast(x), plain(x)
    assert ours.dtype == theirs.dtype
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert "autocast casts what aten::lstm computes inside" in fast.report.eager
