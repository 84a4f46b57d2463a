"""Banks of recurrent networks: one kernel with the loop over time in it, compared with eager."""

import copy

import pytest
import torch
from test_training import assert_trains, gradients
from torch import nn

import pfcn
from pfcn.testing import assert_matches

INPUTS, WIDTH = 3, 5


class Bank(nn.Module):
    """Networks on slices of the last dimension; `pick` says what of their results is used."""

    def __init__(self, kind, n, pick, **options):
        super().__init__()
        self.models = nn.ModuleList(kind(INPUTS, WIDTH, **options) for _ in range(n))
        self.pick = pick

    def forward(self, x):
        parts = x.split(INPUTS, dim=-1)
        return torch.stack([self.pick(*m(p)) for m, p in zip(self.models, parts, strict=True)])


PICKS = {
    "sequence": lambda y, h: y,
    "last": lambda y, h: y[:, -1],
    "states": lambda y, h: torch.cat(h, -1) if isinstance(h, tuple) else h,
}
OPTIONS = {
    "plain": {"batch_first": True},
    "two_layers_both_ways": {"num_layers": 2, "bidirectional": True},
    "no_bias_both_ways": {"bias": False, "bidirectional": True, "batch_first": True},
}


def make(kind, n, pick, options, dtype=torch.float32):
    torch.manual_seed(n)
    return Bank(kind, n, PICKS[pick], **OPTIONS[options]).eval().to(dtype)


@pytest.mark.parametrize("pick", PICKS)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_matches_eager(kind, options, pick):
    for n, batch, time in [(3, 1, 7), (17, 5, 1), (3, 16, 4)]:
        x = torch.randn(batch, time, n * INPUTS)
        fast = assert_matches(make(kind, n, pick, options), (x,))
        [group] = fast.report.groups
        assert not group.declined
        assert fast.report.launches == 1


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_gates_across_the_lanes(kind):
    """Three instances fill no vector, and the gates of one do."""
    model = Bank(kind, 3, PICKS["sequence"], **OPTIONS["plain"]).eval()
    x = torch.randn(2, 6, 3 * INPUTS)
    model.models = nn.ModuleList(kind(INPUTS, 19, **OPTIONS["plain"]) for _ in range(3))
    [group] = assert_matches(model, (x,)).report.groups
    assert "each op with lanes of its own" in group.choice


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtypes(dtype):
    x = torch.randn(4, 6, 5 * INPUTS, dtype=dtype)
    model = make(nn.LSTM, 5, "last", "plain", dtype)
    tolerance = {} if dtype is torch.float64 else {"rtol": 2e-2, "atol": 2e-2}
    fast = assert_matches(model, (x,), **tolerance)
    assert fast.report.launches == 1


def test_relu():
    torch.manual_seed(0)
    bank = Bank(nn.RNN, 6, PICKS["last"], nonlinearity="relu", batch_first=True).eval()
    assert assert_matches(bank, (torch.randn(3, 5, 6 * INPUTS),)).report.launches == 1


def test_initial_states_of_their_own():
    class Own(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.models = nn.ModuleList(nn.GRU(INPUTS, WIDTH) for _ in range(n))

        def forward(self, x, h):
            return torch.stack([m(x, h[i : i + 1])[0] for i, m in enumerate(self.models)])

    torch.manual_seed(0)
    fast = assert_matches(Own(7).eval(), (torch.randn(4, 2, INPUTS), torch.randn(7, 2, WIDTH)))
    assert fast.report.launches == 1


def test_any_batch_and_no_kernel():
    """A second batch has the same plan's kernel; without kernels torch's functions compute it."""
    bank = make(nn.LSTM, 6, "states", "plain")
    fast = pfcn.compile(bank)
    with torch.no_grad():
        for batch in (2, 17, 1, 16):
            x = torch.randn(batch, 5, 6 * INPUTS)
            torch.testing.assert_close(fast(x), bank(x))
    for options in OPTIONS:
        bank = make(nn.GRU, 3, "sequence", options)
        x = torch.randn(3, 4, 3 * INPUTS)
        engine = pfcn.engine.Engine(bank, pfcn.engine.Options(use_kernels=False), [])
        with torch.no_grad():
            torch.testing.assert_close(engine.run((x,), {}), bank(x))


@pytest.mark.parametrize(
    ("options", "pick"),
    sorted({("plain", pick) for pick in PICKS} | {(o, "last") for o in OPTIONS}),
)
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_gradients(kind, options, pick):
    """Back through more time than would be written out."""
    for n, batch, time in [(3, 2, 35), (17, 3, 9)]:
        x = torch.randn(batch, time, n * INPUTS, dtype=torch.float64, requires_grad=True)
        fast = assert_trains(make(kind, n, pick, options, torch.float64), x)
        assert fast.report.groups[0].instances == n


@pytest.mark.parametrize("kind", ["lstm", "gru", "tanh", "relu"])
def test_gradcheck(kind):
    torch.manual_seed(0)
    options = {"nonlinearity": kind} if kind in ("tanh", "relu") else {}
    module = {"lstm": nn.LSTM, "gru": nn.GRU}.get(kind, nn.RNN)
    bank = Bank(module, 2, PICKS["sequence"], batch_first=True, **options).double().eval()
    x = torch.randn(2, 34, 2 * INPUTS, dtype=torch.float64, requires_grad=True)
    fast = pfcn.compile(bank)
    assert torch.autograd.gradcheck(lambda x, *_: fast(x), (x, *bank.parameters()), fast_mode=True)
    assert fast.report.eager == ""


def test_gradients_of_initial_states():
    class Own(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.models = nn.ModuleList(nn.LSTM(INPUTS, WIDTH) for _ in range(n))

        def forward(self, x, h, c):
            results = [m(x, (h[i : i + 1], c[i : i + 1])) for i, m in enumerate(self.models)]
            return torch.stack(
                [torch.cat([y.flatten(), *map(torch.flatten, s)]) for y, s in results]
            )

    torch.manual_seed(0)
    x, h, c = torch.randn(36, 2, INPUTS), torch.randn(7, 2, WIDTH), torch.randn(7, 2, WIDTH)
    inputs = [t.double().requires_grad_() for t in (x, h, c)]
    assert_trains(Own(7).double().eval(), *inputs)


def test_training_in_f32_and_for_any_batch():
    plain = make(nn.LSTM, 9, "last", "plain")
    model = copy.deepcopy(plain)
    fast = pfcn.compile(model)
    for batch in (3, 5, 18):
        x = torch.randn(batch, 40, 9 * INPUTS, requires_grad=True)
        expected = gradients(plain, [x])
        torch.testing.assert_close(gradients(fast, [x]), expected, rtol=1e-4, atol=1e-4)
    assert fast.report.tracked_calls == 0


def test_second_derivatives():
    results = []
    for module in (pfcn.compile(make(nn.GRU, 3, "last", "plain", torch.float64)),
                   make(nn.GRU, 3, "last", "plain", torch.float64)):  # fmt: skip
        torch.manual_seed(1)
        x = torch.randn(2, 33, 3 * INPUTS, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(module(x).square().sum(), x, create_graph=True)
        slope.square().sum().backward()
        results.append(x.grad)
    torch.testing.assert_close(*results)
