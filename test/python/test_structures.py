"""Every way in which people write many networks side by side: what is fused, and the same results.

A case gives a model, its inputs, and how many instances each group has.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from pfcn.testing import assert_matches

N, BATCH, IN, HIDDEN, OUT = 12, 3, 5, 7, 3

Case = tuple[nn.Module, tuple, list[int]]
CASES: dict[str, Callable[[], Case]] = {}


def case(make: Callable[[], Case]) -> Callable[[], Case]:
    CASES[make.__name__] = make
    return make


def net(inputs=IN, hidden=HIDDEN, outputs=OUT):
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def nets(count=N, **sizes):
    return nn.ModuleList(net(**sizes) for _ in range(count))


class Model(nn.Module):
    """A forward as a function of the model and its inputs."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.call = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args):
        return self.call(self, *args)


def part(x, i, width=IN):
    return x[:, i * width : (i + 1) * width]


def wide():
    return (torch.randn(BATCH, N * IN),)


def narrow():
    return (torch.randn(BATCH, IN),)


# --- Where instances read ------------------------------------------------------------------------


@case
def slices():
    return (
        Model(lambda m, x: torch.cat([f(part(x, i)) for i, f in enumerate(m.f)], 1), f=nets()),
        wide(),
        [N],
    )


@case
def split():
    return (
        Model(lambda m, x: torch.cat([f(p) for f, p in zip(m.f, x.split(IN, 1))], 1), f=nets()),
        wide(),
        [N],
    )


@case
def chunk():
    return (
        Model(lambda m, x: torch.cat([f(p) for f, p in zip(m.f, x.chunk(N, 1))], 1), f=nets()),
        wide(),
        [N],
    )


@case
def shared_input():
    return Model(lambda m, x: torch.stack([f(x) for f in m.f]), f=nets()), narrow(), [N]


@case
def list_of_inputs():
    own = ([torch.randn(BATCH, IN) for _ in range(N)],)
    return Model(lambda m, xs: [f(x) for f, x in zip(m.f, xs)], f=nets()), own, [N]


@case
def tuple_of_inputs():
    own = (tuple(torch.randn(BATCH, IN) for _ in range(N)),)
    return Model(lambda m, xs: tuple(f(x) for f, x in zip(m.f, xs)), f=nets()), own, [N]


@case
def dict_of_inputs():
    own = ({f"agent_{i}": torch.randn(BATCH, IN) for i in range(N)},)
    return Model(lambda m, xs: {k: f(xs[k]) for k, f in zip(xs, m.f)}, f=nets()), own, [N]


@case
def stacked_inputs():
    x = (torch.randn(N, BATCH, IN),)
    return Model(lambda m, x: torch.stack([f(x[i]) for i, f in enumerate(m.f)]), f=nets()), x, [N]


@case
def unbound_inputs():
    x = (torch.randn(BATCH, N, IN),)
    return Model(lambda m, x: [f(p) for f, p in zip(m.f, x.unbind(1))], f=nets()), x, [N]


@case
def gathered_by_lists():
    columns = [torch.randperm(20)[:IN].tolist() for _ in range(N)]
    return (
        Model(lambda m, x: torch.cat([f(x[:, c]) for f, c in zip(m.f, columns)], 1), f=nets()),
        (torch.randn(BATCH, 20),),
        [N],
    )


