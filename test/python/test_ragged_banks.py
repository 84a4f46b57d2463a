"""Banks whose instances differ in the width of their input (rules P1 to P4 of the rationale)."""

import pytest
import torch
from torch import nn

import pfcn

WIDTHS = [3, 7, 12, 5, 1, 9, 4, 30, 2, 11, 6, 17]


class Net(nn.Module):
    def __init__(self, width, hidden=16):
        super().__init__()
        self.a, self.b = nn.Linear(width, hidden), nn.Linear(hidden, 1)

    def forward(self, x):
        return self.b(torch.relu(self.a(x)))


class Bank(nn.Module):
    """x: [..., sum of widths] → [..., networks]."""

    def __init__(self, widths, make=Net):
        super().__init__()
        self.widths = list(widths)
        self.nets = nn.ModuleList(make(width) for width in widths)

    def forward(self, x):
        return torch.cat([f(p) for f, p in zip(self.nets, x.split(self.widths, -1))], dim=-1)


class Plain(nn.Module):
    """The weight is [width, outputs], and multiplied from the right."""

    def __init__(self, width, with_bias=False):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, 8))
        self.bias = nn.Parameter(torch.randn(8)) if with_bias else None

    def forward(self, x):
        y = x @ self.weight if self.bias is None else torch.addmm(self.bias, x, self.weight)
        return torch.tanh(y).sum(-1, keepdim=True)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def check(model, *shape, dtype=torch.float32, **options):
    """The compiled model, which agrees with eager on an input of this shape."""
    model = model.to(dtype).eval()
    fast = pfcn.compile(model, **options)
    with torch.no_grad():
        for _ in range(2):
            x = torch.randn(*shape, dtype=dtype)
            torch.testing.assert_close(fast(x), model(x))
    return fast


def is_one_padded_group(fast, instances=12):
    groups = fast.report.groups
    return [g.instances for g in groups] == [instances] and "padded with zeros" in groups[0].padding


@pytest.mark.parametrize("batch", [1, 5, 64])
@pytest.mark.parametrize("freeze", [False, True])
def test_twelve_widths_are_one_group(batch, freeze):
    fast = check(Bank(WIDTHS), batch, sum(WIDTHS), freeze=freeze)
    assert is_one_padded_group(fast)
    assert fast.report.launches == 1
    # 12 networks, padded to 30 terms: zeros in weights [16, ·] and in inputs [batch, ·].
    zeros = 30 * 12 - sum(WIDTHS)
    assert f"{zeros * 16 * 4} bytes of zeros in weights" in fast.report.groups[0].padding
    assert f"{zeros * batch * 4} in inputs" in fast.report.groups[0].padding
    assert fast.report.groups[0].padding in str(fast.report)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_types(dtype):
    assert is_one_padded_group(check(Bank(WIDTHS), 5, sum(WIDTHS), dtype=dtype))


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4)])
def test_more_dimensions(shape):
    assert is_one_padded_group(check(Bank(WIDTHS), *shape, sum(WIDTHS)))


def test_a_sum_over_networks():
    class Sum(Bank):
        def forward(self, x):
            return sum(net(part) for net, part in zip(self.nets, x.split(self.widths, -1)))

    assert is_one_padded_group(check(Sum(WIDTHS), 5, sum(WIDTHS)))


@pytest.mark.parametrize("with_bias", [False, True])
def test_weights_that_multiply_from_the_right(with_bias):
    model = Bank(WIDTHS, lambda width: Plain(width, with_bias))
    assert is_one_padded_group(check(model, 5, sum(WIDTHS)))


def test_open_batch_and_strided_inputs():
    model = Bank(WIDTHS).eval()
    fast = pfcn.compile(model)
    wide = torch.randn(64, 2 * sum(WIDTHS))
    inputs = [torch.randn(batch, sum(WIDTHS)) for batch in (1, 2, 33, 70)]
    inputs += [wide[:, ::2], wide[:, : sum(WIDTHS)], torch.randn(sum(WIDTHS), 9).t()]
    with torch.no_grad():
        for x in inputs:
            torch.testing.assert_close(fast(x), model(x))


class Lists(Bank):
    def forward(self, parts):
        return torch.cat([net(part) for net, part in zip(self.nets, parts)], dim=-1)


def test_a_tensor_for_each_network():
    model = Lists(WIDTHS).eval()
    fast = pfcn.compile(model)
    parts = [torch.randn(5, width) for width in WIDTHS]
    with torch.no_grad():
        torch.testing.assert_close(fast(parts), model(parts))


class OneHot(Bank):
    def forward(self, x):
        codes = [nn.functional.one_hot(x[:, i], w).float() for i, w in enumerate(self.widths)]
        return torch.cat([net(code) for net, code in zip(self.nets, codes)], dim=-1)


def test_one_hot_codes_of_several_lengths():
    model = OneHot(WIDTHS).eval()
    fast = pfcn.compile(model)
    with torch.no_grad():
        for batch in (5, 64, 1):
            x = torch.stack([torch.randint(width, (batch,)) for width in WIDTHS], dim=1)
            torch.testing.assert_close(fast(x), model(x))
            assert is_one_padded_group(fast)
    assert " 0 in inputs" in fast.report.groups[0].padding


