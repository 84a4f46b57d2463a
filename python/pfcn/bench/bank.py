"""Banks of multilayer perceptrons of any size, and every rewrite by hand that they allow.

The workloads of `pfcn.bench matrix`: n networks of Linear layers with ReLU between them, each on
its own slice of the input, or all on the same input.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import nn

from . import systems
from .workload import Call, Cost, System, Workload


@dataclass(frozen=True)
class Shape:
    """What a bank is made of; `widths` from the inputs to the outputs of one network."""

    widths: tuple[int, ...]
    shared: bool  # all networks read the whole input

    @property
    def name(self) -> str:
        return "→".join(map(str, self.widths)) + (" shared" if self.shared else "")


class Bank(nn.Module):
    """n networks. x: [batch, n · inputs], or [batch, inputs] if shared → [batch, n · outputs]."""

    def __init__(self, n: int, shape: Shape):
        super().__init__()
        self.width, self.shared = shape.widths[0], shape.shared
        self.models = nn.ModuleList(network(shape.widths) for _ in range(n))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.shared:
            return torch.cat([m(x) for m in self.models], dim=1)
        width = self.width
        outputs = [m(x[:, i * width : (i + 1) * width]) for i, m in enumerate(self.models)]
        return torch.cat(outputs, dim=1)


def network(widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def linears(model: Bank) -> list[list[nn.Linear]]:
    """Per layer, that layer of each network."""
    return [list(group) for group in zip(*(m[::2] for m in model.models), strict=True)]


def stacked(model: Bank) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Each layer's weights [n, out, in] and biases [n, out] in one tensor."""
    return [
        (torch.stack([m.weight for m in layer]), torch.stack([m.bias for m in layer]))
        for layer in linears(model)
    ]


def instances_first(model: Bank, x: torch.Tensor, n: int) -> torch.Tensor:
    """The input as [n, batch, inputs]."""
    if model.shared:
        return x.unsqueeze(0).expand(n, *x.shape)
    return x.view(x.shape[0], n, model.width).transpose(0, 1)


def baddbmm(model: Bank, x: torch.Tensor) -> Call:
    """torch.baddbmm per layer, x Wᵀ + b, and ReLU in place between them."""
    layers = [(w.mT, b.unsqueeze(1)) for w, b in stacked(model)]
    n = len(model.models)

    def call(x: torch.Tensor) -> torch.Tensor:
        h = instances_first(model, x, n)
        for i, (w, b) in enumerate(layers):
            h = torch.baddbmm(b, h, w)
            if i + 1 < len(layers):
                h.relu_()
        return h.transpose(0, 1).flatten(1)

    return call


def baddbmm_transposed(model: Bank, x: torch.Tensor) -> Call:
    """The same the other way round, W xᵀ + b: quicker for MKL as the batch grows."""
    layers = [(w, b.unsqueeze(2)) for w, b in stacked(model)]
    n = len(model.models)

    def call(x: torch.Tensor) -> torch.Tensor:
        h = instances_first(model, x, n).mT
        for i, (w, b) in enumerate(layers):
            h = torch.baddbmm(b, w, h)
            if i + 1 < len(layers):
                h.relu_()
        return h.permute(2, 0, 1).flatten(1)

    return call


def grouped_conv(model: Bank, x: torch.Tensor) -> Call:
    """A grouped Conv1d of kernel size 1 per layer; a shared input is repeated for each network."""
    n = len(model.models)
    layers: list[nn.Module] = []
    for layer in linears(model):
        conv = nn.Conv1d(layer[0].in_features * n, layer[0].out_features * n, 1, groups=n)
        conv.weight.copy_(torch.cat([m.weight for m in layer]).unsqueeze(-1))
        conv.bias.copy_(torch.cat([m.bias for m in layer]))
        layers += [conv, nn.ReLU(inplace=True)]
    chain = nn.Sequential(*layers[:-1])
    if model.shared:
        return lambda x: chain(x.repeat(1, n).unsqueeze(-1)).squeeze(-1)
    return lambda x: chain(x.unsqueeze(-1)).squeeze(-1)


def vmap(model: Bank, x: torch.Tensor) -> Call:
    """torch.func.stack_module_state and vmap."""
    n = len(model.models)
    networks = systems.vmapped(list(model.models), in_dim=None if model.shared else 1, out_dim=1)
    if model.shared:
        return lambda x: networks(x).flatten(1)
    return lambda x: networks(x.view(x.shape[0], n, model.width)).flatten(1)


SYSTEMS = [
    System("eager loop", systems.eager),
    System("grouped Conv1d", grouped_conv),
    System("vmap", vmap),
    System("torch.compile(vmap)", lambda m, x: systems.compiled(vmap(m, x)), slow=True),
    System("baddbmm by hand", baddbmm),
    System("baddbmm by hand, W xᵀ", baddbmm_transposed),
    System("pfcn (live weights)", systems.pfcn(freeze=False)),
    System("pfcn (freeze=True)", systems.pfcn(freeze=True)),
]


def workload(shape: Shape) -> Workload:
    """A bank of that shape."""

    def make(instances: int | None, batch: int) -> tuple[nn.Module, tuple[torch.Tensor]]:
        n = instances or 100
        torch.manual_seed(0)
        width = shape.widths[0] * (1 if shape.shared else n)
        return Bank(n, shape).eval(), (torch.rand(batch, width),)

    def cost(instances: int | None, batch: int) -> Cost:
        """Inputs, weights, biases and results move once, in float32; hidden values need not."""
        n = instances or 100
        weights = sum(a * b for a, b in itertools.pairwise(shape.widths))
        inputs = shape.widths[0] * (1 if shape.shared else n)
        outputs = n * shape.widths[-1]
        floats = n * (weights + sum(shape.widths[1:])) + batch * (inputs + outputs)
        return Cost(bytes=4 * floats, flops=2 * n * batch * weights)

    return Workload(f"bank {shape.name}", "perceptrons side by side", make, cost, SYSTEMS)
