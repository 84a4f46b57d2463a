"""What autograd allows around a compiled model, and what it forbids."""

import copy

import models
import pytest
import torch
from test_training import assert_trains, gradients, loss_of
from torch import nn

import pfcn


class Pair:
    """A model twice: compiled, and in eager."""

    def __init__(self, model=None, *inputs, seed=0):
        torch.manual_seed(seed)
        self.plain = models.Slices(20) if model is None else model
        self.model = copy.deepcopy(self.plain)
        self.fast = pfcn.compile(self.model)
        self.inputs = inputs or (torch.randn(3, 100),)

    def losses(self):
        return [loss_of(model(*self.inputs)) for model in (self.fast, self.plain)]

    def assert_same_gradients(self):
        for (name, ours), theirs in zip(
            self.model.named_parameters(), self.plain.parameters(), strict=True
        ):
            torch.testing.assert_close(ours.grad, theirs.grad, msg=lambda m, n=name: f"{n}: {m}")


def test_accumulation_and_retained_graph():
    pair = Pair()
    for loss in pair.losses():
        loss.backward(retain_graph=True)
        loss.backward()
    for loss in pair.losses():
        loss.backward()
    pair.assert_same_gradients()
    loss, _ = pair.losses()
    loss.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


def test_gradients_are_not_overwritten():
    pair = Pair()
    pair.losses()[0].backward()
    parameters = list(pair.model.parameters())
    kept = [p.grad for p in parameters]
    values = [g.clone() for g in kept]
    for p in parameters:
        p.grad = None
    (3 * pair.losses()[0]).backward()
    for old, value, p in zip(kept, values, parameters, strict=True):
        torch.testing.assert_close(old, value, rtol=0, atol=0)
        torch.testing.assert_close(p.grad, 3 * value)


def test_two_graphs_alive():
    pair = Pair()
    first, second = pair.losses(), pair.losses()
    for loss in (*second, *first):
        loss.backward()
    pair.assert_same_gradients()


def test_weight_edited_in_between():
    pair = Pair()
    loss, _ = pair.losses()
    with torch.no_grad():
        pair.model.models[7][0].weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    loss, _ = pair.losses()
    with torch.no_grad():
        pair.model.models[7][2].bias.mul_(2)  # which no gradient depends on
    loss.backward()


def test_input_edited_in_between():
    pair = Pair()
    x = pair.inputs[0].clone()
    loss = loss_of(pair.fast(x))
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_partly_frozen():
    pair = Pair()
    for model in (pair.model, pair.plain):
        for i in (0, 7, 19):
            model.models[i].requires_grad_(False)
        for member in model.models:
            member[2].bias.requires_grad_(False)
    for loss in pair.losses():
        loss.backward()
    pair.assert_same_gradients()
    assert pair.model.models[7][0].weight.grad is None
    assert pair.model.models[8][2].bias.grad is None
    pair.model.requires_grad_(True)
    pair.plain.requires_grad_(True)
    for loss in pair.losses():
        loss.backward()
    pair.assert_same_gradients()


def test_only_inputs():
    pair = Pair()
    pair.model.requires_grad_(False)
    x = pair.inputs[0].clone().requires_grad_()
    (ours,) = torch.autograd.grad(loss_of(pair.fast(x)), x)
    (theirs,) = torch.autograd.grad(loss_of(pair.plain(x)), x)
    torch.testing.assert_close(ours, theirs)
    assert not pair.fast(x.detach()).requires_grad


def test_one_parameter_by_autograd_grad():
    pair = Pair()
    (loss, expected) = pair.losses()
    (ours,) = torch.autograd.grad(loss, pair.model.models[3][0].weight)
    (theirs,) = torch.autograd.grad(expected, pair.plain.models[3][0].weight)
    torch.testing.assert_close(ours, theirs)


def test_hooks_of_parameters():
    pair, seen = Pair(), []
    pair.model.models[3][0].weight.register_hook(lambda g: seen.append(g) or 2 * g)
    for loss in pair.losses():
        loss.backward()
    ours, theirs = (m.models[3][0].weight.grad for m in (pair.model, pair.plain))
    torch.testing.assert_close(ours, 2 * theirs)
    assert len(seen) == 1


def test_second_derivatives():
    pair = Pair()
    results = []
    for model in (pair.fast, pair.plain):
        x = pair.inputs[0].clone().requires_grad_()
        (slope,) = torch.autograd.grad(loss_of(model(x)), x, create_graph=True)
        slope.square().sum().backward()
        results.append(x.grad)
    torch.testing.assert_close(*results)
    pair.model.models[0][2].bias.grad = pair.plain.models[0][2].bias.grad = None
    for ours, theirs in zip(pair.model.parameters(), pair.plain.parameters(), strict=True):
        if theirs.grad is not None:
            zeros = torch.zeros_like(theirs)
            torch.testing.assert_close(zeros if ours.grad is None else ours.grad, theirs.grad)
    assert pair.fast.report.tracked_calls == 0


class Several(nn.Module):
    """Two results of each network, of which the caller may use one."""

    def __init__(self, n=17):
        super().__init__()
        self.bodies = nn.ModuleList(nn.Linear(6, 5) for _ in range(n))
        self.heads = nn.ModuleList(nn.Linear(5, 2) for _ in range(n))

    def forward(self, x):
        hidden = [torch.tanh(body(x)) for body in self.bodies]
        heads = [head(h) for head, h in zip(self.heads, hidden, strict=True)]
        return torch.stack(hidden), torch.stack(heads)