def test_p2_what_lies_beside_a_part_is_not_read_as_padding():
    model = Bank(WIDTHS).eval()
    fast = pfcn.compile(model)
    x = torch.randn(5, sum(WIDTHS))
    x[1, 3:10] = float("nan")  # network 1
    x[2, :3] = float("inf")  # network 0
    with torch.no_grad():
        expected = model(x)
        assert expected.isfinite().sum() == expected.numel() - 2
        torch.testing.assert_close(fast(x), expected, equal_nan=True)


class Normed(Net):
    def forward(self, x):
        return super().forward(torch.softmax(x, dim=-1) - x.mean(-1, keepdim=True))


def test_p1_a_dimension_that_is_averaged_is_not_padded():
    check(Bank(WIDTHS, Normed), 5, sum(WIDTHS))
    check(Bank([4, 4, 4, 6, 6, 6], Normed), 5, 30)


def test_p4_few_wide_networks_stay_groups_of_their_own():
    fast = check(Bank([2] * 20 + [3000] * 2), 4, 6040)
    assert len(fast.report.groups) == 2
    assert not any(group.padding for group in fast.report.groups)
    reasons = [miss.reason for miss in fast.report.missed]
    assert any("padding is estimated to be slower" in reason for reason in reasons)


def test_different_tails_are_not_padded_together():
    class Tail(Net):
        def forward(self, x):
            tail = torch.tanh if self.a.in_features % 2 else torch.relu
            return self.b(tail(self.a(x)))

    fast = check(Bank(WIDTHS, Tail), 5, sum(WIDTHS))
    assert sorted(group.instances for group in fast.report.groups) == [5, 7]


def test_edits_of_weights_are_seen():
    model = Bank(WIDTHS).eval()
    fast = pfcn.compile(model)
    x = torch.randn(5, sum(WIDTHS))

    def check_same():
        torch.testing.assert_close(fast(x), model(x))

    with torch.no_grad():
        check_same()
        model.nets[3].a.weight.mul_(2)
        check_same()
        model.nets[0].a.weight.data = torch.randn(16, 3)
        check_same()
        model.nets[1].a.weight.data = torch.randn(7, 16).t()  # not contiguous
        check_same()
        model.nets[2].a.weight.data.numpy()[:] = 1.5  # leaves no trace in torch
        check_same()
        model.load_state_dict({k: torch.randn_like(v) for k, v in model.state_dict().items()})
        check_same()
        model.nets[4] = Net(1)
        check_same()
    assert is_one_padded_group(fast)
    assert any("of several sizes" in line for line in fast.report.copies)


@pytest.mark.parametrize("wanted", ["all", "input only", "one weight"])
def test_training_gives_the_gradients_of_eager(wanted):
    model = Bank(WIDTHS)
    if wanted != "all":
        model.requires_grad_(False)
        model.nets[5].a.weight.requires_grad_(wanted == "one weight")
    fast = pfcn.compile(model)
    x = torch.randn(5, sum(WIDTHS), requires_grad=wanted != "one weight")
    leaves = [t for t in [x, *model.parameters()] if t.requires_grad]
    for _ in range(2):
        expected = torch.autograd.grad(model(x).square().sum(), leaves)
        torch.testing.assert_close(torch.autograd.grad(fast(x).square().sum(), leaves), expected)
    assert is_one_padded_group(fast)


def test_optimizer_steps_and_double_backward():
    models = [Bank(WIDTHS), Bank(WIDTHS)]
    models[1].load_state_dict(models[0].state_dict())
    calls = [models[0], pfcn.compile(models[1])]
    x = torch.randn(8, sum(WIDTHS), requires_grad=True)
    for model, call in zip(models, calls):
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
        for _ in range(5):
            optimizer.zero_grad()
            (slope,) = torch.autograd.grad(call(x).sum(), x, create_graph=True)
            (call(x).square().mean() + slope.square().mean()).backward()
            optimizer.step()
    for a, b in zip(models[0].parameters(), models[1].parameters()):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_an_edit_between_forward_and_backward_is_noticed():
    model = Bank(WIDTHS)
    loss = pfcn.compile(model)(torch.randn(5, sum(WIDTHS))).square().sum()
    with torch.no_grad():
        model.nets[0].a.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_members_of_several_widths():
    model = Bank(WIDTHS)
    fast = pfcn.compile(model)
    x = torch.randn(8, sum(WIDTHS))
    fast(x).square().sum().backward()
    before = [p.detach().clone() for p in model.parameters()]
    members = fast.members
    assert len(members) == len(WIDTHS) and members[3] is model.nets[3]
    norms = torch.stack(
        [torch.cat([p.grad.flatten() for p in net.parameters()]).norm() for net in model.nets]
    )
    torch.testing.assert_close(members.clip_grad_norm_(0.1), norms)
    for net in model.nets:
        norm = torch.cat([p.grad.flatten() for p in net.parameters()]).norm()
        torch.testing.assert_close(norm, torch.tensor(0.1), rtol=1e-3, atol=1e-4)
    members.keep()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1)
    members.keep([1])
    members.restore()
    for i, net in enumerate(model.nets):
        for p, old in zip(net.parameters(), before[4 * i : 4 * i + 4]):
            torch.testing.assert_close(p.detach(), old + 1 if i == 1 else old)
