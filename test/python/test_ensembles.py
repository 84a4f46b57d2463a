"""What owners of ensembles do: members of their own, more and fewer of them, stops and masks."""

import copy
import io

import pytest
import torch
from torch import nn

import pfcn

N = 18


def member(seed=None):
    if seed is not None:
        torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))


class Ensemble:
    def __init__(self, n=N):
        self.models = [member(seed) for seed in range(n)]
        self.plain = copy.deepcopy(self.models)
        torch.manual_seed(99)
        self.x, self.y = torch.randn(32, 6), torch.randn(32, 2)
        self.fast = pfcn.compile(self.models, (self.x,))

    def losses(self):
        """Of each member, by both ways, [n]."""
        ours = (torch.stack(list(self.fast(self.x))) - self.y).square().mean((1, 2))
        theirs = torch.stack([(m(self.x) - self.y).square().mean() for m in self.plain])
        return ours, theirs

    def assert_same(self, tolerance=1e-5):
        for ours, theirs in zip(self.models, self.plain, strict=True):
            for mine, yours in zip(ours.parameters(), theirs.parameters(), strict=True):
                torch.testing.assert_close(mine, yours, rtol=tolerance, atol=tolerance)


def test_losses_of_each_member():
    case = Ensemble()
    ours, theirs = case.losses()
    torch.testing.assert_close(ours, theirs)
    ours.sum().backward()
    theirs.sum().backward()
    for mine, yours in zip(case.fast.members, case.plain, strict=True):
        torch.testing.assert_close(mine[0].weight.grad, yours[0].weight.grad)


def test_bootstrap_masks():
    """Each member learns from samples of its own: a mask, [n, samples], weighs the losses."""
    case = Ensemble()
    masks = torch.randint(3, (N, 32, 1)).float()
    optimizer = pfcn.optim.Adam(case.fast, lr=0.01)
    theirs = [torch.optim.Adam(m.parameters(), lr=0.01) for m in case.plain]
    for _ in range(5):
        optimizer.zero_grad()
        results = torch.stack(list(case.fast(case.x)))
        (masks * (results - case.y).square()).mean((1, 2)).sum().backward()
        optimizer.step()
        for module, own, mask in zip(case.plain, theirs, masks, strict=True):
            own.zero_grad()
            (mask * (module(case.x) - case.y).square()).mean().backward()
            own.step()
    case.assert_same()


def test_bootstrapped_inputs():
    """The same by samples: every member has a batch of its own."""

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.members = nn.ModuleList(member(seed) for seed in range(N))

        def forward(self, x):  # [n, batch, 6]
            return torch.stack([m(part) for m, part in zip(self.members, x, strict=True)])

    torch.manual_seed(0)
    x, model = torch.randn(40, 6), Own()
    chosen = x[torch.randint(40, (N, 32))]
    plain, fast = copy.deepcopy(model), pfcn.compile(model, (chosen,))
    for module in (fast, plain):
        module(chosen).square().mean((1, 2)).sum().backward()
    for mine, yours in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, yours.grad)


def test_initialisation_of_each_member():
    case = Ensemble()
    for modules in (case.fast.members, case.plain):
        for seed, module in enumerate(modules):
            generator = torch.Generator().manual_seed(seed)
            nn.init.orthogonal_(module[0].weight, gain=1 + seed / N, generator=generator)
            nn.init.constant_(module[2].bias, seed)
    case.assert_same(0)
    torch.testing.assert_close(*case.losses())


def test_one_member_saved_and_loaded():
    case = Ensemble()
    one = case.fast.members[5]
    buffer, plain = io.BytesIO(), io.BytesIO()
    torch.save(one, buffer)
    torch.save(case.plain[5], plain)
    assert len(buffer.getvalue()) <= 1.02 * len(plain.getvalue())
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    assert type(loaded) is nn.Sequential
    torch.testing.assert_close(loaded(case.x), case.plain[5](case.x))
    other = member(1000)
    case.fast.members[7].load_state_dict(other.state_dict())
    case.plain[7].load_state_dict(other.state_dict())
    case.assert_same(0)
    torch.testing.assert_close(*case.losses())


