"""n networks that train as one: stacked parameters, and optimizers with settings for each."""

import copy
import gc
import weakref

import models
import pytest
import torch
from test_training import loss_of
from torch import nn

import pfcn

N = 20


class Stacked:
    def __init__(self, model=None, seed=0):
        torch.manual_seed(seed)
        self.plain = models.Slices(N) if model is None else model
        self.model = copy.deepcopy(self.plain)
        self.x = torch.randn(3, 100)
        self.fast = pfcn.compile(self.model, (self.x,))
        self.groups = pfcn.optim.stack(self.fast)
        self.leaves = self.groups[0]["params"]

    def backward(self):
        for model in (self.fast, self.plain):
            loss_of(model(self.x)).backward()

    def train(self, optimizer, plain_optimizer, steps=5):
        for _ in range(steps):
            for one in (optimizer, plain_optimizer):
                one.zero_grad()
            self.backward()
            for one in (optimizer, plain_optimizer):
                one.step()

    def assert_same(self, what=lambda parameter: parameter):
        for ours, theirs in zip(self.model.parameters(), self.plain.parameters(), strict=True):
            torch.testing.assert_close(what(ours), what(theirs), rtol=1e-5, atol=1e-5)


OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.01),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "fused": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1, fused=True),
    "foreach": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_of_torch(name):
    case = Stacked()
    assert len(case.groups) == 1 and len(case.leaves) == 4
    case.train(OPTIMIZERS[name](case.groups), OPTIMIZERS[name](case.plain.parameters()))
    case.assert_same()
    case.assert_same(lambda parameter: parameter.grad)
    assert case.fast.report.tracked_calls == 0
    fresh = models.Slices(N)
    fresh.load_state_dict(case.fast.state_dict())
    torch.testing.assert_close(fresh(case.x), case.fast(case.x))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_in_plain_mode(name):
    torch.manual_seed(0)
    plain = models.Slices(N)
    model = copy.deepcopy(plain)
    fast, x = pfcn.compile(model), torch.randn(3, 100)
    pairs = [(m, OPTIMIZERS[name](m.parameters())) for m in (fast, plain)]
    for _ in range(5):
        for module, optimizer in pairs:
            optimizer.zero_grad()
            loss_of(module(x)).backward()
            optimizer.step()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


