"""The networks that a random bank is made of: what is drawn for each kind, and how it is built."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import formulas
import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from banks import Case

VOCABULARY = 11


class Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
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
    "selu": nn.SELU,
    "softsign": nn.Softsign,
    "prelu": nn.PReLU,
    "log_softmax": lambda: nn.LogSoftmax(dim=-1),
    "softmax": lambda: nn.Softmax(dim=-1),
    "sin": lambda: Call(torch.sin),
    "square": lambda: Call(lambda x: x * x + 0.5),
    "in_place": lambda: Call(lambda x: x.mul(1.5).relu_()),
    "center": lambda: Call(lambda x: x - x.mean(dim=-1, keepdim=True)),
    "normalize": lambda: Call(lambda x: functional.normalize(x + 0.1, dim=-1)),
    "clamp": lambda: Call(lambda x: x.clamp(-0.5, 0.8)),
    # Not in the dialect:
    "cumsum": lambda: Call(lambda x: torch.cumsum(x, -1)),
    "logcumsumexp": lambda: Call(lambda x: torch.logcumsumexp(x.float(), -1).to(x.dtype)),
    "sort": lambda: Call(lambda x: torch.sort(x, -1).values),
    "renorm": lambda: Call(lambda x: torch.renorm(x, 2, 0, 1.0)),
    "digamma": lambda: Call(lambda x: torch.digamma(x.abs() + 1.5)),
}


class Residual(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return x + self.body(x)


class WithHeads(nn.Module):
    """A network, a trunk on top of it and two heads: a group inside a group."""

    def __init__(self, net, out):
        super().__init__()
        self.net = net
        self.trunk = nn.Linear(out, out)
        self.heads = nn.ModuleList(nn.Linear(out, out) for _ in range(2))

    def forward(self, x):
        h = torch.relu(self.trunk(self.net(x)))
        return self.heads[0](h) + torch.tanh(self.heads[1](h))


def tie(nets: nn.ModuleList) -> None:
    """All networks share the first parameter of the first one, where shapes agree."""
    for name, first in nets[0].named_parameters():
        owner, _, leaf = name.rpartition(".")
        for net in list(nets)[1:]:
            mine = dict(net.named_parameters()).get(name)
            if mine is not None and mine.shape == first.shape:
                setattr(net.get_submodule(owner), leaf, first)
        return


# --- Multi-layer perceptrons ---------------------------------------------------------------------


def draw_mlp(case: Case, rng: random.Random) -> None:
    depth = rng.choice([1, 1, 2, 2, 3])
    case.hidden = [rng.choice([1, 2, 3, 5, 8, 15, 16, 17, 33]) for _ in range(depth - 1)]
    for _ in range(depth):
        case.layers.append(
            {
                "activation": rng.choice([*ACTIVATIONS, "", "", "relu", "tanh"]),
                "norm": rng.choice(["", "", "", "layer", "rms"]),
                "residual": rng.random() < 0.2,
                "bias": rng.random() < 0.8,
                "dropout": not case.trains and rng.random() < 0.1,
            }
        )


def make_mlp(case: Case, odd: str, widen: int) -> nn.Module:
    hidden = [h + widen + (odd == "hidden") for h in case.hidden]
    sizes = [case.width, *hidden, case.out]
    modules: list[nn.Module] = []
    for i, layer in enumerate(case.layers):
        linear = nn.Linear(sizes[i], sizes[i + 1], bias=layer["bias"] != (odd == "bias"))
        is_square = sizes[i] == sizes[i + 1]
        modules.append(Residual(linear) if layer["residual"] and is_square else linear)
        # Of two normalised numbers the gradient is a difference that is all rounding.
        is_rounding = case.trains and sizes[i + 1] < 4
        if layer["norm"] and not is_rounding:
            norm = nn.LayerNorm if layer["norm"] == "layer" else nn.RMSNorm
            modules.append(norm(sizes[i + 1]))
        name = "tanh" if odd == "activation" else layer["activation"]
        if name and not (name == "normalize" and is_rounding):
            modules.append(ACTIVATIONS[name]())
        if layer["dropout"]:
            modules.append(nn.Dropout(0.5))
    if odd == "scale":
        modules.append(Call(lambda x: x * 1.25))
    return nn.Sequential(*modules)


# --- Formulas ------------------------------------------------------------------------------------


class Formula(nn.Module):
    def __init__(self, case: Case, odd: str):
        super().__init__()
        self.steps = case.formula[:-1] if odd == "step" and len(case.formula) > 1 else case.formula
        if case.torch_dtype.is_floating_point:
            self.weight = nn.Parameter(torch.randn(case.width))
        else:
            low = 0 if case.dtype == "uint8" else -9
            drawn = torch.randint(low, 10, (case.width,)).to(case.torch_dtype)
            self.register_buffer("weight", drawn)

    def forward(self, x):
        return formulas.run(self.steps, x, self.weight)


# --- Convolutions --------------------------------------------------------------------------------


def draw_convolution(case: Case, rng: random.Random) -> None:
    case.width = rng.choice([1, 1, 2, 3, 4])
    case.length = rng.choice([4, 5, 7, 8])
    case.batch = min(case.batch, 5)
    for _ in range(rng.choice([1, 1, 2])):
        case.hidden.append(rng.choice([1, 2, 4, 6, 8]))
        case.layers.append(
            {
                "kernel": rng.choice([1, 2, 3]),
                "stride": rng.choice([1, 1, 2]),
                "padding": rng.choice([0, 1]),
                "dilation": rng.choice([1, 1, 1, 2]),
                "depthwise": rng.random() < 0.2,
                "transposed": rng.random() < 0.1,
                "mode": rng.choice(["zeros"] * 4 + ["reflect", "circular"]),
                "bias": rng.random() < 0.7,
                "norm": rng.choice(["", "", "batch", "group", "instance"]),
                "activation": rng.choice(["relu", "tanh", "gelu", "", "leaky_relu"]),
                "pool": rng.choice(["", "", "max", "avg", "adaptive"]),
            }
        )


def make_convolution(case: Case, odd: str, widen: int) -> nn.Module:
    dims = 1 if case.body == "conv1d" else 2
    suffix = f"{dims}d"
    modules: list[nn.Module] = []
    channels = case.width
    for layer, hidden in zip(case.layers, case.hidden, strict=True):
        out = hidden + widen + (odd == "hidden")
        groups = 1
        if layer["depthwise"]:
            out, groups = channels * 2, channels
        kind = getattr(nn, ("ConvTranspose" if layer["transposed"] else "Conv") + suffix)
        modules.append(
            kind(
                channels,
                out,
                layer["kernel"],
                stride=layer["stride"],
                padding=min(layer["padding"], layer["kernel"] - 1),
                dilation=layer["dilation"],
                groups=groups,
                bias=layer["bias"] != (odd == "bias"),
                padding_mode="zeros" if layer["transposed"] else layer["mode"],
            )
        )
        channels = out
        norm = {
            "batch": getattr(nn, "BatchNorm" + suffix),
            "instance": getattr(nn, "InstanceNorm" + suffix),
        }.get(layer["norm"])
        if layer["norm"] == "group" and not case.trains:
            modules.append(nn.GroupNorm(2 if channels % 2 == 0 else 1, channels))
        elif norm is not None and not (layer["norm"] == "instance" and case.trains):
            modules.append(norm(channels))
        name = "tanh" if odd == "activation" else layer["activation"]
        if name:
            modules.append(ACTIVATIONS[name]())
        pools = {
            "max": lambda: getattr(nn, "MaxPool" + suffix)(2, padding=1),
            "avg": lambda: getattr(nn, "AvgPool" + suffix)(2, ceil_mode=True),
            "adaptive": lambda: getattr(nn, "AdaptiveAvgPool" + suffix)(3),
        }
        if layer["pool"]:
            modules.append(pools[layer["pool"]]())
    modules.append(nn.Flatten())
    with torch.no_grad(), torch.random.fork_rng():
        example = torch.zeros(1, case.width, *[case.length] * dims)
        size = nn.Sequential(*modules).eval()(example).shape[1]
    return nn.Sequential(*modules, nn.Linear(size, case.out))


# --- Sequences -----------------------------------------------------------------------------------


class Last(nn.Module):
    """The last step of a sequence, through a linear layer."""

    def __init__(self, body, size, out, takes_first):
        super().__init__()
        self.body, self.takes_first = body, takes_first
        self.head = nn.Linear(size, out)

    def forward(self, x):
        y = self.body(x)
        return self.head((y[0] if self.takes_first else y)[:, -1])


class SelfAttention(nn.Module):
    def __init__(self, width, heads, kind):
        super().__init__()
        self.kind, self.heads = kind, heads
        if kind == "module":
            self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        else:
            self.project = nn.Linear(width, 3 * width)

    def forward(self, x):
        if self.kind == "module":
            return self.attention(x, x, x, need_weights=False)[0]
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.project(x).chunk(3, dim=-1)
        )
        if self.kind == "written":
            scores = (q @ k.transpose(-1, -2)) / q.shape[-1] ** 0.5
            y = torch.softmax(scores, dim=-1) @ v
        else:
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=self.kind == "causal")
        return y.transpose(1, 2).flatten(2)


def draw_attention(case: Case, rng: random.Random) -> None:
    heads = rng.choice([1, 2, 4])
    case.width = heads * rng.choice([1, 2, 4, 5])
    case.length = rng.choice([1, 2, 5, 8])
    case.batch = min(case.batch, 5)
    kinds = ["module", "function", "causal", "written", "encoder"]
    case.layers = [{"kind": rng.choice(kinds), "heads": heads, "hidden": rng.choice([3, 8])}]


def make_attention(case: Case, odd: str, widen: int) -> nn.Module:
    (layer,) = case.layers
    if layer["kind"] == "encoder":
        body: nn.Module = nn.TransformerEncoderLayer(
            case.width, layer["heads"], layer["hidden"] + widen + (odd == "hidden"),
            dropout=0.0, batch_first=True, norm_first=odd == "order",
        )  # fmt: skip
    else:
        body = Residual(SelfAttention(case.width, layer["heads"], layer["kind"]))
        if odd == "order":
            body = nn.Sequential(nn.LayerNorm(case.width), body)
    return Last(body, case.width, case.out, takes_first=False)


def draw_recurrence(case: Case, rng: random.Random) -> None:
    case.width = rng.choice([1, 2, 4, 5, 8])
    case.length = rng.choice([1, 2, 5, 9, 34])
    case.batch = min(case.batch, 5)
    case.hidden = [rng.choice([1, 3, 8, 16])]
    case.layers = [
        {
            "kind": rng.choice(["LSTM", "GRU", "RNN"]),
            "depth": rng.choice([1, 1, 2]),
            "bidirectional": rng.random() < 0.2,
            "bias": rng.random() < 0.8,
        }
    ]


def make_recurrence(case: Case, odd: str, widen: int) -> nn.Module:
    (layer,) = case.layers
    hidden = case.hidden[0] + widen + (odd == "hidden")
    body = getattr(nn, layer["kind"])(
        case.width,
        hidden,
        num_layers=layer["depth"],
        bidirectional=layer["bidirectional"],
        bias=layer["bias"] != (odd == "bias"),
        batch_first=True,
    )
    size = hidden * (2 if layer["bidirectional"] else 1)
    return Last(body, size, case.out, takes_first=True)


# --- Embeddings ----------------------------------------------------------------------------------


class Embedded(nn.Module):
    def __init__(self, case: Case, size: int):
        super().__init__()
        bag = case.layers[0]["bag"]
        self.table = nn.EmbeddingBag(VOCABULARY, size) if bag else nn.Embedding(VOCABULARY, size)
        self.head = nn.Linear(size if bag else size * case.width, case.out)

    def forward(self, x):
        return self.head(torch.relu(self.table(x).flatten(1)))


def draw_embedding(case: Case, rng: random.Random) -> None:
    case.width = rng.choice([1, 2, 4])
    case.hidden = [rng.choice([1, 3, 8])]
    case.layers = [{"bag": rng.random() < 0.3}]


def make_embedding(case: Case, odd: str, widen: int) -> nn.Module:
    return Embedded(case, case.hidden[0] + widen + (odd == "hidden"))


# --- All -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Body:
    draw: Callable[[Case, random.Random], None]
    make: Callable[[Case, str, int], nn.Module]
    odd: tuple[str, ...]
    shape: Callable[[Case, int, int], tuple[int, ...]] = lambda case, batch, size: (batch, size)


def sequence(case: Case, batch: int, size: int) -> tuple[int, ...]:
    return batch, case.length, size


def draw_nothing(case: Any, rng: random.Random) -> None:
    pass


BODIES: dict[str, Body] = {
    "mlp": Body(draw_mlp, make_mlp, ("activation", "hidden", "bias", "scale")),
    "formula": Body(draw_nothing, lambda case, odd, widen: Formula(case, odd), ("step",)),
    "conv1d": Body(
        draw_convolution,
        make_convolution,
        ("activation", "hidden", "bias"),
        lambda case, batch, size: (batch, size, case.length),
    ),
    "conv2d": Body(
        draw_convolution,
        make_convolution,
        ("activation", "hidden", "bias"),
        lambda case, batch, size: (batch, size, case.length, case.length),
    ),
    "attention": Body(draw_attention, make_attention, ("hidden", "order"), sequence),
    "recurrent": Body(draw_recurrence, make_recurrence, ("hidden", "bias"), sequence),
    "embedding": Body(draw_embedding, make_embedding, ("hidden",)),
}
