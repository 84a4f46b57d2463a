"""Forwards that write buffers: what they hold afterwards is what eager leaves there."""

import copy

import pytest
import torch
from torch import nn

import pfcn


def check(model, *calls, groups=None):
    """Results and buffers of the compiled model after each call, against a copy in eager."""
    reference = copy.deepcopy(model)
    fast = pfcn.compile(model)
    with torch.no_grad():
        for x in calls:
            given = x.clone()
            torch.testing.assert_close(fast(x), reference(given))
            torch.testing.assert_close(x, given)
            torch.testing.assert_close(model.state_dict(), reference.state_dict())
    if groups is not None:
        assert fast.report.eager == "" and len(fast.report.groups) == groups
    return fast


class Bank(nn.Module):
    def __init__(self, make, n=6):
        super().__init__()
        self.models = nn.ModuleList(make() for _ in range(n))

    def forward(self, x):
        return torch.stack([model(x) for model in self.models])


def inputs(*shape, count=3):
    return [torch.randn(*shape) * 2 + 1 for _ in range(count)]


@pytest.mark.parametrize("width", [1, 15, 16, 17])
def test_batch_norm_in_training(width):
    bank = Bank(lambda: nn.Sequential(nn.Linear(5, width), nn.BatchNorm1d(width), nn.ReLU()))
    check(bank, *inputs(9, 5), groups=2)  # the counters of batches are the other


def test_the_steps_do_not_grow_with_the_instances():
    fast = [check(Bank(lambda: nn.BatchNorm2d(3), n), *inputs(2, 3, 4, 5)) for n in (4, 9)]
    assert fast[0].report.groups
    assert len(fast[0].report.steps) == len(fast[1].report.steps)


def test_autograd_follows():
    bank = Bank(lambda: nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU()))
    reference = copy.deepcopy(bank)
    fast = pfcn.compile(bank)
    for x in inputs(9, 5):
        results = []
        for model in (fast, reference):
            model.zero_grad()
            given = x.clone().requires_grad_()
            y = model(given)
            y.square().mean().backward()
            results.append([y, given.grad, *(p.grad for p in model.parameters())])
        torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(bank.state_dict(), reference.state_dict())
    assert fast.report.eager == ""


@pytest.mark.parametrize("options", [{"momentum": 0.3}, {"affine": False}, {"eps": 1e-2}])
def test_options_of_batch_norm(options):
    check(nn.BatchNorm1d(4, **options), *inputs(6, 4))


def test_a_cumulative_average_reads_its_counter_and_stays_in_eager():
    fast = check(nn.BatchNorm1d(4, momentum=None), *inputs(6, 4))
    assert fast.report.eager


def test_batches_of_several_sizes():
    bank = Bank(lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)))
    check(bank, *(torch.randn(batch, 5) for batch in (4, 9, 16, 4, 2, 33)))


@pytest.mark.parametrize("calls", [[(0, 4, 3)], [(9, 4, 3), (0, 4, 3), (5, 4, 3)]])
def test_nothing_in_the_batch(calls):
    """Batch norm leaves its statistics alone; the mean of nothing would be an error."""
    bank = Bank(lambda: nn.BatchNorm1d(4))
    check(bank, *(torch.randn(*shape) for shape in calls))


def test_training_and_evaluation_in_turns():
    bank = Bank(lambda: nn.BatchNorm1d(4))
    reference = copy.deepcopy(bank)
    fast = pfcn.compile(bank)
    with torch.no_grad():
        for x in inputs(6, 4, count=6):
            for model in (fast, reference):
                model.train(not model.training)
            torch.testing.assert_close(fast(x), reference(x))
            torch.testing.assert_close(bank.state_dict(), reference.state_dict())


def test_instance_norm_with_running_statistics():
    bank = Bank(lambda: nn.InstanceNorm1d(3, track_running_stats=True, affine=True))
    check(bank, *inputs(2, 3, 7))


class Counter(nn.Module):
    """Writes a buffer part by part, reads it in between, and writes it again."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(2, 3))
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x):
        self.calls += 1
        self.seen[0] += x.sum(0)
        self.seen[1].copy_(self.seen[0] * 2)
        y = x * self.seen.sum() + self.calls
        self.seen.mul_(0.5)
        return y


def test_writes_through_views_and_reads_between_them():
    check(Counter(), *inputs(4, 3))
    check(Bank(Counter), *inputs(4, 3))


def test_parameters_are_written_too():
    class Decay(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 2)

        def forward(self, x):
            self.linear.weight.mul_(0.9)
            return self.linear(x)

    check(Decay(), *inputs(4, 3))


def test_recording_leaves_buffers_as_they_were():
    model = Counter()
    before = copy.deepcopy(model.state_dict())
    pfcn.compile(model, (torch.randn(4, 3),))
    torch.testing.assert_close(model.state_dict(), before)


def test_frozen_weights_are_not_written():
    model = nn.BatchNorm1d(3)
    reference = copy.deepcopy(model)
    fast = pfcn.compile(model, freeze=True)
    with torch.no_grad():
        for x in inputs(5, 3):
            torch.testing.assert_close(fast(x), reference(x))
    torch.testing.assert_close(model.state_dict(), reference.state_dict())
    assert "frozen" in fast.report.eager


def test_what_shares_memory_stays_in_eager():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            whole = torch.zeros(4)
            self.register_buffer("whole", whole)
            self.register_buffer("part", whole[:2])

        def forward(self, x):
            self.part += 1
            return x + self.whole

    model = Shared()
    fast = pfcn.compile(model)
    reference = Shared()
    with torch.no_grad():
        for x in inputs(3, 4):
            torch.testing.assert_close(fast(x), reference(x))
    assert fast.report.eager

    class Returned(Counter):
        def forward(self, x):
            super().forward(x)
            return self.seen[0]

    fast = check(Returned(), *inputs(4, 3))
    assert fast.report.eager


def test_inputs_that_are_written_stay_in_eager():
    class Writes(nn.Module):
        def forward(self, x):
            return x.add_(1) * 2

    model, x, y = Writes(), torch.zeros(3), torch.zeros(3)
    fast = pfcn.compile(model)
    with torch.no_grad():
        assert torch.equal(fast(x), model(y)) and torch.equal(x, y)
    assert fast.report.eager


def test_a_backward_after_the_next_forward():
    """What the backward reads is what its own forward read, whatever has been written since."""

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(4)
            self.register_buffer("scale", torch.ones(4))

        def forward(self, x):
            y = self.norm(x).sin() * self.scale
            self.scale += 1
            return y

    bank = Bank(Scaled)
    reference = copy.deepcopy(bank)
    fast = pfcn.compile(bank)
    xs = inputs(6, 4, count=2)
    first = [fast(x) for x in xs]
    # Eager refuses to differentiate what was written over, so its forward is written out here.
    for x, y in zip(xs, first, strict=True):
        wanted = []
        for part in reference.models:
            wanted.append(part.norm(x).sin() * part.scale.clone())
            part.scale += 1
        wanted = torch.stack(wanted)
        torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-5)
        y.square().mean().backward()
        wanted.square().mean().backward()
    ours, theirs = ([p.grad for p in model.parameters()] for model in (bank, reference))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert fast.report.eager == ""