OWN = {
    "SGD": (pfcn.optim.SGD, torch.optim.SGD, {}),
    "momentum": (pfcn.optim.SGD, torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "dampening": (pfcn.optim.SGD, torch.optim.SGD, {"momentum": 0.9, "dampening": 0.5}),
    "Adam": (pfcn.optim.Adam, torch.optim.Adam, {"betas": (0.8, 0.95)}),
    "AdamW": (pfcn.optim.AdamW, torch.optim.AdamW, {"eps": 1e-6}),
}


@pytest.mark.parametrize("decays", [False, True])
@pytest.mark.parametrize("varies", [False, True])
@pytest.mark.parametrize("name", OWN)
def test_settings_of_each_network(name, varies, decays):
    ours, theirs, settings = OWN[name]
    case = Stacked()
    rates = torch.logspace(-3, -1, N) if varies else [0.01] * N
    decay = torch.linspace(0, 0.3, N) if varies and decays else [0.1 * decays] * N
    optimizer = ours(case.fast, lr=rates if varies else 0.01,
                     weight_decay=decay if varies and decays else decay[0], **settings)  # fmt: skip
    plain = theirs(
        [
            {"params": list(member.parameters()), "lr": float(lr), "weight_decay": float(d)}
            for member, lr, d in zip(case.plain.models, rates, decay, strict=True)
        ],
        lr=0.01,
        **settings,
    )
    case.train(optimizer, plain)
    case.assert_same()


def test_settings_that_do_not_fit():
    case = Stacked()
    with pytest.raises(pfcn.InputError, match="7 elements for 20 networks"):
        pfcn.optim.Adam(case.fast, lr=torch.ones(7))
    with pytest.raises(pfcn.InputError, match="a vector for stacked parameters"):
        pfcn.optim.Adam(models.Slices(2).parameters(), lr=torch.ones(2))
    with pytest.raises(pfcn.InputError, match="lr is -1"):
        pfcn.optim.SGD(case.fast, lr=-1)


def test_gradients_are_views():
    case = Stacked()
    case.backward()
    leaf, members = case.leaves[0], [m[0].weight for m in case.model.models]
    pointers = [p.grad.data_ptr() for p in members]
    torch.testing.assert_close(leaf.grad, torch.stack([p.grad for p in members]), rtol=0, atol=0)
    members[3].grad.zero_()
    assert leaf.grad[3].abs().sum() == 0 and leaf.grad[4].abs().sum() > 0
    case.model.zero_grad()
    case.backward()
    assert [p.grad.data_ptr() for p in members] == pointers


@pytest.mark.parametrize("clear", ["optimizer", "model", "zeros", "members", "fast"])
def test_clearing(clear):
    case = Stacked()
    optimizer = torch.optim.SGD(case.groups, lr=0.1)
    case.backward()
    case.plain.zero_grad()
    if clear == "optimizer":
        optimizer.zero_grad()
    elif clear == "zeros":
        optimizer.zero_grad(set_to_none=False)
    elif clear == "members":
        for p in case.model.parameters():
            p.grad = None
    else:
        getattr(case, clear).zero_grad()
    for leaf in case.leaves:
        assert leaf.grad is None or leaf.grad.abs().sum() == 0
    for p in case.model.parameters():
        assert p.grad is None or p.grad.abs().sum() == 0
    case.backward()
    case.assert_same(lambda parameter: parameter.grad)
    optimizer.step()


def test_accumulation():
    case = Stacked()
    for _ in range(3):
        case.backward()
    case.assert_same(lambda parameter: parameter.grad)


def test_one_member_cleared_or_given():
    case = Stacked()
    case.backward()
    case.model.models[3][0].weight.grad = None
    case.plain.models[3][0].weight.grad = None
    given = torch.randn(4, 5)
    case.model.models[5][0].weight.grad = given.clone()
    case.plain.models[5][0].weight.grad = given.clone()
    case.backward()
    case.assert_same(lambda parameter: parameter.grad)


def test_eager_calls_in_between():
    case = Stacked()
    loss_of(case.model(case.x)).backward()  # the model itself, in eager
    loss_of(case.plain(case.x)).backward()
    torch.testing.assert_close(
        case.leaves[0].grad[2], case.plain.models[2][0].weight.grad, rtol=1e-5, atol=1e-6
    )
    case.backward()
    case.assert_same(lambda parameter: parameter.grad)


def test_clipping_and_schedules():
    case = Stacked()
    optimizer, plain = (
        torch.optim.AdamW(p, lr=0.1) for p in (case.groups, case.plain.parameters())
    )
    schedules = [torch.optim.lr_scheduler.StepLR(o, 2, 0.5) for o in (optimizer, plain)]
    for _ in range(4):
        case.model.zero_grad()
        plain.zero_grad()
        case.backward()
        for module in (case.model, case.plain):
            nn.utils.clip_grad_norm_(module.parameters(), 0.1)
        for one in (optimizer, plain, *schedules):
            one.step()
    case.assert_same()


def test_loaded_weights_and_modes():
    case = Stacked()
    optimizer, plain = (torch.optim.SGD(p, lr=0.1) for p in (case.groups, case.plain.parameters()))
    state = {name: torch.randn_like(value) for name, value in case.plain.state_dict().items()}
    for module in (case.fast, case.plain):
        module.load_state_dict(state)
        module.eval()
        module.train()
    case.train(optimizer, plain, steps=2)
    case.assert_same()
    with torch.no_grad():
        for module in (case.model, case.plain):
            for p in module.parameters():
                p.data = p.data * 0.5  # other memory
    case.train(optimizer, plain, steps=2)
    case.assert_same()
    torch.testing.assert_close(case.leaves[0][4], case.model.models[4][0].weight)


def test_edits_are_noticed():
    case = Stacked()
    for edited in (case.leaves[0], case.model.models[5][0].weight):
        loss = loss_of(case.fast(case.x))
        with torch.no_grad():
            edited.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_what_cannot_work_raises():
    case = Stacked()
    weight = case.model.models[3][0].weight
    with pytest.raises(RuntimeError, match="have been used in the graph"):
        torch.autograd.grad(loss_of(case.fast(case.x)), weight)
    handle = weight.register_hook(lambda g: g)
    with pytest.raises(
        RuntimeError, match="a hook is registered on a parameter that trains stacked"
    ):
        case.backward()
    handle.remove()
    case = Stacked()
    case.model.models[3][0].weight = nn.Parameter(torch.randn(4, 5))
    with pytest.raises(pfcn.Error, match="was replaced after"):
        case.fast(case.x)


def test_one_frozen_network():
    """Of those that train as one, all train or none."""
    case = Stacked()
    case.model.models[3][0].weight.requires_grad_(False)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"models.3.0.weight' was frozen"):
            case.fast(case.x)
    for model in (case.model, case.plain):
        model.requires_grad_(False)
    case.x.requires_grad_()
    results = []
    for model in (case.fast, case.plain):
        loss_of(model(case.x)).backward()
        results.append(case.x.grad)
        case.x.grad = None
    torch.testing.assert_close(*results)
    assert all(leaf.grad is None for leaf in case.leaves)


