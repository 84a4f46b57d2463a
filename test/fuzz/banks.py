"""Random banks of networks, as people write them, for comparing pfcn with eager.

A case is one seed: how many networks, what each is made of, where its input comes from, what joins
the results, and what is out of line (another width here, another activation there). `build(seed)`
always gives the same model and inputs.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import torch
from torch import nn

ACTIVATIONS = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "leaky_relu": lambda: nn.LeakyReLU(0.1),
    "hardswish": nn.Hardswish,
    "mish": nn.Mish,
    "softmax": lambda: nn.Softmax(dim=-1),
    "sin": lambda: Call(torch.sin),
    "square": lambda: Call(lambda x: x * x + 0.5),
    "cumsum": lambda: Call(lambda x: torch.cumsum(x, -1)),  # not in the dialect
    "sort": lambda: Call(lambda x: torch.sort(x, -1).values),
    "in_place": lambda: Call(lambda x: x.mul(1.5).relu_()),
    "center": lambda: Call(lambda x: x - x.mean(dim=-1, keepdim=True)),
    "clamp": lambda: Call(lambda x: x.clamp(-0.5, 0.8)),
}
JOINS = [
    "cat",
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
    "chunk_reversed",
]


class Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Residual(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return x + self.body(x)


class MultiHead(nn.Module):
    """A trunk and two heads: a group inside a group."""

    def __init__(self, width, out):
        super().__init__()
        self.trunk = nn.Linear(width, width)
        self.heads = nn.ModuleList(nn.Linear(width, out) for _ in range(2))

    def forward(self, x):
        h = torch.relu(self.trunk(x))
        return torch.cat([head(h) for head in self.heads], dim=-1)


@dataclass
class Case:
    seed: int
    count: int
    width: int
    hidden: list
    out: int
    layers: list
    source: str
    join: str
    batch: int
    dtype: torch.dtype
    odd: dict = field(default_factory=dict)
    trunk: bool = False
    tied: bool = False
    interleaved: bool = False
    multi_head: bool = False

    def __str__(self):
        return ", ".join(f"{k}={v}" for k, v in vars(self).items() if v not in (False, {}, None))


def draw(seed: int) -> Case:
    rng = random.Random(seed)
    depth = rng.choice([1, 1, 2, 2, 3])
    hidden = [rng.choice([1, 2, 3, 5, 8, 15, 16, 17, 33]) for _ in range(depth - 1)]
    layers = []
    for _ in range(depth):
        layers.append(
            {
                "activation": rng.choice([*ACTIVATIONS, None, None, "relu", "tanh"]),
                "norm": rng.random() < 0.2,
                "residual": rng.random() < 0.2,
                "bias": rng.random() < 0.8,
                "dropout": rng.random() < 0.1,
            }
        )
    count = rng.choice([1, 2, 3, 4, 7, 8, 15, 16, 17, 33])
    case = Case(
        seed=seed,
        count=count,
        width=rng.choice([1, 2, 4, 5, 8, 15, 16, 17, 20]),
        hidden=hidden,
        out=rng.choice([1, 1, 2, 3, 4, 16]),
        layers=layers,
        source=rng.choice(SOURCES),
        join=rng.choice(JOINS),
        batch=rng.choice([1, 1, 2, 3, 15, 16, 17, 33]),
        dtype=rng.choice(
            [torch.float32, torch.float32, torch.float32, torch.float64, torch.bfloat16]
        ),
        trunk=rng.random() < 0.15,
        tied=rng.random() < 0.15,
        interleaved=rng.random() < 0.15,
        multi_head=rng.random() < 0.1,
    )
    if rng.random() < 0.2 and count > 2:
        case.odd = {rng.randrange(count): rng.choice(["activation", "hidden", "bias", "scale"])}
    return case


def make_network(case: Case, index: int) -> nn.Module:
    odd = case.odd.get(index)
    hidden = [h + 1 if odd == "hidden" else h for h in case.hidden]
    if case.interleaved and index % 2:
        hidden = [h + 2 for h in hidden]
    sizes = [case.width, *hidden, case.out]
    modules: list[nn.Module] = []
    for i, layer in enumerate(case.layers):
        bias = layer["bias"] != (odd == "bias")
        linear = nn.Linear(sizes[i], sizes[i + 1], bias=bias)
        modules.append(
            Residual(linear) if layer["residual"] and sizes[i] == sizes[i + 1] else linear
        )
        if layer["norm"]:
            modules.append(nn.LayerNorm(sizes[i + 1]))
        name = "tanh" if odd == "activation" else layer["activation"]
        if name:
            modules.append(ACTIVATIONS[name]())
        if layer["dropout"]:
            modules.append(nn.Dropout(0.5))
    if odd == "scale":
        modules.append(Call(lambda x: x * 1.25))
    if case.multi_head:
        modules.append(MultiHead(case.out, case.out))
    return nn.Sequential(*modules)


class Bank(nn.Module):
    def __init__(self, case: Case):
        super().__init__()
        self.case = case
        self.nets = nn.ModuleList(make_network(case, i) for i in range(case.count))
        if case.tied and case.count > 1:
            first = self.nets[0][0]
            for net in self.nets[1:]:
                if isinstance(first, nn.Linear) and net[0].weight.shape == first.weight.shape:
                    net[0].weight = first.weight
        if case.trunk:
            size = self.input_features()
            self.trunk = nn.Linear(size, size)
        self.weights = nn.Parameter(torch.linspace(0.5, 1.5, case.count))
        self.register_buffer("order", torch.arange(case.count * case.width).flip(0))

    def input_features(self):
        if self.case.source in ("shared", "list"):
            return self.case.width
        return self.case.count * self.case.width + self.case.width

    def inputs_of(self, x):
        case, w, n = self.case, self.case.width, self.case.count
        if case.source == "list":
            return list(x)
        if case.trunk:
            x = self.trunk(x)
        if case.source == "shared":
            return [x] * n
        if case.source == "slice":
            return [x[:, i * w : (i + 1) * w] for i in range(n)]
        if case.source == "overlap":
            step = max(1, w // 2)
            return [x[:, i * step : i * step + w] for i in range(n)]
        used = x[:, : n * w]
        if case.source == "split":
            return list(torch.split(used, w, dim=1))
        if case.source == "chunk_reversed":
            return list(torch.chunk(used, n, dim=1))[::-1]
        if case.source == "unbind":
            return list(used.reshape(-1, n, w).unbind(1))
        if case.source == "select":
            return [used.reshape(-1, w, n)[:, :, i] for i in range(n)]
        columns = self.order.reshape(n, w)
        return [used[:, columns[i]] for i in range(n)]

    def forward(self, x):
        ys = [net(part) for net, part in zip(self.nets, self.inputs_of(x), strict=True)]
        join = self.case.join
        if join == "cat":
            return torch.cat(ys, dim=1)
        if join == "stack0":
            return torch.stack(ys)
        if join == "stack1":
            return torch.stack(ys, dim=1)
        if join == "stack_last":
            return torch.stack(ys, dim=-1)
        if join == "sum":
            return torch.stack(ys).sum(0)
        if join == "mean":
            return torch.stack(ys).mean(0)
        if join == "max":
            return torch.stack(ys).amax(0)
        if join == "left_fold":
            return sum(ys)
        if join == "weighted":
            return sum(y * self.weights[i].to(y.dtype) for i, y in enumerate(ys))
        if join == "dict":
            return {f"y{i}": y for i, y in enumerate(ys)}
        if join == "write":
            out = torch.zeros(ys[0].shape[0], len(ys), ys[0].shape[1], dtype=ys[0].dtype)
            for i, y in enumerate(ys):
                out[:, i] = y
            return out
        return ys


def make_inputs(model: Bank, batch: int, generator: torch.Generator):
    case = model.case
    size = model.input_features()

    def draw(rows, columns):
        return torch.randn(rows, columns, generator=generator, dtype=torch.float64).to(case.dtype)

    def tensor(features):
        if case.seed % 3 == 1:  # not contiguous
            return draw(features, batch).t()
        if case.seed % 3 == 2:
            return draw(batch, features + 3)[:, 3:]
        return draw(batch, features)

    if case.source == "list":
        return ([tensor(size) for _ in range(case.count)],)
    return (tensor(size),)


def build(seed: int):
    """The case, its model in eval mode, and inputs of two batch sizes."""
    case = draw(seed)
    torch.manual_seed(seed)
    model = Bank(case).to(case.dtype).eval()
    generator = torch.Generator().manual_seed(seed)
    other = case.batch + 1 if case.batch != 1 else 5
    return case, model, [make_inputs(model, batch, generator) for batch in (case.batch, other)]