@case
def slice_read_twice():
    return (
        Model(lambda m, x: [f(part(x, i // 2)) for i, f in enumerate(m.f)], f=nets()),
        wide(),
        [N],
    )


# --- Where their weights are ---------------------------------------------------------------------


@case
def module_dict():
    members = nn.ModuleDict({f"asset_{i}": net() for i in range(N)})
    return Model(lambda m, x: [f(x) for f in m.f.values()], f=members), narrow(), [N]


@case
def parameter_list():
    weights = nn.ParameterList(torch.randn(IN, OUT) for _ in range(N))
    biases = nn.ParameterList(torch.randn(OUT) for _ in range(N))
    return (
        Model(lambda m, x: [torch.tanh(x @ w + b) for w, b in zip(m.w, m.b)], w=weights, b=biases),
        narrow(),
        [N],
    )


@case
def attributes():
    members = {f"net_{i}": net() for i in range(N)}
    return Model(lambda m, x: [getattr(m, k)(x) for k in members], **members), narrow(), [N]


@case
def tied_layer():
    members = nets()
    for member in members[1:]:
        member[2] = members[0][2]
    return Model(lambda m, x: torch.stack([f(x) for f in m.f]), f=members), narrow(), [N]


@case
def weight_norm():
    norm = nn.utils.parametrizations.weight_norm
    members = nn.ModuleList(nn.Sequential(norm(nn.Linear(IN, 4)), nn.ReLU()) for _ in range(N))
    return Model(lambda m, x: torch.stack([f(x) for f in m.f]), f=members), narrow(), [N]


@case
def scalars_differ():
    return (
        Model(lambda m, x: [f(x * (0.5 + i)) + i for i, f in enumerate(m.f)], f=nets()),
        narrow(),
        [N],
    )


# --- How results are joined ----------------------------------------------------------------------


@case
def mean_of_stack():
    return Model(lambda m, x: torch.stack([f(x) for f in m.f]).mean(0), f=nets()), narrow(), [N]


@case
def max_of_stack():
    return (
        Model(lambda m, x: torch.stack([f(x) for f in m.f]).max(0).values, f=nets()),
        narrow(),
        [N],
    )


@case
def python_sum():
    return Model(lambda m, x: sum(f(x) for f in m.f), f=nets()), narrow(), [N]


@case
def weighted_sum():
    weights = nn.Parameter(torch.rand(N))
    return (
        Model(lambda m, x: sum(w * f(x) for w, f in zip(m.w, m.f)), f=nets(), w=weights),
        narrow(),
        [N],
    )


@case
def total_of_a_loop():
    def forward(m, x):
        total = torch.zeros(BATCH, OUT)
        for f in m.f:
            total = total + f(x)
        return total

    return Model(forward, f=nets()), narrow(), [N]


@case
def running_minimum():
    def forward(m, x):
        least = m.f[0](x)
        for f in m.f[1:]:
            least = torch.min(least, f(x))
        return least

    return Model(forward, f=nets()), narrow(), [N]


@case
def written_into_zeros():
    def forward(m, x):
        out = torch.zeros(BATCH, N)
        for i, f in enumerate(m.f):
            out[:, i] = f(part(x, i)).squeeze(1)
        return out

    return Model(forward, f=nets(outputs=1)), wide(), [N]


@case
def used_one_by_one():
    return (
        Model(lambda m, x: [f(x).exp() if i == 3 else f(x) for i, f in enumerate(m.f)], f=nets()),
        narrow(),
        [N],
    )


# --- Which instances there are -------------------------------------------------------------------


@case
def chosen_subset():
    return (
        Model(lambda m, x: torch.stack([m.f[i](x) for i in (1, 4, 7, 8, 11)]), f=nets()),
        narrow(),
        [5],
    )


@case
def two_classes_interleaved():
    members = nn.ModuleList(net(hidden=7 if i % 2 else 9) for i in range(N))
    return Model(lambda m, x: [f(x) for f in m.f], f=members), narrow(), [N // 2, N // 2]


@case
def heads_in_one_net():
    return (
        Model(
            lambda m, x: torch.cat([h(torch.relu(m.trunk(x))) for h in m.heads], 1),
            trunk=nn.Linear(IN, 6),
            heads=nets(4, inputs=6),
        ),
        narrow(),
        [4],
    )


@case
def ensemble_of_multi_head_nets():
    """The members are the instances; their heads are part of the body."""

    def member():
        return Model(
            lambda m, x: torch.cat([h(torch.relu(m.trunk(x))) for h in m.heads], 1),
            trunk=net(outputs=6),
            heads=nn.ModuleList(nn.Linear(6, 2) for _ in range(4)),
        )

    members = nn.ModuleList(member() for _ in range(N))
    return Model(lambda m, x: torch.stack([f(x) for f in m.f]), f=members), narrow(), [N]


@case
def trunk_before_and_after():
    return (
        Model(
            lambda m, x: m.after(torch.cat([f(m.before(x)) for f in m.f], 1)),
            before=nn.Linear(9, IN),
            f=nets(),
            after=nn.Linear(N * OUT, 4),
        ),
        (torch.randn(BATCH, 9),),
        [N],
    )


@case
def repeated_layers_depend_on_each_other():
    layers = (nn.Sequential(nn.Linear(6, 6), nn.ReLU()) for _ in range(N))
    return nn.Sequential(*layers), (torch.randn(BATCH, 6),), []


@pytest.mark.parametrize("name", CASES)
def test_structure(name):
    torch.manual_seed(len(name))
    model, inputs, groups = CASES[name]()
    fast = assert_matches(model.eval(), inputs)
    assert [group.instances for group in fast.report.groups] == groups
    assert fast.report.launches == len(groups)
    assert not fast.report.eager


@pytest.mark.parametrize(
    "name", ["slices", "shared_input", "mean_of_stack", "python_sum", "total_of_a_loop"]
)
def test_no_step_per_instance(name):
    """What reads slices of one tensor, and is joined into one, has no step of its own."""
    model, inputs, _ = CASES[name]()
    steps = assert_matches(model.eval(), inputs).report.steps
    assert len(steps) <= 4, steps