# --- Backward passes that do not end in the gradients, or not at once -----------------------------


def test_several_calls_in_one_loss():
    case = Stacked()
    for _ in range(2):
        for model in (case.fast, case.plain):
            (loss_of(model(case.x)) + loss_of(model(2 * case.x))).backward()
        case.assert_same(lambda parameter: parameter.grad)


def test_a_graph_that_is_kept():
    case = Stacked()
    losses = [loss_of(model(case.x)) for model in (case.fast, case.plain)]
    for _ in range(3):
        for loss in losses:
            loss.backward(retain_graph=True)
    case.assert_same(lambda parameter: parameter.grad)


def test_a_penalty_beside_the_loss():
    case = Stacked()
    penalty = sum(leaf.square().sum() for leaf in case.leaves)
    (loss_of(case.fast(case.x)) + penalty).backward()
    plain = sum(p.square().sum() for p in case.plain.parameters())
    (loss_of(case.plain(case.x)) + plain).backward()
    case.assert_same(lambda parameter: parameter.grad)


def test_gradients_that_are_asked_for():
    """`autograd.grad` leaves what is kept as gradients alone, and so do other leaves."""
    case = Stacked()
    asked = torch.autograd.grad(loss_of(case.fast(case.x)), case.leaves)
    assert all(leaf.grad is None for leaf in case.leaves)
    assert all(p.grad.abs().sum() == 0 for p in case.model.parameters())
    loss_of(case.plain(case.x)).backward()
    first = torch.stack([member[0].weight.grad for member in case.plain.models])
    torch.testing.assert_close(asked[0], first, rtol=1e-5, atol=1e-5)
    loss_of(case.fast(case.x)).backward(inputs=case.leaves[:1])
    torch.testing.assert_close(case.leaves[0].grad, first, rtol=1e-5, atol=1e-5)
    assert case.leaves[1].grad is None


def test_hooks_of_the_stacked_parameter():
    case = Stacked()
    kept, after = [], []
    leaf = case.leaves[0]
    handles = [
        leaf.register_hook(lambda gradient: (kept.append(gradient), 2 * gradient)[1]),
        leaf.register_post_accumulate_grad_hook(lambda p: after.append(p.grad.clone())),
    ]
    case.backward()
    expected = torch.stack([member[0].weight.grad for member in case.plain.models])
    torch.testing.assert_close(leaf.grad, 2 * expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(after[0], 2 * expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(case.model.models[4][0].weight.grad, 2 * expected[4])
    for handle in handles:
        handle.remove()
    leaf.grad = None
    torch.testing.assert_close(kept[0], expected, rtol=1e-5, atol=1e-5)  # nobody has cleared it


def test_hooks_of_nodes_see_gradients():
    case = Stacked()
    result, seen = case.fast(case.x), []
    result.grad_fn.register_hook(lambda inputs, _outputs: seen.append(inputs))
    loss_of(result).backward()
    loss_of(case.plain(case.x)).backward()
    case.assert_same(lambda parameter: parameter.grad)
    assert all(gradient is not None for gradient in seen[0])


def test_a_backward_that_fails():
    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(_context, x):
            return x.clone()

        @staticmethod
        def backward(_context, _gradient):
            raise ValueError("no way")

    case = Stacked()
    x = Fails.apply(case.x.clone().requires_grad_())
    with pytest.raises(ValueError, match="no way"):
        loss_of(case.fast(x)).backward()
    case.model.zero_grad()
    case.backward()
    case.assert_same(lambda parameter: parameter.grad)


def test_a_backward_inside_of_a_backward():
    """As checkpointing does: the inner one ends before the outer has added what it knows."""
    case = Stacked()

    class Nested(torch.autograd.Function):
        @staticmethod
        def forward(context, x, model):
            context.model = model
            context.save_for_backward(x)
            return x.clone()

        @staticmethod
        def backward(context, gradient):
            with torch.enable_grad():
                loss_of(context.model(context.saved_tensors[0].detach())).backward()
            return gradient, None

    for model in (case.fast, case.plain):
        x = Nested.apply(case.x.clone().requires_grad_(), model)
        loss_of(model(x)).backward()
    case.assert_same(lambda parameter: parameter.grad)


@pytest.mark.filterwarnings("ignore:Error detected in")
def test_anomalies_are_found():
    case = Stacked()
    with torch.autograd.set_detect_anomaly(True), pytest.raises(RuntimeError, match="nan values"):
        (loss_of(case.fast(case.x)) * float("nan")).backward()


def test_stacked_parameters_end_with_their_users():
    case = Stacked()
    case.backward()
    leaf = weakref.ref(case.leaves[0])
    del case
    gc.collect()
    assert leaf() is None


def test_stacking_what_is_not_there():
    with pytest.raises(pfcn.Error, match="not been called yet"):
        pfcn.optim.stack(pfcn.compile(models.Slices(N)))
    torch.manual_seed(0)
    model, x = models.Slices(N), torch.randn(3, 100)
    model.models[3].requires_grad_(False)
    with pytest.raises(pfcn.InputError, match="train all or none"):
        pfcn.optim.stack(pfcn.compile(model, (x,)))


def test_stacking_again_gives_the_same():
    case = Stacked()
    again = pfcn.optim.stack(case.fast)[0]["params"]
    assert all(a is b for a, b in zip(again, case.leaves, strict=True))


def test_parameters_beside_the_groups():
    class WithHead(models.Slices):
        def __init__(self):
            super().__init__(N)
            self.head = nn.Linear(3 * N, 2)

        def forward(self, x):
            return self.head(torch.tanh(super().forward(x)))

    torch.manual_seed(0)
    case = Stacked(WithHead())
    assert [len(group["params"]) for group in case.groups] == [4, 2]
    case.train(torch.optim.Adam(case.groups), torch.optim.Adam(case.plain.parameters()))
    case.assert_same()


@pytest.mark.parametrize("stacked", [False, True])
def test_loss_curve(stacked):
    """Many steps of a bank with ReLU: the same curve, and the file loads into the model."""
    torch.manual_seed(0)
    members = [nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1)) for _ in range(17)]
    plain = pfcn.compile(copy.deepcopy(members))._model
    fast, x = pfcn.compile(members), torch.randn(32, 8)
    y = torch.randn(17, 32, 1)
    with torch.no_grad():
        fast(x)
    own = pfcn.optim.stack(fast) if stacked else fast.parameters()
    pairs = [
        (fast, torch.optim.Adam(own, 1e-2)),
        (plain, torch.optim.Adam(plain.parameters(), 1e-2)),
    ]
    curves = [[], []]
    for _ in range(100):
        for (module, optimizer), curve in zip(pairs, curves, strict=True):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(torch.stack(module(x)), y)
            loss.backward()
            optimizer.step()
            curve.append(loss.item())
    torch.testing.assert_close(*map(torch.tensor, curves), rtol=1e-3, atol=1e-5)
    assert curves[0][-1] < 0.5 * curves[0][0]


