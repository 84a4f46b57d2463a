"""Random banks of networks, as people write them, for comparing pfcn with eager.

A case is a few fields, drawn from a seed: how many networks, what each is made of, where its input
comes from, what joins the results, what is out of line (another width here, another activation
there), and how the model is used. The fields and the seed of the weights make the same model and
inputs each time, so a case can be made smaller by changing fields (see `reduce.py`).
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field
from typing import Any

import formulas
import networks
import torch
from torch import nn

JOINS = [
    "cat",
    "cat_head",
    "stack0",
    "stack1",
    "stack_last",
    "sum",
    "mean",
    "list",
    "dict",
    "left_fold",
    "max",
    "weighted",
    "gated",
    "pairs",
    "write",
]
SOURCES = [
    "slice",
    "shared",
    "list",
    "split",
    "unbind",
    "select",
    "index",
    "overlap",
    "stride",
    "chunk_reversed",
]
MODES = ["eval", "freeze", "train", "stacked", "traced", "exported", "dynamo"]
EDITS = ["in_place", "data", "replace", "load"]  # what happens to the weights between two calls
INTEGERS = ["int64", "int32", "int16", "int8", "uint8"]


@dataclass
class Case:
    seed: int
    mode: str = "eval"
    body: str = "mlp"
    count: int = 2
    width: int = 1
    out: int = 1
    batch: int = 1
    length: int = 4  # of a sequence, or the side of an image
    hidden: list = field(default_factory=list)
    layers: list = field(default_factory=list)
    formula: list = field(default_factory=list)
    source: str = "slice"
    join: str = "list"
    dtype: str = "float32"
    layout: str = "plain"
    odd: dict = field(default_factory=dict)
    trunk: bool = False
    tied: bool = False
    interleaved: bool = False
    multi_head: bool = False
    edit: str = ""

    def __str__(self) -> str:
        return ", ".join(f"{k}={v}" for k, v in self.fields().items())

    def fields(self) -> dict[str, Any]:
        return {
            k: v for k, v in asdict(self).items() if k == "seed" or v not in (False, {}, [], "")
        }

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    @property
    def trains(self) -> bool:
        return self.mode in ("train", "stacked")

    @property
    def feature_dim(self) -> int:
        return 2 if self.body in ("attention", "recurrent") else 1


def draw(seed: int) -> Case:
    rng = random.Random(seed)
    body = rng.choices(list(networks.BODIES), [8, 4, 2, 2, 2, 2, 1])[0]
    case = Case(
        seed=seed,
        mode=rng.choices(MODES, [40, 15, 30, 10, 3, 1, 1])[0],
        body=body,
        count=rng.choice([1, 2, 3, 4, 7, 8, 15, 16, 17, 33]),
        width=rng.choice([1, 2, 4, 5, 8, 15, 16, 17, 20]),
        out=rng.choice([1, 1, 2, 3, 4, 16]),
        batch=rng.choice([1, 1, 2, 3, 15, 16, 17, 33]),
        source=rng.choice(SOURCES),
        join=rng.choice(JOINS),
        dtype=rng.choices(["float32", "float64", "bfloat16", "float16"], [6, 2, 1, 1])[0],
        layout=rng.choice(["plain", "transposed", "offset", "expanded"]),
        trunk=rng.random() < 0.15,
        tied=rng.random() < 0.15,
        interleaved=rng.random() < 0.15,
        multi_head=rng.random() < 0.1,
    )
    networks.BODIES[body].draw(case, rng)
    if body == "formula":
        if rng.random() < 0.3:
            case.dtype, case.trunk = rng.choice(INTEGERS), False
        case.formula = formulas.draw(rng, case.torch_dtype)
        case.multi_head, case.out = False, case.width
    if not case.torch_dtype.is_floating_point or body == "embedding":
        case.trunk = False
    if not case.torch_dtype.is_floating_point and case.mode != "freeze":
        case.mode = "eval"
    if case.trains and case.dtype in ("bfloat16", "float16"):
        case.dtype = "float32"  # a rounding that moves a kink moves a gradient
    if case.mode in ("exported", "dynamo"):
        case.count = min(case.count, 8)  # torch's own part takes seconds
    if case.mode == "traced" and case.join == "pairs":
        case.count = max(case.count, 2)  # tracing takes no empty list of results
    if case.mode == "eval" and rng.random() < 0.3:
        case.edit = rng.choice(EDITS)
    if rng.random() < 0.2 and case.count > 2:
        kinds = networks.BODIES[body].odd
        case.odd = {str(rng.randrange(case.count)): rng.choice(kinds)} if kinds else {}
    return case


class Bank(nn.Module):
    def __init__(self, case: Case):
        super().__init__()
        self.case = case
        self.nets = nn.ModuleList(self.make_network(i) for i in range(case.count))
        if case.tied:
            networks.tie(self.nets)
        if case.trunk:
            size = self.input_features()
            self.trunk = nn.Linear(size, size)
        self.weights = nn.Parameter(torch.linspace(0.5, 1.5, case.count))
        if case.join == "gated":
            self.gates = nn.Parameter(torch.linspace(-1, 1, case.count))
        if case.join == "cat_head":
            self.head = nn.Linear(case.count * case.out, 2)
        self.register_buffer("order", torch.arange(case.count * case.width).flip(0))

    def make_network(self, index: int) -> nn.Module:
        case = self.case
        widen = 2 if case.interleaved and index % 2 else 0
        net = networks.BODIES[case.body].make(case, case.odd.get(str(index), ""), widen)
        return networks.WithHeads(net, case.out) if case.multi_head else net

    def input_features(self) -> int:
        if self.case.source in ("shared", "list"):
            return self.case.width
        return self.case.count * self.case.width + self.case.width

    def inputs_of(self, x) -> list:
        case, w, n, d = self.case, self.case.width, self.case.count, self.case.feature_dim
        if case.source == "list":
            return list(x)
        if case.trunk:
            x = self.trunk(x.movedim(d, -1)).movedim(-1, d)
        if case.source == "shared":
            return [x] * n
        if case.source == "slice":
            return [x.narrow(d, i * w, w) for i in range(n)]
        if case.source == "overlap":
            step = max(1, w // 2)
            return [x.narrow(d, i * step, w) for i in range(n)]
        used = x.narrow(d, 0, n * w)
        before = (slice(None),) * d
        if case.source == "split":
            return list(torch.split(used, w, dim=d))
        if case.source == "chunk_reversed":
            return list(torch.chunk(used, n, dim=d))[::-1]
        if case.source == "unbind":
            return list(used.unflatten(d, (n, w)).unbind(d))
        if case.source == "select":
            return [used.unflatten(d, (w, n)).select(d + 1, i) for i in range(n)]
        if case.source == "stride":
            return [used[(*before, slice(i, None, n))] for i in range(n)]
        columns = self.order.reshape(n, w)
        return [used[(*before, columns[i])] for i in range(n)]

    def forward(self, x):
        ys = [net(part) for net, part in zip(self.nets, self.inputs_of(x), strict=True)]
        return getattr(self, "join_" + self.case.join, lambda ys: ys)(ys)

    def join_cat(self, ys):
        return torch.cat(ys, dim=1)

    def join_cat_head(self, ys):
        return self.head(torch.cat(ys, dim=-1).to(self.head.weight.dtype))

    def join_stack0(self, ys):
        return torch.stack(ys)

    def join_stack1(self, ys):
        return torch.stack(ys, dim=1)

    def join_stack_last(self, ys):
        return torch.stack(ys, dim=-1)

    def join_sum(self, ys):
        return torch.stack(ys).sum(0)

    def join_mean(self, ys):
        return torch.stack(ys).to(self.weights.dtype).mean(0)

    def join_max(self, ys):
        return torch.stack(ys).amax(0)

    def join_left_fold(self, ys):
        return sum(ys)

    def join_weighted(self, ys):
        return sum(y * self.weights[i].to(y.dtype) for i, y in enumerate(ys))

    def join_gated(self, ys):
        gates = torch.softmax(self.gates, 0)
        return torch.stack([y * gates[i] for i, y in enumerate(ys)], dim=1).sum(1)

    def join_pairs(self, ys):
        return [torch.minimum(a, b) for a, b in zip(ys[::2], ys[1::2])]

    def join_dict(self, ys):
        return {f"y{i}": y for i, y in enumerate(ys)}

    def join_write(self, ys):
        out = torch.zeros(ys[0].shape[0], len(ys), *ys[0].shape[1:], dtype=ys[0].dtype)
        for i, y in enumerate(ys):
            out[:, i] = y
        return out


def make_inputs(model: Bank, batch: int, generator: torch.Generator) -> tuple:
    case = model.case

    def fill(*shape):
        if case.body == "embedding":
            return torch.randint(0, networks.VOCABULARY, shape, generator=generator)
        if not case.torch_dtype.is_floating_point:
            low = 0 if case.dtype == "uint8" else -9
            return torch.randint(low, 10, shape, generator=generator).to(case.torch_dtype)
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
        return drawn.to(case.torch_dtype)

    def tensor():
        shape = networks.BODIES[case.body].shape(case, batch, model.input_features())
        if case.layout == "transposed":
            return fill(*reversed(shape)).permute(*reversed(range(len(shape))))
        if case.layout == "offset":
            return fill(*shape[:-1], shape[-1] + 3)[..., 3:]
        if case.layout == "expanded":
            return fill(1, *shape[1:]).expand(*shape)
        return fill(*shape)

    if case.source == "list":
        return ([tensor() for _ in range(case.count)],)
    return (tensor(),)


def build(case: Case) -> tuple[Bank, list[tuple]]:
    """The model of a case and inputs of two batch sizes."""
    torch.manual_seed(case.seed)
    model = Bank(case)
    if case.torch_dtype.is_floating_point:
        model = model.to(case.torch_dtype)
    model.train(case.trains)
    generator = torch.Generator().manual_seed(case.seed)
    other = case.batch + 1 if case.batch != 1 else 5
    return model, [make_inputs(model, batch, generator) for batch in (case.batch, other)]
