"""Live weights: whatever is done to a parameter, and however, the next call sees it, and nothing
else that the user holds is changed by it."""

from __future__ import annotations

import contextlib
import copy
import gc
import itertools
import random
import weakref

import models
import numpy as np
import pytest
import torch
from torch import nn

import pfcn
from pfcn import _C


class Case:
    """A model, its compiled form, and an input; calls are compared with eager."""

    def __init__(self, n: int = 12, **options):
        self.model = models.make(models.Slices(n))
        self.x = torch.randn(3, 5 * n, generator=torch.Generator().manual_seed(1))
        self.fast = pfcn.compile(self.model, (self.x,), **options)
        self.check()

    def check(self, calls: int = 2):
        with torch.no_grad():
            expected = copy.deepcopy(self.model)(self.x)
            for _ in range(calls):
                torch.testing.assert_close(self.fast(self.x), expected)
        return expected

    @property
    def weight(self) -> nn.Parameter:
        return self.model.models[3][0].weight

    @property
    def hits(self) -> int:
        return self.fast._engine.dispatcher.hits

    @property
    def copies(self) -> list[str]:
        return self.fast.report.copies

    def homes(self) -> set[int]:
        return {p.untyped_storage().data_ptr() for p in self.model.parameters()}


@pytest.fixture
def case():
    return Case()


def test_parameters_are_neighbours():
    versions = [parameter._version for parameter in models.make(models.Slices(12)).parameters()]
    case = Case()
    assert not case.copies
    weights = [network[0].weight for network in case.model.models]
    for a, b in itertools.pairwise(weights):
        assert b.data_ptr() - a.data_ptr() == a.nbytes
    for parameter in case.model.parameters():
        assert isinstance(parameter, nn.Parameter)
        assert parameter.is_leaf and parameter.requires_grad
        assert parameter.is_contiguous() and parameter.storage_offset() == 0
        assert parameter.untyped_storage().nbytes() == parameter.nbytes
    assert versions == [parameter._version for parameter in case.model.parameters()]


def test_in_place(case):
    with torch.no_grad():
        case.weight.mul_(2)
        before = case.hits
        case.check()
        case.model.models[0][2].bias[1] = 7.0
        case.check()
        nn.init.normal_(case.model.models[1][0].weight)
        case.check()
    assert case.hits == before + 6  # none of this costs more than the short way
    case.weight.detach().numpy()[0, 0] = 5.0
    case.check()


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW", "fused", "foreach"])
def test_optimizers(kind):
    case, twin = Case(), models.make(models.Slices(12))
    options = {"fused": {"fused": True}, "foreach": {"foreach": True}}.get(kind, {})
    make = getattr(torch.optim, kind if kind in ("SGD", "Adam", "AdamW") else "Adam")
    mine = make(case.fast.parameters(), lr=0.05, **options)
    theirs = make(twin.parameters(), lr=0.05, **options)
    for _ in range(3):
        for module, optimizer in ((case.fast, mine), (twin, theirs)):
            optimizer.zero_grad()
            module(case.x).square().mean().backward()
            optimizer.step()
        expected = case.check()
        with torch.no_grad():
            torch.testing.assert_close(expected, twin(case.x))


def test_data_replaced(case):
    case.weight.data = torch.randn(4, 5)
    case.check()
    case.check()
    assert not case.copies  # it has come home
    for parameter in case.model.parameters():
        parameter.data = torch.randn_like(parameter)
    case.check()
    assert not case.copies


def test_data_of_another_tensor_is_shared_with_it(case):
    mine = torch.randn(4, 5)
    case.weight.data = mine
    case.check()
    mine.fill_(3.0)  # eager's parameter is this very memory
    case.check()
    assert "shares its memory" in case.copies[0]
    assert "models.3.0.weight" in case.copies[0]
    del mine
    case.check()
    assert not case.copies


