"""An index out of bounds raises what eager raises, in groups too, and reads no other's memory."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pfcn

N, B, CLASSES = 8, 5, 4


class Codes(nn.Module):
    """[B] → [B, 2]"""

    def __init__(self, classes=CLASSES):
        super().__init__()
        self.classes, self.head = classes, nn.Linear(classes, 2)

    def forward(self, c):
        return self.head(F.one_hot(c, self.classes).float())


class ComputedCodes(Codes):
    def forward(self, c):
        return super().forward((c.float() * 2 - c).long())


class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(CLASSES, 3), nn.Linear(3, 2)

    def forward(self, c):
        return self.head(self.table(c))


class Loss(nn.Module):
    """[B] → [1], with a class that is ignored."""

    def __init__(self, loss=F.cross_entropy, **options):
        super().__init__()
        self.loss, self.options = loss, options
        self.logits = nn.Parameter(torch.randn(B, CLASSES))

    def forward(self, c):
        return self.loss(self.logits.log_softmax(-1), c, **self.options).reshape(-1)


class Bank(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.nets = nn.ModuleList(make() for _ in range(N))

    def forward(self, c):
        return torch.cat([net(c[:, i]) for i, net in enumerate(self.nets)], -1)


BANKS = {
    "one_hot": Codes,
    "one_hot_of_computed": ComputedCodes,
    "embedding": Table,
    "cross_entropy": Loss,
    "cross_entropy_ignoring": lambda: Loss(ignore_index=CLASSES + 3),
    "cross_entropy_each": lambda: Loss(reduction="none", label_smoothing=0.1),
    "nll_loss": lambda: Loss(F.nll_loss, ignore_index=-1),
    "nll_loss_weighted": lambda: Loss(nn.NLLLoss(weight=torch.rand(CLASSES))),
}


def outcome(call):
    """The result, or the type and text of what was raised."""
    try:
        return call()
    except Exception as error:
        return type(error), str(error)


def compare(model, fast, indices):
    expected, actual = outcome(lambda: model(indices)), outcome(lambda: fast(indices))
    if isinstance(expected, tuple):
        assert actual == expected
    else:
        torch.testing.assert_close(actual, expected)
    return isinstance(expected, tuple)


@pytest.mark.parametrize("follows", [False, True], ids=["no_grad", "grad"])
@pytest.mark.parametrize("freeze", [False, True], ids=["live", "frozen"])
@pytest.mark.parametrize("name", BANKS)
def test_out_of_bounds_raises_as_eager_does(name, freeze, follows):
    torch.manual_seed(0)
    model, good = Bank(BANKS[name]), torch.randint(CLASSES - 1, (B, N))
    fast = pfcn.compile(model, (good,), freeze=freeze)
    assert [group.instances for group in fast.report.groups] == [N]
    raised = 0
    with torch.set_grad_enabled(follows):
        for index in (CLASSES - 1, CLASSES, CLASSES + 3, -1, -CLASSES - 1, -100, 2**62):
            indices = good.clone()
            indices[2, 3] = index  # not the last instance's: it must not read its neighbour's
            raised += compare(model, fast, indices)
        compare(model, fast, good)  # and goes on
    assert raised >= 3


def test_codes_of_several_lengths_have_bounds_of_their_own():
    lengths = iter(range(2, 2 + N))
    torch.manual_seed(0)
    model = Bank(lambda: Codes(next(lengths))).requires_grad_(False)
    good = torch.zeros(B, N, dtype=torch.long)
    fast = pfcn.compile(model, (good,))
    assert len(fast.report.groups) == 1
    for instance in range(N):
        indices = good.clone()
        indices[1, instance] = instance + 1
        assert not compare(model, fast, indices)
        indices[1, instance] = instance + 2
        assert compare(model, fast, indices)


def test_places_of_a_maximum_are_not_looked_at():
    class Hard(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Linear(1, CLASSES)

        def forward(self, x):
            return F.one_hot(self.gate(x[:, None]).argmax(-1), CLASSES).float().sum(0)

    torch.manual_seed(0)
    model, x = Bank(Hard), torch.randn(B, N)
    fast = pfcn.compile(model, (x,))
    with torch.no_grad():
        torch.testing.assert_close(fast(x), model(x))
    assert "check_index" not in str(fast.report.to_dict())
