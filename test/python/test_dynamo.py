"""torch.compile(model, backend="pfcn") against eager: inference, training, graph breaks, sizes."""

from __future__ import annotations

import copy
import gc
import weakref

import models
import pytest
import torch
from torch import nn

import pfcn
from pfcn import dynamo


@pytest.fixture(autouse=True)
def fresh():
    dynamo._graphs.clear()
    yield
    torch._dynamo.reset()


def compiled(model, **kwargs):
    return torch.compile(model, backend="pfcn", **kwargs)


def last_report() -> pfcn.Report:
    return dynamo.reports()[-1]


def assert_trains_alike(model, x, fast=None, steps=3, seed=0):
    """Losses, gradients, parameters and buffers of a few steps are eager's."""
    eager = copy.deepcopy(model)
    fast = compiled(model) if fast is None else fast
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9) for m in (model, eager)]
    for step in range(steps):
        losses = []
        for forward, optimizer in zip((fast, eager), optimizers):
            torch.manual_seed(seed + step)
            loss = forward(x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss)
        torch.testing.assert_close(*losses)
        for (name, p), q in zip(model.named_parameters(), eager.parameters()):
            torch.testing.assert_close({name: p.grad}, {name: q.grad})
            torch.testing.assert_close({name: p}, {name: q})
        for p, q in zip(model.buffers(), eager.buffers()):
            torch.testing.assert_close(p, q)


# --- Inference -----------------------------------------------------------------------------------


def test_backend_is_found():
    assert "pfcn" in torch._dynamo.list_backends()


@pytest.mark.parametrize("batch", [1, 2, 15, 17])
@pytest.mark.parametrize(
    "kind", [models.Slices, models.Shared, models.OneByOne, models.Summed, models.Columns]
)
def test_inference(kind, batch):
    model = models.make(kind(16), seed=batch)
    x = torch.randn(batch, 5 if issubclass(kind, models.Shared) else 80)
    fast = compiled(model, fullgraph=True)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(fast(x), model(x))
    if batch > 1:
        assert last_report().launches == 1
        assert not last_report().copies


def test_thousand_are_one_launch():
    model = models.make(models.Slices(1000))
    fast = compiled(model, fullgraph=True)
    x = torch.randn(2, 5000)
    with torch.no_grad():
        torch.testing.assert_close(fast(x), model(x))
        torch.testing.assert_close(fast(x), model(x))
    report = last_report()
    assert report.launches == 1
    assert report.groups[0].instances == 1000
    assert not report.copies and not report.eager


def test_weights_are_adopted_and_seen_live():
    model = models.make(models.Slices(4))
    fast = compiled(model)
    x = torch.randn(3, 20)
    with torch.no_grad():
        fast(x)
        for parameter in model.parameters():
            parameter.mul_(1.5)
        torch.testing.assert_close(fast(x), model(x))
        model.models[0][0].weight.data = torch.randn(4, 5)
        torch.testing.assert_close(fast(x), model(x))
        model.load_state_dict(models.make(models.Slices(4), seed=7).state_dict())
        torch.testing.assert_close(fast(x), model(x))
    assert not last_report().copies
    assert dynamo._graphs[-1]().calls.hits >= 4


def test_places_are_those_of_the_user():
    model = models.make(models.Slices(4))
    with torch.no_grad():
        compiled(model)(torch.randn(3, 20))
    assert "models.0.0" in last_report().groups[0].where
    assert "models.py" in last_report().groups[0].where


def test_models_of_one_class_share_a_graph_but_no_weights():
    both = [models.make(models.Slices(4), seed=i) for i in range(3)]
    fast = [compiled(model) for model in both]
    x = torch.randn(3, 20)
    with torch.no_grad():
        for _ in range(2):
            for model, f in zip(both, fast):
                torch.testing.assert_close(f(x), model(x))


def test_a_model_that_is_gone_is_freed():
    model = models.make(models.Slices(4))
    fast = compiled(model)
    with torch.no_grad():
        fast(torch.randn(3, 20))
    graph = dynamo._graphs[-1]()
    assert graph.calls.owners == 1
    gone = [weakref.ref(parameter) for parameter in model.parameters()]
    del model, fast
    gc.collect()
    assert not any(ref() for ref in gone)
    assert graph.calls.owners == 0


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_grad_modes(context):
    model = models.make(models.Slices(4)).requires_grad_(False)
    fast = compiled(model)
    x = torch.randn(3, 20)
    for scope in (context, torch.no_grad, context):
        with scope():
            torch.testing.assert_close(fast(x), model(x))