@pytest.mark.parametrize("change", ["transpose", "view", "shrink", "expand", "set", "resize"])
def test_layout_changed_in_the_same_storage(change):
    case = Case()
    if change == "transpose":
        model = nn.ModuleList(nn.Linear(4, 4) for _ in range(6))
        case.model = models.make(_Square(model))
        case.x = torch.randn(3, 4)
        case.fast = pfcn.compile(case.model, (case.x,))
        case.check()
        model[2].weight.data = model[2].weight.data.t()
        case.check()
        with torch.no_grad():
            model[3].weight.t_()
        case.check()
    elif change == "view":
        case.weight.data = case.weight.data.view(5, 4)
        with torch.no_grad(), pytest.raises(RuntimeError):
            case.fast(case.x)
    elif change == "shrink":  # as pruning does
        first, last = case.model.models[3][0], case.model.models[3][2]
        first.weight.data, first.bias.data = first.weight.data[:2], first.bias.data[:2]
        last.weight.data = last.weight.data[:, :2]
        case.check()
    elif change == "expand":
        case.weight.data = case.weight.data[:1].expand(4, 5)
        case.check()
    elif change == "set":
        with torch.no_grad():
            case.weight.set_(torch.randn(4, 5))
        case.check()
    elif change == "resize":
        with pytest.raises(RuntimeError, match="not resizable"):
            case.weight.untyped_storage().resize_(0)


LAYOUT_CHANGES = {
    "t_": lambda p: p.t_(),
    "transpose_": lambda p: p.transpose_(0, 1),
    "swapdims_": lambda p: p.swapdims_(0, 1),
    "swapaxes_": lambda p: p.swapaxes_(0, 1),
    "as_strided_": lambda p: p.as_strided_((4, 4), (1, 4)),
    "set_": lambda p: p.set_(p.data.t()),
    "set_ of a storage": lambda p: p.set_(p.untyped_storage(), 0, (4, 4), (0, 1)),
    "set_ elsewhere": lambda p: p.set_(torch.arange(16.0).view(4, 4)),
    "data": lambda p: setattr(p, "data", p.data.t()),
    "data elsewhere": lambda p: setattr(p, "data", torch.arange(16.0).view(4, 4)),
    "resize_": lambda p: p.resize_(2, 4),
    "resize_as_": lambda p: p.resize_as_(torch.zeros(2, 4)),
    "unsqueeze_": lambda p: p.unsqueeze_(0),
    "squeeze_": lambda p: (p.as_strided_((1, 4, 4), (16, 1, 4)), p.squeeze_(0)),
}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", LAYOUT_CHANGES)
def test_every_way_to_lie_elsewhere_is_counted(name, mode):
    """Also where a backup keeps the memory from being freed, which would be noticed by itself."""
    layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(6))
    model, x = models.make(_Square(layers)), torch.randn(3, 4)
    fast = pfcn.compile(model, (x,))
    held = [layer.weight.data for layer in layers]
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(fast(x), model(x))
    with mode(), contextlib.suppress(RuntimeError):  # not all are allowed in both modes
        LAYOUT_CHANGES[name](layers[3].weight)
    with torch.no_grad():
        try:
            expected = model(x)
        except RuntimeError:
            with pytest.raises(RuntimeError):
                fast(x)
        else:
            torch.testing.assert_close(fast(x), expected)
    assert len(held) == 6


class Gated(models.Slices):
    """With parameters that are in no group: these are read where they are."""

    def __init__(self, n):
        super().__init__(n)
        self.gate = nn.Linear(5 * n, 3 * n)
        self.register_buffer("scale", torch.ones(3 * n))

    def forward(self, x):
        return super().forward(x) * torch.sigmoid(self.gate(x)) * self.scale


@pytest.mark.parametrize("freeze", [False, True])
def test_parameters_outside_of_groups(freeze):
    model = models.make(Gated(6))
    x = torch.randn(4, 30)
    fast = pfcn.compile(model, (x,), freeze=freeze)
    with torch.no_grad():
        frozen = model(x)

        def check():
            for _ in range(2):
                torch.testing.assert_close(fast(x), frozen if freeze else model(x))

        check()
        model.scale.mul_(2)
        check()
        model.scale = torch.rand(18)
        check()
        model.gate.weight.data = torch.randn(18, 30)
        check()
        model.gate.weight.data = torch.randn(30, 18).t()
        check()
        model.gate.weight.data = torch.randn(1, 30).expand(18, 30)
        check()
        model.gate.weight = nn.Parameter(torch.randn(18, 30))
        check()
        model.gate.bias = None
        check()


def test_single_parameter_of_another_dtype():
    model = models.make(Gated(6))
    x = torch.randn(4, 30)
    fast = pfcn.compile(model, (x,))
    with torch.no_grad():
        fast(x), fast(x)
        model.scale.data = model.scale.data.double()
        for _ in range(2):
            result = fast(x)
            assert result.dtype == torch.float64
            torch.testing.assert_close(result, model(x), rtol=1e-5, atol=1e-6)
        model.gate.weight.data = model.gate.weight.data.double()
        with pytest.raises(RuntimeError, match="dtype"):
            fast(x)