def test_members():
    case = Stacked()
    members = case.fast.members
    assert len(members) == N and members.paths()[3] == "models.3"
    assert members[3] is case.model.models[3]
    assert [m is own for m, own in zip(members, case.model.models, strict=True)] == [True] * N
    three = pfcn.compile(members.copies([1, 5, 7]))
    part = torch.randn(2, 5)
    expected = [case.model.models[i](part) for i in (1, 5, 7)]
    torch.testing.assert_close(list(three(part)), expected)


@pytest.mark.parametrize("stacked", [False, True])
def test_clipping_of_each_member(stacked):
    case = Stacked()
    if not stacked:
        case.fast = pfcn.compile(copy.deepcopy(case.plain), (case.x,))
        case.model = case.fast._model
    case.backward()
    norms = case.fast.members.clip_grad_norm_(5.0)
    expected = [nn.utils.clip_grad_norm_(m.parameters(), 5.0) for m in case.plain.models]
    torch.testing.assert_close(norms, torch.stack(expected))
    case.assert_same(lambda parameter: parameter.grad)


def test_early_stopping():
    case = Stacked()
    members = case.fast.members
    with pytest.raises(pfcn.InputError, match="call keep"):
        members.restore()
    before = [p.detach().clone() for p in case.model.parameters()]
    members.keep()
    with torch.no_grad():
        for p in case.model.parameters():
            p.add_(1)
    chosen = torch.arange(N) % 2 == 0
    members.keep(chosen)
    with torch.no_grad():
        for p in case.model.parameters():
            p.add_(1)
    members.restore()
    for i, (p, was) in enumerate(zip(case.model.parameters(), before, strict=True)):
        torch.testing.assert_close(p.detach(), was + 1 if chosen[i // 4] else was)
    with pytest.raises(pfcn.InputError, match="one element for each of the 20"):
        members.restore(torch.ones(3, dtype=torch.bool))


def test_refresh():
    case = Stacked()
    case.fast.refresh()
    case.train(
        torch.optim.SGD(case.groups, lr=0.1), torch.optim.SGD(case.plain.parameters(), lr=0.1)
    )
    case.assert_same()
