"""Banks of layers that are no Linear: a convolution, an LSTM, attention and layer normalisation for
each of n instances, and every rewrite by hand that is at hand for them.

Each instance reads its own slice of the input, and the results are joined along the same dimension.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from . import systems
from .workload import Call, Cost, System, Workload


class Sliced(nn.Module):
    """n modules side by side along `dim`, each on an n-th of its input."""

    def __init__(self, make: Callable[[], nn.Module], n: int, dim: int):
        super().__init__()
        self.models = nn.ModuleList(make() for _ in range(n))
        self.dim = dim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        width = x.shape[self.dim] // len(self.models)
        parts = [m(x.narrow(self.dim, i * width, width)) for i, m in enumerate(self.models)]
        return torch.cat(parts, dim=self.dim)


def stack(model: Sliced, name: str) -> torch.Tensor:
    """A parameter of all instances in one tensor, [n, …]."""
    return torch.stack([m.get_parameter(name) for m in model.models])


def vmap(model: Sliced, x: torch.Tensor) -> Call:
    """torch.func.stack_module_state and vmap, over instances of the input viewed apart."""
    n, dim = len(model.models), model.dim
    networks = systems.vmapped(list(model.models), in_dim=dim, out_dim=dim)
    return lambda x: networks(x.unflatten(dim, (n, -1))).flatten(dim, dim + 1)


def with_compile(systems_by_hand: list[System]) -> list[System]:
    """Also under torch.compile, which takes its time; and pfcn."""

    def compiled(setup: Callable[..., Call]) -> Callable[..., Call]:
        return lambda model, x: systems.compiled(setup(model, x))

    return [
        System("eager loop", systems.eager),
        *systems_by_hand,
        *(
            System(f"torch.compile({s.name})", compiled(s.setup), slow=True)
            for s in systems_by_hand
        ),
        System("pfcn (live weights)", systems.pfcn(freeze=False)),
        System("pfcn (freeze=True)", systems.pfcn(freeze=True)),
    ]


def workload(
    name: str,
    about: str,
    usual: int,
    make: Callable[[int, int], tuple[nn.Module, tuple[torch.Tensor]]],
    cost: Callable[[int, int], Cost],
    by_hand: list[System],
) -> Workload:
    def seeded(instances: int | None, batch: int) -> tuple[nn.Module, tuple[torch.Tensor]]:
        torch.manual_seed(0)
        return make(instances or usual, batch)

    return Workload(
        name=name,
        about=about,
        make=seeded,
        cost=lambda instances, batch: cost(instances or usual, batch),
        systems=with_compile(by_hand),
    )


# Convolution

CHANNELS, IMAGE, KERNEL = 16, 32, 3


def make_conv(n: int, batch: int) -> tuple[nn.Module, tuple[torch.Tensor]]:
    """[batch, 16 n, 32, 32] to the same."""
    model = Sliced(lambda: nn.Conv2d(CHANNELS, CHANNELS, KERNEL, padding=1), n, dim=1)
    return model.eval(), (torch.randn(batch, CHANNELS * n, IMAGE, IMAGE),)


def cost_conv(n: int, batch: int) -> Cost:
    weights = CHANNELS * CHANNELS * KERNEL**2
    pixels = batch * IMAGE**2
    floats = n * (weights + CHANNELS + 2 * CHANNELS * pixels)
    return Cost(bytes=4 * floats, flops=2 * n * weights * pixels)


def joined_conv(model: Sliced) -> tuple[torch.Tensor, torch.Tensor]:
    return stack(model, "weight").flatten(0, 1), stack(model, "bias").flatten()


def grouped_conv(model: Sliced, x: torch.Tensor) -> Call:
    n, (weight, bias) = len(model.models), joined_conv(model)
    return lambda x: F.conv2d(x, weight, bias, padding=1, groups=n)


def grouped_conv_channels_last(model: Sliced, x: torch.Tensor) -> Call:
    """The images come and go in torch's usual format, as in the model."""
    n, (weight, bias) = len(model.models), joined_conv(model)
    weight = weight.contiguous(memory_format=torch.channels_last)

    def call(x: torch.Tensor) -> torch.Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        return F.conv2d(x, weight, bias, padding=1, groups=n).contiguous()

    return call


def conv_loop(model: Sliced, x: torch.Tensor) -> Call:
    """A convolution for each instance, written in place of its part of the result."""
    layers = [(m.weight, m.bias) for m in model.models]

    def call(x: torch.Tensor) -> torch.Tensor:
        result = torch.empty_like(x)
        parts = zip(x.chunk(len(layers), 1), result.chunk(len(layers), 1), layers, strict=True)
        for part, out, (weight, bias) in parts:
            out.copy_(F.conv2d(part, weight, bias, padding=1))
        return result

    return call