class _Square(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, x):
        return torch.stack([layer(x) for layer in self.layers])


def test_averaged_weights_are_swapped_in_and_out(case):
    """The usual exponential moving average: what is held aside must keep its values."""
    shadow = {name: torch.randn_like(p) for name, p in case.model.named_parameters()}
    for _ in range(3):
        expected_backup = {n: p.detach().clone() for n, p in case.model.named_parameters()}
        expected_shadow = {name: value.clone() for name, value in shadow.items()}
        backup = {}
        for name, parameter in case.model.named_parameters():
            backup[name] = parameter.data
            parameter.data = shadow[name]
        case.check()
        for name in shadow:
            assert torch.equal(backup[name], expected_backup[name])
        for name, parameter in case.model.named_parameters():
            parameter.data = backup[name]
        del backup
        case.check()
        for name, parameter in case.model.named_parameters():
            assert torch.equal(shadow[name], expected_shadow[name])
            assert torch.equal(parameter, expected_backup[name])
        assert not case.copies
        with torch.no_grad():
            for parameter in case.model.parameters():
                parameter.add_(0.1)
        case.check()


def test_backup_survives_new_weights(case):
    """The slot of a backup is not written, though the parameter got weights of its own."""
    backup = case.weight.data
    kept = backup.clone()
    case.weight.data = torch.randn(4, 5)
    case.check()
    case.check()
    assert torch.equal(backup, kept)
    with torch.no_grad():
        case.weight.zero_()
    case.check()
    assert torch.equal(backup, kept)
    backup.fill_(9.0)
    case.check()


def test_load_state_dict(case):
    other = models.make(models.Slices(12), seed=5).state_dict()
    case.fast.load_state_dict(other)
    case.check()
    other = models.make(models.Slices(12), seed=6).state_dict()
    case.model.load_state_dict(other, assign=True)
    case.check()
    other["models.3.0.weight"].fill_(2.0)  # assigned, so it is the parameter's memory
    case.check()
    del other
    case.check()
    assert not case.copies


def test_state_dict_is_a_view_of_the_parameters(case):
    state = case.model.state_dict()
    with torch.no_grad():
        case.weight.fill_(1.0)
    assert torch.equal(state["models.3.0.weight"], case.weight)
    state["models.3.0.weight"].fill_(2.0)
    case.check()


def test_state_dict_from_before_stays_a_view():
    model = models.make(models.Slices(6))
    state = model.state_dict()
    x = torch.randn(2, 30)
    fast = pfcn.compile(model, (x,))
    assert any("shares its memory" in line for line in fast.report.copies)
    state["models.2.0.weight"].fill_(2.0)
    assert torch.equal(model.models[2][0].weight, state["models.2.0.weight"])
    with torch.no_grad():
        torch.testing.assert_close(fast(x), model(x))
        del state
        torch.testing.assert_close(fast(x), model(x))
    assert not fast.report.copies


def test_structure_changes(case):
    def new(module: nn.Module) -> nn.Module:
        return models.make(module, seed=9)

    case.model.models[3] = new(nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)))
    case.check()
    case.model.models[4][0] = new(nn.Linear(5, 4))
    case.check()
    case.model.models[4][1] = nn.ReLU()
    case.check()
    case.model.models[5][0].weight = nn.Parameter(torch.randn(4, 5))
    case.check()
    case.model.models[5][0]._parameters["weight"] = nn.Parameter(torch.randn(4, 5))
    case.check()
    case.model.models[6][0].bias = None
    case.check()
    case.model.models[6][0] = new(nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 4)))
    case.check()
    del case.model.models[11]
    case.x = case.x[:, :55]
    case.check()


def test_attributes_change(case):
    case.model.models[2][1] = nn.LeakyReLU(0.1)
    case.check()
    case.model.models[2][1].negative_slope = 0.7
    case.check()
    case.model.forward = lambda x: models.Slices.forward(case.model, x) * 2
    with torch.no_grad():
        torch.testing.assert_close(case.fast(case.x), case.model(case.x))


def put_parameter(network: nn.Module, value: float) -> None:
    network[0]._parameters["weight"] = nn.Parameter(torch.full((4, 5), value))


def put_attribute(network: nn.Module, value: float) -> None:
    vars(network[1])["negative_slope"] = value