def test_requires_grad_turned_on_later():
    model = models.make(models.Slices(4)).requires_grad_(False)
    fast = compiled(model)
    x = torch.randn(3, 20)
    fast(x)
    model.requires_grad_(True)
    fast(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtypes(dtype):
    model = models.make(models.Slices(4), dtype=dtype)
    x = torch.randn(3, 20, dtype=dtype)
    with torch.no_grad():
        torch.testing.assert_close(compiled(model)(x), model(x))


def test_layouts_of_the_input():
    model = models.make(models.Slices(4))
    fast = compiled(model)
    with torch.no_grad():
        for x in (torch.randn(20, 3).t(), torch.randn(3, 40)[:, ::2], torch.randn(3, 20)):
            torch.testing.assert_close(fast(x), model(x))


# --- Training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [models.Slices, models.Shared, models.Columns])
def test_training(kind):
    model = models.make(kind(16)).train()
    assert_trains_alike(model, torch.randn(5, 5 if issubclass(kind, models.Shared) else 80))
    assert last_report().groups[0].instances == 16 and last_report().launches == 1
    assert last_report().eager == ""


class Choosing(models.Slices):
    """A group with an operator that has no gradient in it: of an even choice, torch takes one."""

    def forward(self, x):
        parts = zip(self.models, x.chunk(len(self.models), 1))
        return torch.cat([m(p).max(1, keepdim=True).values for m, p in parts], 1)


def test_training_of_an_operator_without_gradient():
    model = models.make(Choosing(16)).train()
    assert_trains_alike(model, torch.randn(5, 80))
    (group,) = last_report().groups
    assert group.instances == 16 and group.calls == ["aten::max.dim"] and group.kernels


class Counting(models.Slices):
    """It writes a buffer in place."""

    def __init__(self, n):
        super().__init__(n)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls.add_(1)
        return super().forward(x)


def test_training_through_aotautograd():
    model = models.make(Counting(16)).train()
    assert_trains_alike(model, torch.randn(5, 80))
    forward, backward = dynamo.reports()[-2:]
    assert forward.groups[0].instances == backward.groups[0].instances == 16


def test_training_of_varying_batches():
    model = models.make(models.Slices(16)).train()
    fast = compiled(model)
    for batch in (5, 3, 40, 7):
        assert_trains_alike(model, torch.randn(batch, 80), fast, steps=2)
    assert last_report().eager == ""


def test_some_weights_are_frozen_later():
    model = models.make(models.Slices(6))
    fast = compiled(model)
    for frozen in (False, True, False):
        model.models[2].requires_grad_(not frozen)
        assert_trains_alike(model, torch.randn(3, 30), fast, steps=1)


def test_gradient_of_the_input():
    model = models.make(models.Slices(4))
    x = torch.randn(3, 20, requires_grad=True)
    compiled(model)(x).square().sum().backward()
    got, x.grad = x.grad, None
    model(x).square().sum().backward()
    torch.testing.assert_close(got, x.grad)


class Trunk(nn.Module):
    """Normalised, with dropout, between a trunk and heads."""

    def __init__(self, n=5):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU())
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 7), nn.LayerNorm(7), nn.Dropout(0.3), nn.Linear(7, 2))
            for _ in range(n)
        )

    def forward(self, x):
        x = self.trunk(x)
        return torch.stack([head(x) for head in self.heads]).mean(0)


def test_running_statistics_and_dropout():
    torch.manual_seed(3)
    assert_trains_alike(Trunk(), torch.randn(9, 6))


def test_train_and_eval_in_turn():
    torch.manual_seed(3)
    model = Trunk()
    fast = compiled(model)
    x = torch.randn(9, 6)
    for _ in range(2):
        assert_trains_alike(model.train(), x, fast, steps=1)
        model.eval()
        with torch.no_grad():
            torch.testing.assert_close(fast(x), model(x))


def test_two_calls_before_backward():
    model = models.make(models.Slices(4))
    fast = compiled(model)
    a, b = torch.randn(3, 20), torch.randn(3, 20)
    (fast(a) * fast(b)).sum().backward()
    got = [p.grad for p in model.parameters()]
    model.zero_grad(set_to_none=True)
    (model(a) * model(b)).sum().backward()
    torch.testing.assert_close(got, [p.grad for p in model.parameters()])


def test_autocast():
    model = models.make(models.Slices(4))
    fast = compiled(model)
    x = torch.randn(3, 20)
    for scope in (torch.no_grad, torch.enable_grad):
        with torch.autocast("cpu", torch.bfloat16), scope():
            got, wanted = fast(x), model(x)
        assert got.dtype == wanted.dtype == torch.bfloat16
        torch.testing.assert_close(got, wanted)
        with scope():
            torch.testing.assert_close(fast(x), model(x))


# --- Graphs as dynamo gives them -----------------------------------------------------------------


def test_graph_breaks():
    model = models.make(models.Slices(8))

    def forward(x):
        y = model(x)
        if y.sum() > 0:  # decided by data
            return model(x * 2) + y
        return model(-x) - y

    fast = torch.compile(forward, backend="pfcn")
    with torch.no_grad():
        for seed in range(6):
            x = torch.randn(3, 40, generator=torch.Generator().manual_seed(seed))
            torch.testing.assert_close(fast(x), forward(x))
    assert len(dynamo.reports()) >= 3
    assert all(report.launches == 1 for report in dynamo.reports()[-3:])
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(forward, backend="pfcn", fullgraph=True)(x)


