"""A network that the loss does not depend on has no gradient.

An optimizer would decay and move what has one of zeros.
"""

import copy

import pytest
import torch
from torch import nn

import pfcn

N = 9


def make_net(norm: bool = False) -> nn.Module:
    inner = [nn.BatchNorm1d(5)] if norm else []
    return nn.Sequential(nn.Linear(6, 5), *inner, nn.Tanh(), nn.Linear(5, 2))


class Results(nn.Module):
    """One result per network, as a list, a dict or rows of one tensor."""

    def __init__(self, kind="list", norm=False):
        super().__init__()
        self.nets = nn.ModuleList(make_net(norm) for _ in range(N))
        self.kind = kind

    def forward(self, x):
        results = [net(x) for net in self.nets]
        if self.kind == "dict":
            return {f"net_{i}": result for i, result in enumerate(results)}
        return results if self.kind == "list" else torch.stack(results)


class OwnInputs(Results):
    def forward(self, xs):
        return [net(x) for net, x in zip(self.nets, xs, strict=True)]


class Chain(Results):
    """The second networks read the results of some of the first, which the caller sees or not."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen
        self.seconds = nn.ModuleList(nn.Sequential(nn.Linear(2, 4), nn.ReLU()) for _ in range(4))

    def forward(self, x):
        firsts = super().forward(x)
        total = torch.linalg.matrix_exp(torch.zeros(2, 2, dtype=x.dtype))
        seconds = [
            net(y @ total)
            for net, y in zip(self.seconds, (firsts[i] for i in (7, 2, 5, 0)), strict=True)
        ]
        return seconds + (firsts if self.seen else [])


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.bodies = nn.ModuleList(nn.Linear(6, 5) for _ in range(N))
        self.heads = nn.ModuleList(nn.Linear(5, 2) for _ in range(N))

    def forward(self, x):
        hidden = [torch.tanh(body(x)) for body in self.bodies]
        return [*hidden, *(head(h) for head, h in zip(self.heads, hidden, strict=True))]


class StatisticsOnly(nn.Module):
    """The last network only updates its batch norm."""

    def __init__(self):
        super().__init__()
        self.nets = nn.ModuleList(make_net(norm=True) for _ in range(N))

    def forward(self, x):
        results = [net(x) for net in self.nets]
        return torch.cat(results[:-1], 1)


def assert_same(model, inputs, loss_of, steps=2):
    """Gradients, and whether there are any, over steps of an optimizer that decays."""
    plain = copy.deepcopy(model)
    fast = pfcn.compile(model)
    optimizers = [
        torch.optim.SGD(m.parameters(), 0.1, momentum=0.9, weight_decay=0.1) for m in (fast, plain)
    ]
    none = 0
    for _ in range(steps):
        for call, optimizer in zip((fast, plain), optimizers, strict=True):
            optimizer.zero_grad()
            loss_of(call(*inputs)).backward()
        for (name, ours), theirs in zip(
            model.named_parameters(), plain.named_parameters(), strict=True
        ):
            assert (ours.grad is None) == (theirs[1].grad is None), name
            if ours.grad is not None:
                torch.testing.assert_close(ours.grad, theirs[1].grad)
            none += ours.grad is None
        for optimizer in optimizers:
            optimizer.step()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
    assert none > 0
    return fast


CHOICES = {
    "first": lambda r: r[0].sin().sum(),
    "some": lambda r: (r[1] * r[4]).sum() + r[7].square().sum(),
    "twice": lambda r: (r[3] * r[3].sin()).sum(),
    "last": lambda r: r[N - 1].cos().sum(),
}


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("batch", [1, 15])
def test_list(choice, batch):
    fast = assert_same(Results(), [torch.randn(batch, 6)], CHOICES[choice])
    assert len(fast.report.groups) == 1


def test_dict_and_batch_norm():
    assert_same(
        Results("dict", norm=True).train(), [torch.randn(8, 6)], lambda r: r["net_2"].sin().sum()
    )


def test_rows_of_a_stack_have_zeros():
    """As in eager, where the stack is one tensor."""
    model = Results("stack")
    pfcn.compile(model)(torch.randn(3, 6))[0].sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_own_inputs():
    xs = [torch.randn(4, 6, requires_grad=True) for _ in range(N)]
    assert_same(OwnInputs(), [xs], CHOICES["some"])
    assert [i for i, x in enumerate(xs) if x.grad is not None] == [1, 4, 7]


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("used", [(0,), (1, 2), (3,), (0, 1, 2, 3)])
def test_chain(seen, used):
    assert_same(Chain(seen), [torch.randn(4, 6)], lambda r: sum(r[i].square().sum() for i in used))


def test_a_result_that_networks_read_too():
    """Its hook sees what comes from outside, as with torch.compile; parameters get all."""
    model, x = Chain(seen=True), torch.randn(4, 6)
    plain = copy.deepcopy(model)
    for call in (pfcn.compile(model), plain):
        results = call(x)
        middle = results[4 + 7]
        middle.retain_grad()
        (results[0].square().sum() + middle.sin().sum()).backward()
        if call is not plain:
            torch.testing.assert_close(middle.grad, middle.cos())
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None)
        if ours.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("used", [slice(0, N), slice(N, 2 * N), slice(N + 3, N + 4), slice(3, 5)])
def test_two_heads(used):
    def loss_of(results):
        return sum(r.square().sum() for r in results[used])

    if used == slice(N, 2 * N):
        model = TwoHeads()
        fast = pfcn.compile(model)
        loss_of(fast(torch.randn(4, 6))).backward()
        assert all(p.grad is not None for p in model.parameters())
    else:
        assert_same(TwoHeads(), [torch.randn(4, 6)], loss_of)


def test_statistics_only():
    model = StatisticsOnly()
    fast = assert_same(model, [torch.randn(8, 6)], lambda r: r.square().sum())
    assert fast.report.groups
    assert model.nets[-1][1].num_batches_tracked == 2


def test_backward_again_and_of_a_part():
    """What one backward knows of the networks is not what the next one does."""
    model = Results()
    plain = copy.deepcopy(model)
    x = torch.randn(4, 6)
    for call, own in ((pfcn.compile(model), model), (plain, plain)):
        results = call(x)
        own.nets[3][0].weight.register_hook(lambda g: None)
        torch.autograd.grad(results[3].sum(), own.nets[3][0].weight, retain_graph=True)
        results[5].sum().backward(retain_graph=True)
        results[2].sum().backward()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None)
        if ours.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad)


def test_second_derivatives():
    model = Results()
    plain = copy.deepcopy(model)
    x = torch.randn(4, 6, requires_grad=True)
    for call in (pfcn.compile(model), plain):
        (slope,) = torch.autograd.grad(call(x)[2].sin().sum(), x, create_graph=True)
        slope.square().sum().backward()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        zeros = torch.zeros_like(ours)
        torch.testing.assert_close(*(zeros if p.grad is None else p.grad for p in (ours, theirs)))


def test_results_are_not_one_tensor():
    """One result edited in place changes no other, nor their gradients."""
    model = Results()
    plain = copy.deepcopy(model)
    x = torch.randn(4, 6)
    for call in (pfcn.compile(model), plain):
        results = call(x)
        results[0].add_(1)
        results[1].mul_(results[0])
        sum(r.square().sum() for r in results[:3]).backward()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None)
        if ours.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad)