def unfolded_conv(model: Sliced, x: torch.Tensor) -> Call:
    """im2col and one batched product."""
    n = len(model.models)
    weight, bias = stack(model, "weight").flatten(2), stack(model, "bias").unsqueeze(-1)

    def call(x: torch.Tensor) -> torch.Tensor:
        columns = F.unfold(x.view(-1, CHANNELS, *x.shape[2:]), KERNEL, padding=1)
        columns = columns.view(x.shape[0], n, -1, columns.shape[-1])
        return (torch.matmul(weight, columns) + bias).view(x.shape)

    return call


CONV = workload(
    "conv_bank",
    "n convolutions 3×3 of 16 channels, on images of 32×32",
    64,
    make_conv,
    cost_conv,
    [
        System("grouped conv", grouped_conv),
        System("grouped conv, channels last", grouped_conv_channels_last),
        System("F.conv2d in a loop", conv_loop),
        System("unfold and matmul", unfolded_conv),
        System("vmap", vmap),
    ],
)

# LSTM

FEATURES, HIDDEN, STEPS = 8, 32, 50


class States(nn.Module):
    """x: [batch, time, features] → the hidden states, [batch, time, hidden]."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lstm(x)[0]


def make_lstm(n: int, batch: int) -> tuple[nn.Module, tuple[torch.Tensor]]:
    """[batch, 50, 8 n] → [batch, 50, 32 n]."""
    return Sliced(States, n, dim=2).eval(), (torch.randn(batch, STEPS, FEATURES * n),)


def cost_lstm(n: int, batch: int) -> Cost:
    weights = 4 * HIDDEN * (FEATURES + HIDDEN)
    floats = n * (weights + 8 * HIDDEN + batch * STEPS * (FEATURES + HIDDEN))
    return Cost(bytes=4 * floats, flops=2 * n * batch * STEPS * weights)


def stacked_lstm(model: Sliced) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights of inputs and states, [n, 4 hidden, …], and the sum of both biases, [n, 4 hidden]."""
    w, u, b, c = (
        stack(model, f"lstm.{k}_l0") for k in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    return w, u, b + c


def lstm_by_hand(model: Sliced, x: torch.Tensor) -> Call:
    """One product for the inputs of all steps; in each step a baddbmm, and the gates in place."""
    n = len(model.models)
    w, u, bias = stacked_lstm(model)
    w, u, bias = w.mT, u.mT, bias.unsqueeze(1)

    def call(x: torch.Tensor) -> torch.Tensor:
        batch, steps = x.shape[:2]
        inputs = x.view(batch, steps, n, -1).permute(2, 1, 0, 3)  # [n, time, batch, features]
        gates = torch.baddbmm(bias, inputs.reshape(n, steps * batch, -1), w)
        gates = gates.view(n, steps, batch, -1).unbind(1)
        h, c = x.new_zeros(n, batch, HIDDEN), x.new_zeros(n, batch, HIDDEN)
        states = []
        for gate in gates:
            total = torch.baddbmm(gate, h, u)
            i, f, g, o = total.chunk(4, -1)
            i.sigmoid_()
            f.sigmoid_()
            o.sigmoid_()
            c = torch.addcmul(f.mul_(c), i, g.tanh_())
            h = c.tanh().mul_(o)
            states.append(h)
        return torch.stack(states, 2).permute(1, 2, 0, 3).reshape(batch, steps, -1)

    return call


def lstm_by_hand_transposed(model: Sliced, x: torch.Tensor) -> Call:
    """The same with W hᵀ: a gate is a block of rows, and sigmoid takes three at once."""
    n = len(model.models)
    w, u, bias = stacked_lstm(model)
    i, f, g, o = torch.arange(4 * HIDDEN).chunk(4)
    order = torch.cat([i, f, o, g])
    w, u, bias = w[:, order].contiguous(), u[:, order].contiguous(), bias[:, order].unsqueeze(2)

    def call(x: torch.Tensor) -> torch.Tensor:
        batch, steps = x.shape[:2]
        inputs = x.view(batch, steps, n, -1).permute(2, 3, 1, 0)  # [n, features, time, batch]
        gates = torch.baddbmm(bias, w, inputs.reshape(n, -1, steps * batch))
        gates = gates.view(n, 4 * HIDDEN, steps, batch).unbind(2)
        h, c = x.new_zeros(n, HIDDEN, batch), x.new_zeros(n, HIDDEN, batch)
        states = []
        for gate in gates:
            total = torch.baddbmm(gate, u, h)
            total[:, : 3 * HIDDEN].sigmoid_()
            i, f, o, g = total.chunk(4, 1)
            c = torch.addcmul(f.mul_(c), i, g.tanh_())
            h = c.tanh().mul_(o)
            states.append(h)
        return torch.stack(states, 0).permute(3, 0, 1, 2).reshape(batch, steps, -1)

    return call


LSTM = workload(
    "lstm_bank",
    "n LSTMs of 8 features and 32 states over 50 steps",
    100,
    make_lstm,
    cost_lstm,
    [
        System("baddbmm in a loop over time", lstm_by_hand),
        System("baddbmm in a loop over time, W hᵀ", lstm_by_hand_transposed),
    ],
)

# Attention

WIDTH, HEADS, TOKENS = 32, 4, 16


class Attention(nn.Module):
    """x: [batch, tokens, width] to the same: heads that attend to all tokens, and a projection."""

    def __init__(self) -> None:
        super().__init__()
        self.joint, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.joint(x).chunk(3, -1)
        )
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def make_attention(n: int, batch: int) -> tuple[nn.Module, tuple[torch.Tensor]]:
    """[batch, 16, 32 n] to the same."""
    return Sliced(Attention, n, dim=2).eval(), (torch.randn(batch, TOKENS, WIDTH * n),)