def test_views_across_a_graph_break():
    def forward(x):
        part = x[:, 2:5]
        torch._dynamo.graph_break()
        part.add_(1)  # seen in x
        return x * 2, part

    for grad in (True, False):
        x = torch.randn(3, 8)
        y = x.clone()
        with torch.set_grad_enabled(grad):
            got = torch.compile(forward, backend="pfcn")(x)
            torch.testing.assert_close(got, forward(y))
        torch.testing.assert_close(x, y)
        got[1].zero_()
        assert (x[:, 2:5] == 0).all()


def test_inputs_that_are_written():
    def forward(x, state):
        state.mul_(0.5).add_(x.sum(0))
        return x + state, state[0]

    fast = torch.compile(forward, backend="pfcn")
    state, other = torch.ones(4), torch.ones(4)
    with torch.no_grad():
        for _ in range(3):
            x = torch.randn(3, 4)
            torch.testing.assert_close(fast(x, state), forward(x, other))
            torch.testing.assert_close(state, other)


@pytest.mark.parametrize("grad", [False, True])
def test_sizes_that_vary(grad):
    model = models.make(models.Slices(16))
    fast = compiled(model)
    with torch.set_grad_enabled(grad):
        for batch in (3, 5, 8, 17, 4, 31, 1, 2):
            x = torch.randn(batch, 80)
            torch.testing.assert_close(fast(x), model(x))
    plans = [len(ref().plans) for ref in dynamo._graphs if ref()]
    assert max(plans) <= 3  # the first size, all sizes, and what differs at size 2


def test_marked_dynamic():
    model = models.make(models.Slices(16))
    fast = compiled(model, fullgraph=True)
    with torch.no_grad():
        for batch in (7, 9, 33, 12):
            x = torch.randn(batch, 80)
            torch._dynamo.mark_dynamic(x, 0)
            torch.testing.assert_close(fast(x), model(x))
    assert last_report().plans == 2
    assert last_report().launches == 1


def test_sizes_as_values():
    def forward(x, k: int, scale: float):
        half = x.shape[0] // 2
        return x[:half] * x.shape[0] + torch.arange(x.shape[1]) * k, x.view(-1) / scale, half, k + 1

    fast = torch.compile(forward, backend="pfcn", dynamic=True)
    for args in [(4, 3, 0.5), (7, 5, 2.5), (10, 2, 0.1), (4, 3, 0.5), (5, 9, 0.5)]:
        x = torch.randn(args[0], 6)
        torch.testing.assert_close(fast(x, *args[1:]), forward(x, *args[1:]))


def test_shapes_that_depend_on_data():
    def forward(x):
        return x[x > 0] * 2, torch.nonzero(x).sum()

    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True), torch.no_grad():
        fast = torch.compile(forward, backend="pfcn", fullgraph=True)
        for n in (3, 5, 5):
            x = torch.randn(n, 4)
            torch.testing.assert_close(fast(x), forward(x))


def test_constants_in_the_graph():
    table = torch.randn(4)

    def forward(x):
        return x + torch.tensor([1.0, 2.0, 3.0, 4.0]) * table

    fast = torch.compile(forward, backend="pfcn")
    x = torch.randn(3, 4)
    torch.testing.assert_close(fast(x), forward(x))
    table.add_(1)
    torch.testing.assert_close(fast(x), forward(x))


def test_random_numbers_follow_the_seed():
    def forward(x):
        return x + torch.rand_like(x), torch.randn(3)

    fast = torch.compile(forward, backend="pfcn")
    x = torch.randn(3, 4)
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        got = fast(x)
        torch.manual_seed(seed)
        torch.testing.assert_close(got, forward(x))


def test_of_a_compiled_module():
    model = models.make(models.Slices(8))
    x = torch.randn(3, 40)
    fast = pfcn.compile(model, (x,))
    again = compiled(fast, fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(again(x), model(x))
        torch.testing.assert_close(fast(x), model(x))
    assert last_report().launches == 1
    again(x).sum().backward()
    assert model.models[0][0].weight.grad is not None


def test_reset():
    model = models.make(models.Slices(8))
    fast = compiled(model)
    x = torch.randn(3, 40)
    with torch.no_grad():
        fast(x)
        torch._dynamo.reset()
        dynamo._graphs.clear()
        torch.testing.assert_close(fast(x), model(x))
    assert last_report().launches == 1
    assert not last_report().copies


# --- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"mode": "max-autotune"}, "no mode 'max-autotune'"),
        ({"options": {"speed": 9}}, "no option 'speed', only strict, on_error"),
        ({"options": {"on_error": "ignore"}}, "on_error is"),
    ],
)
def test_bad_options(kwargs, message):
    with pytest.raises(Exception, match=message):
        torch.compile(lambda x: x + 1, backend="pfcn", **kwargs)(torch.ones(3))


def test_strict():
    fast = torch.compile(lambda x: x + 1, backend="pfcn", options={"strict": True})
    with pytest.raises(pfcn.FusionError):
        fast(torch.ones(3))


def test_disabled(monkeypatch):
    monkeypatch.setenv("PFCN_DISABLE", "1")
    model = models.make(models.Slices(4))
    x = torch.randn(3, 20)
    with torch.no_grad():
        torch.testing.assert_close(compiled(model)(x), model(x))
    assert dynamo.reports() == []