def put_module(network: nn.Module, value: float) -> None:
    network._modules["1"] = nn.LeakyReLU(value)


def set_attribute(network: nn.Module, value: float) -> None:
    network[1].negative_slope = value


@pytest.mark.parametrize("edit", [put_parameter, put_attribute, put_module, set_attribute])
def test_changes_between_calls_in_a_row(edit):
    """Calls in a row are not looked at one by one: whatever is done between them counts."""
    cases = [Case(), Case()]  # of whom one is asked for the other
    for case in cases:
        for network in case.model.models:
            network[1] = nn.LeakyReLU(0.1)
        case.check()
    reference = copy.deepcopy(cases[0].model)
    fast, other, x = cases[0].fast, cases[1].fast, cases[0].x
    last, mirrored = cases[0].model.models[-1], reference.models[-1]
    with torch.no_grad():
        for step, calls in enumerate(
            [(fast,), (fast, fast), (fast, other), (other, fast), (other,), ()]
        ):
            for call in calls:
                call(x)
            edit(last, 0.2 + step)
            result = fast(x)
            edit(mirrored, 0.2 + step)
            torch.testing.assert_close(result, reference(x))


def test_to_another_dtype(case):
    case.fast.double()
    case.x = case.x.double()
    case.check()
    case.model.float()
    case.x = case.x.float()
    case.check()


def test_functional_call(case):
    other = {name: torch.randn_like(p) for name, p in case.model.named_parameters()}
    with torch.no_grad():
        expected = torch.func.functional_call(case.model, other, (case.x,))
        torch.testing.assert_close(
            torch.func.functional_call(case.fast, other, (case.x,)), expected
        )
    case.check()


def test_parametrization(case):
    nn.utils.parametrizations.weight_norm(case.model.models[3][0])
    case.check()


def test_shared_memory():
    case = Case()
    for parameter in case.model.parameters():
        parameter.share_memory_()
    case.check()
    assert case.weight.is_shared()
    with torch.no_grad():
        case.weight.fill_(1.0)
    case.check()
    assert "shared" in case.copies[0]


def test_foreign_memory():
    model = models.make(models.Slices(4))
    array = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    model.models[1][0].weight.data = torch.from_numpy(array)
    x = torch.randn(2, 20)
    fast = pfcn.compile(model, (x,))
    with torch.no_grad():
        for value in (0.5, 2.0):
            array.fill(value)
            assert model.models[1][0].weight[0, 0] == value
            torch.testing.assert_close(fast(x), model(x))


def test_tied_weights():
    model = models.make(models.Slices(6))
    for network in model.models[1:]:
        network[0].weight = model.models[0][0].weight  # one for all
    model.models[5][2].weight = model.models[4][2].weight  # one for two
    x = torch.randn(3, 30)
    fast = pfcn.compile(model, (x,))
    with torch.no_grad():
        for value in (0.1, 0.7):
            model.models[2][0].weight.fill_(value)
            model.models[4][2].weight.fill_(value)
            torch.testing.assert_close(fast(x), model(x))


def test_overlapping_parameters():
    flat = torch.randn(12, 4, 5)
    model = models.make(models.Slices(12))
    for network, part in zip(model.models, flat, strict=True):
        network[0].weight.data = part
    x = torch.randn(2, 60)
    fast = pfcn.compile(model, (x,))
    with torch.no_grad():
        for value in (0.5, 2.0):
            flat[3].fill_(value)
            torch.testing.assert_close(fast(x), model(x))
    assert any("larger storage" in line for line in fast.report.copies)


def test_two_compiled_forms_of_one_model():
    model = models.make(models.Slices(8))
    x = torch.randn(2, 40)
    first, second = pfcn.compile(model, (x,)), pfcn.compile(model, (x,))
    with torch.no_grad():
        for value in (0.5, 2.0):
            model.models[3][0].weight.data = torch.full((4, 5), value)
            for fast in (first, second, first, second):
                torch.testing.assert_close(fast(x), model(x))
    assert not first.report.copies and not second.report.copies