def cost_attention(n: int, batch: int) -> Cost:
    weights = 4 * WIDTH * WIDTH
    floats = n * (weights + 4 * WIDTH + 2 * batch * TOKENS * WIDTH)
    return Cost(bytes=4 * floats, flops=2 * n * batch * TOKENS * (weights + 2 * WIDTH * TOKENS))


def batched_attention(model: Sliced, x: torch.Tensor) -> Call:
    """One scaled_dot_product_attention for all instances, between two baddbmm."""
    n = len(model.models)
    w, b = stack(model, "joint.weight").mT, stack(model, "joint.bias").unsqueeze(1)
    u, c = stack(model, "out.weight").mT, stack(model, "out.bias").unsqueeze(1)

    def call(x: torch.Tensor) -> torch.Tensor:
        batch, tokens = x.shape[:2]
        rows = x.view(batch * tokens, n, WIDTH).transpose(0, 1)
        joint = torch.baddbmm(b, rows, w).view(n * batch, tokens, 3, HEADS, -1)
        q, k, v = joint.permute(2, 0, 3, 1, 4)
        heads = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        result = torch.baddbmm(c, heads.reshape(n, batch * tokens, WIDTH), u)
        return result.transpose(0, 1).reshape(batch, tokens, n * WIDTH)

    return call


def attention_by_products(model: Sliced, x: torch.Tensor) -> Call:
    """Two bmm and a softmax in place of scaled_dot_product_attention."""
    n = len(model.models)
    w, b = stack(model, "joint.weight").mT, stack(model, "joint.bias").unsqueeze(1)
    u, c = stack(model, "out.weight").mT, stack(model, "out.bias").unsqueeze(1)

    def call(x: torch.Tensor) -> torch.Tensor:
        batch, tokens = x.shape[:2]
        rows = x.view(batch * tokens, n, WIDTH).transpose(0, 1)
        joint = torch.baddbmm(b, rows, w).view(n, batch, tokens, 3, HEADS, -1)
        q, k, v = joint.permute(3, 0, 1, 4, 2, 5)
        weights = torch.softmax(torch.matmul(q, k.mT) / math.sqrt(WIDTH // HEADS), dim=-1)
        heads = torch.matmul(weights, v).transpose(2, 3)
        result = torch.baddbmm(c, heads.reshape(n, batch * tokens, WIDTH), u)
        return result.transpose(0, 1).reshape(batch, tokens, n * WIDTH)

    return call


ATTENTION = workload(
    "attention_bank",
    "n times self-attention of 4 heads and 32 features over 16 tokens",
    100,
    make_attention,
    cost_attention,
    [
        System("baddbmm and batched SDPA", batched_attention),
        System("baddbmm, bmm and softmax", attention_by_products),
        System("vmap", vmap),
    ],
)

# Normalisation

NORMALISED = 64


def make_norm(n: int, batch: int) -> tuple[nn.Module, tuple[torch.Tensor]]:
    """[batch, 64 n] to the same; weights and biases that are not torch's ones and zeros."""
    model = Sliced(lambda: nn.LayerNorm(NORMALISED), n, dim=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model.eval(), (torch.randn(batch, NORMALISED * n),)


def cost_norm(n: int, batch: int) -> Cost:
    """The mean, the variance, and what is made of them: seven operations an element."""
    return Cost(bytes=4 * n * NORMALISED * (2 + 2 * batch), flops=7 * n * batch * NORMALISED)


def batched_norm(model: Sliced, x: torch.Tensor) -> Call:
    """One layer_norm for all instances, without weights, and then these."""
    n, weight, bias = len(model.models), stack(model, "weight"), stack(model, "bias")

    def call(x: torch.Tensor) -> torch.Tensor:
        normal = F.layer_norm(x.view(-1, n, NORMALISED), (NORMALISED,))
        return torch.addcmul(bias, normal, weight).view(x.shape)

    return call


NORM = workload(
    "norm_bank",
    "n layer normalisations of 64 features",
    1000,
    make_norm,
    cost_norm,
    [System("layer_norm and addcmul", batched_norm), System("vmap", vmap)],
)

LAYERS, BATCHES = [CONV, LSTM, ATTENTION, NORM], (1, 8, 32)