def test_more_and_fewer_members():
    case = Ensemble()
    members = case.fast.members
    kept = members.copies([0, 3, 4, 17])
    fewer = pfcn.compile(kept)
    torch.testing.assert_close(list(fewer(case.x)), [case.plain[i](case.x) for i in (0, 3, 4, 17)])
    more = pfcn.compile([*members.copies(range(N)), member(500), member(501)])
    expected = [*(m(case.x) for m in case.plain), member(500)(case.x), member(501)(case.x)]
    torch.testing.assert_close(list(more(case.x)), expected)
    assert more.report.groups[0].instances == N + 2
    with torch.no_grad():  # copies are others' from here on
        for parameter in kept[0].parameters():
            parameter.zero_()
    case.assert_same(0)


class Grown(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.members = nn.ModuleList(member(seed) for seed in range(n))

    def forward(self, x):
        return torch.stack([m(x) for m in self.members])


def test_members_added_and_dropped_in_place():
    """The list of the model itself changes, and the next call sees it."""
    model, x = Grown(8), torch.randn(4, 6)
    fast = pfcn.compile(model, (x,))
    for change in (
        lambda: model.members.append(member(100)),
        lambda: model.members.__delitem__(2),
        lambda: model.members.insert(0, member(101)),
        lambda: model.members.__setitem__(3, member(102)),
    ):
        change()
        with torch.no_grad():
            for _ in range(2):
                torch.testing.assert_close(fast(x), model(x))
        plain = copy.deepcopy(model)
        for module in (fast, plain):
            module.zero_grad()
            module(x).square().mean().backward()
        for mine, yours in zip(model.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, yours.grad)
        assert len(fast.members) == len(model.members)


def test_members_change_under_an_optimizer():
    """Stacked, a model that changed says so; stacking anew goes on with what is there."""
    model, x = Grown(8), torch.randn(4, 6)
    fast = pfcn.compile(model, (x,))
    optimizer = pfcn.optim.SGD(fast, lr=0.1)
    fast(x).square().mean().backward()
    optimizer.step()
    model.members.append(member(100))
    with pytest.raises(pfcn.Error, match="train stacked"):
        fast(x).square().mean().backward()
    again = pfcn.compile(model, (x,))
    optimizer, plain = pfcn.optim.SGD(again, lr=0.1), copy.deepcopy(model)
    other = torch.optim.SGD(plain.parameters(), lr=0.1)
    for module, one in ((again, optimizer), (plain, other)):
        one.zero_grad()
        module(x).square().mean().backward()
        one.step()
    for mine, yours in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, yours)


def test_early_stopping_in_training():
    """Each member keeps its best weights, and ends with them."""
    case = Ensemble()
    members = case.fast.members
    optimizer = pfcn.optim.SGD(case.fast, lr=torch.logspace(-2, 1, N))
    best = torch.full((N,), float("inf"))
    for _ in range(20):
        optimizer.zero_grad()
        losses, _ = case.losses()
        members.keep(losses.detach() < best)
        best = torch.minimum(best, losses.detach().nan_to_num(float("inf")))
        losses.sum().backward()
        optimizer.step()
    members.restore()
    with torch.no_grad():
        torch.testing.assert_close(case.losses()[0], best)


def test_stopped_members_stand_still():
    """A learning rate of zero stops a member; the others go on."""
    case = Ensemble()
    rates = torch.full((N,), 0.1)
    optimizer = pfcn.optim.SGD(case.fast, lr=rates)
    theirs = [torch.optim.SGD(m.parameters(), lr=0.1) for m in case.plain]
    for step in range(4):
        if step == 2:
            rates[5] = 0
        ours, plain = case.losses()
        for losses, one in ((ours, [optimizer]), (plain, theirs)):
            for each in one:
                each.zero_grad()
            losses.sum().backward()
        optimizer.step()
        for i, each in enumerate(theirs):
            if step < 2 or i != 5:
                each.step()
    case.assert_same()