class Overlap(nn.Module):
    """Two calls group the parameters in different ways."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(8))

    def forward(self, x):
        chosen = self.layers if x.shape[0] > 2 else self.layers[2:7]
        return torch.stack([layer(x) for layer in chosen])


def test_groups_that_share_parameters():
    model = models.make(Overlap())
    fast = pfcn.compile(model)
    small, large = torch.randn(2, 3), torch.randn(4, 3)
    with torch.no_grad():
        for x in (small, large, small, large):
            torch.testing.assert_close(fast(x), model(x))
            model.layers[4].weight.add_(1)
            torch.testing.assert_close(fast(x), model(x))
            model.layers[4].weight.data = torch.randn(3, 3)


def test_plans_do_not_keep_replaced_parameters(case):
    gone = weakref.ref(case.weight)
    case.model.models[3][0].weight = nn.Parameter(torch.randn(4, 5))
    case.check()
    gc.collect()
    assert gone() is None


def test_freeze_keeps_what_it_saw():
    case = Case(freeze=True)
    with torch.no_grad():
        expected = case.fast(case.x)
        case.weight.zero_()
        assert torch.equal(case.fast(case.x), expected)
        case.weight.data = torch.randn(4, 5)
        assert torch.equal(case.fast(case.x), expected)


def test_homes_end_with_their_users():
    case = Case()
    home = weakref.ref(case.fast._engine.state.weights)
    result = case.fast(case.x.requires_grad_(False))
    weight = case.weight.detach()
    kept = weight.clone()
    del case.fast
    gc.collect()
    assert home() is None
    case.model = None
    gc.collect()
    assert torch.equal(weight, kept)  # its slot is its own
    assert result is not None


def _change(pick: random.Random, model: models.Slices, held: list[torch.Tensor]) -> None:
    """One thing that people do to a model; `held` is what they keep aside."""
    networks = list(model.models)
    network = pick.choice(networks)
    layer = network[pick.choice([0, 2])]
    weight = layer.weight

    def point_back():
        if held:
            backup = held.pop(pick.randrange(len(held)))
            for other in (each[i] for each in networks for i in (0, 2)):
                if other.weight.shape == backup.shape and pick.random() < 0.3:
                    other.weight.data = backup

    def replace_network():
        fresh = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
        model.models[pick.randrange(len(networks))] = models.make(fresh, pick.randrange(99))

    def swap():
        one, other = pick.sample(networks, 2)
        one[0], other[0] = other[0], one[0]

    def load():
        new = {name: torch.randn_like(p) for name, p in model.named_parameters()}
        model.load_state_dict(new, assign=pick.random() < 0.5)

    actions = [
        lambda: weight.add_(torch.randn_like(weight)),
        lambda: held.append(weight.data),
        lambda: [backup.add_(1) for backup in held],
        lambda: held.clear(),
        lambda: setattr(weight, "data", torch.randn_like(weight)),
        lambda: setattr(weight, "data", weight.data.clone()),
        lambda: setattr(weight, "data", weight.data.t().contiguous().t()),
        lambda: setattr(layer, "weight", nn.Parameter(torch.randn_like(weight))),
        point_back, replace_network, swap, load,
    ]  # fmt: skip
    pick.choice(actions)()


@pytest.mark.parametrize("seed", range(8))
def test_random_changes(seed):
    """The same changes to a compiled model and to another: the same results, the same backups."""
    runs = []
    for is_compiled in (True, False):
        pick = random.Random(seed)
        torch.manual_seed(seed)
        model, x, held = models.make(models.Slices(6)), torch.randn(2, 30), []
        forms = [pfcn.compile(model, (x,)) for _ in range(2)] if is_compiled else [model, model]
        log = []
        with torch.no_grad():
            for _ in range(30):
                _change(pick, model, held)
                log.append(forms[pick.random() < 0.3](x))
                log.append(torch.stack([backup.sum() for backup in held] or [torch.zeros(())]))
        runs.append(log)
    for step, (mine, theirs) in enumerate(zip(*runs, strict=True)):
        torch.testing.assert_close(
            mine, theirs, msg=lambda text, step=step: f"seed {seed}, step {step // 2}: {text}"
        )


@pytest.mark.parametrize(("count", "lanes"), [(16, 16), (17, 16), (40, 16), (9, 8), (5, 4)])
def test_pack_interleaved(count, lanes):
    stacked = torch.randn(count, 3, 2)
    packed = _C.pack_interleaved(stacked, lanes)
    tiles = -(-count // lanes)
    assert packed.shape == (tiles, 6, lanes)
    for tile in range(tiles):
        start = min(tile * lanes, count - lanes)
        for lane in range(lanes):
            assert torch.equal(packed[tile, :, lane], stacked[start + lane].flatten())