@pytest.mark.parametrize("used", [(0,), (1,), (0, 1)])
def test_several_results(used):
    pair = Pair(Several(), torch.randn(4, 6, requires_grad=True))
    for model in (pair.fast, pair.plain):
        results = model(*pair.inputs)
        loss_of([results[i] for i in used]).backward()
    for ours, theirs in zip(pair.model.parameters(), pair.plain.parameters(), strict=True):
        zeros = torch.zeros_like(ours)
        torch.testing.assert_close(*(zeros if p.grad is None else p.grad for p in (ours, theirs)))


class Tied(nn.Module):
    """All networks have one first layer."""

    def __init__(self, n=17):
        super().__init__()
        self.first = nn.Linear(5, 4)
        self.rest = nn.ModuleList(nn.Linear(4, 3) for _ in range(n))

    def forward(self, x):
        parts = x.chunk(len(self.rest), 1)
        return torch.cat([r(torch.relu(self.first(p))) for r, p in zip(self.rest, parts)], 1)


class Detached(models.Slices):
    """A target network under no_grad, and a straight-through estimator."""

    def forward(self, x):
        parts = x.chunk(len(self.models), 1)
        with torch.no_grad():
            targets = [m(p) for m, p in zip(self.models, parts)]
        outputs = [m(p) for m, p in zip(self.models, parts)]
        rounded = [y + (y.round() - y).detach() for y in outputs]
        return torch.cat([r * t for r, t in zip(rounded, targets)], 1)


class Overlapping(models.Slices):
    """Each network reads a window that overlaps its neighbour's; some elements no one reads."""

    def forward(self, x):
        return torch.cat(
            [m(x[:, 2 * i : 2 * i + self.width]) for i, m in enumerate(self.models)], 1
        )


class Chosen(models.Slices):
    """Each network reads columns of its own choice, and the results lie in another order."""

    def forward(self, x):
        starts = [(7 * i) % (len(self.models)) * self.width for i in range(len(self.models))]
        parts = [m(x[:, s : s + self.width]) for m, s in zip(self.models, starts)]
        return torch.cat(parts[::-1], 1)


class Between(nn.Module):
    """Operators that the dialect lacks stand before, between and behind the groups."""

    def __init__(self, n=17):
        super().__init__()
        self.first = nn.ModuleList(nn.Linear(5, 4) for _ in range(n))
        self.second = nn.ModuleList(nn.Linear(4 * n, 2) for _ in range(n))

    def forward(self, x):
        x = torch.cumsum(x, 1)
        hidden = torch.cat([f(p) for f, p in zip(self.first, x.chunk(len(self.first), 1))], 1)
        hidden = torch.sort(hidden, dim=1).values
        return torch.logcumsumexp(torch.cat([s(hidden) for s in self.second], 1), 1)


class Foreign(models.Slices):
    """An operator that the dialect lacks, inside of each network."""

    def forward(self, x):
        parts = x.chunk(len(self.models), 1)
        hidden = [torch.cumsum(torch.tanh(m[0](p)), 1) for m, p in zip(self.models, parts)]
        return torch.cat([m[2](h) for m, h in zip(self.models, hidden)], 1)


MODELS = {
    "Tied": Tied,
    "Between": Between,
    **{m.__name__: lambda m=m: m(17) for m in (Foreign, Detached, Overlapping, Chosen)},
    **{
        m.__name__: lambda m=m: m(17)
        for m in (models.Shared, models.Summed, models.Columns, models.OneByOne, models.TwoClasses)
    },
}


@pytest.mark.parametrize("wants_input", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_models(name, wants_input):
    torch.manual_seed(0)
    model = MODELS[name]()
    width = 5 if isinstance(model, (models.Shared, models.Summed)) else 85
    width = 17 * 6 if isinstance(model, models.TwoClasses) else width
    fast = assert_trains(model, torch.randn(3, width, requires_grad=wants_input))
    assert fast.report.groups


@pytest.mark.parametrize("batch", [1, 16, 65, 200])
def test_batches_of_one_plan(batch):
    """Two batch sizes make a plan for all; sums over a batch of any size are in the kernel."""
    pair = Pair()
    for size in (7, 9, batch):
        x = torch.randn(size, 100, requires_grad=True)
        torch.testing.assert_close(
            gradients(pair.fast, [x]), gradients(pair.plain, [x]), rtol=1e-4, atol=1e-5
        )
    assert pair.fast.report.plans <= 3


def test_inputs_of_any_layout():
    pair = Pair()
    wide = torch.randn(100, 6)
    for x in (
        wide.t(),
        wide.t()[::2],
        torch.randn(3, 200)[:, ::2],
        torch.randn(1, 100).expand(4, 100),
    ):
        x.requires_grad_() if x.is_leaf else None
        torch.testing.assert_close(gradients(pair.fast, [x]), gradients(pair.plain, [x]))


def test_no_gradient_is_no_graph():
    pair = Pair()
    with torch.no_grad():
        assert not pair.fast(*pair.inputs).requires_grad
    with torch.inference_mode():
        assert not pair.fast(*pair.inputs).requires_grad
    assert pair.fast(*pair.inputs).requires_grad
    pair.fast.freeze = None


def test_what_eager_has_to_do_says_so():
    torch.manual_seed(0)
    model = models.Slices(20)
    frozen = pfcn.compile(model, freeze=True)
    loss_of(frozen(torch.randn(3, 100))).backward()
    assert frozen.report.tracked_calls == 1
    assert model.models[0][0].weight.grad is not None
