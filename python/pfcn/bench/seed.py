"""The seed workload: n networks Linear(20, 10) → Linear(10, 1), each on its own slice of the input.

Besides the model as its users write it, this holds the rewrites by hand that only this model's
layers allow: a grouped convolution and a batched matrix product.
"""

from __future__ import annotations

import torch
from torch import nn

from . import reference, systems
from .workload import Call, Cost, System, Workload

INPUTS, HIDDEN, OUTPUTS = 20, 10, 1


class ParallelFCN(nn.Module):
    """n small networks side by side. x: [batch, 20 n] → [batch, n]."""

    def __init__(self, n: int):
        super().__init__()
        self.models = nn.ModuleList(
            nn.Sequential(nn.Linear(INPUTS, HIDDEN), nn.Linear(HIDDEN, OUTPUTS)) for _ in range(n)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = [m(x[:, i * 20 : (i + 1) * 20]) for i, m in enumerate(self.models)]
        return torch.cat(outputs, dim=1)


class StepwiseSynchronised(nn.Module):
    """The same, waiting for the device after every network."""

    def __init__(self, model: ParallelFCN, device: torch.device):
        super().__init__()
        self.models = model.models
        self.synchronise = (
            torch.cuda.synchronize if device.type == "cuda" else torch.cpu.synchronize
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = []
        for i, m in enumerate(self.models):
            outputs.append(m(x[:, i * 20 : (i + 1) * 20]))
            self.synchronise()
        return torch.cat(outputs, dim=1)


class MultiStream(nn.Module):
    """The same, every network under a new CUDA stream of its own, synchronised once at the end."""

    def __init__(self, model: ParallelFCN):
        super().__init__()
        self.models = model.models

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = []
        for i, m in enumerate(self.models):
            with torch.cuda.stream(torch.cuda.Stream()):
                outputs.append(m(x[:, i * 20 : (i + 1) * 20]))
        torch.cuda.synchronize()
        return torch.cat(outputs, dim=1)


def grouped_conv(model: ParallelFCN, x: torch.Tensor) -> Call:
    """Two grouped Conv1d of kernel size 1 on x.unsqueeze(-1): 20 n → 10 n → n channels."""
    n = len(model.models)
    layers = nn.Sequential(
        nn.Conv1d(INPUTS * n, HIDDEN * n, 1, groups=n),
        nn.Conv1d(HIDDEN * n, OUTPUTS * n, 1, groups=n),
    ).to(x.device)
    for k, conv in enumerate(layers):
        conv.weight.copy_(torch.cat([m[k].weight for m in model.models]).unsqueeze(-1))
        conv.bias.copy_(torch.cat([m[k].bias for m in model.models]))
    return lambda x: layers(x.unsqueeze(-1)).squeeze(-1)


def stacked(model: ParallelFCN) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Each layer's weights [n, out, in] and biases [n, out] in one tensor."""
    return [
        (
            torch.stack([m[k].weight for m in model.models]),
            torch.stack([m[k].bias for m in model.models]),
        )
        for k in range(2)
    ]


def baddbmm(model: ParallelFCN, x: torch.Tensor) -> Call:
    """Two torch.baddbmm, as torch.nn.functional.linear writes it: x Wᵀ + b."""
    (w1, b1), (w2, b2) = stacked(model)
    n, w1, b1, w2, b2 = len(model.models), w1.mT, b1.unsqueeze(1), w2.mT, b2.unsqueeze(1)

    def call(x: torch.Tensor) -> torch.Tensor:
        x = x.view(x.shape[0], n, INPUTS).transpose(0, 1)  # [n, batch, 20]
        return torch.baddbmm(b2, torch.baddbmm(b1, x, w1), w2).squeeze(-1).t()

    return call


def baddbmm_transposed(model: ParallelFCN, x: torch.Tensor) -> Call:
    """Two torch.baddbmm the other way round, W xᵀ + b: quicker for MKL as the batch grows."""
    (w1, b1), (w2, b2) = stacked(model)
    n, b1, b2 = len(model.models), b1.unsqueeze(2), b2.unsqueeze(2)

    def call(x: torch.Tensor) -> torch.Tensor:
        x = x.view(x.shape[0], n, INPUTS).permute(1, 2, 0)  # [n, 20, batch]
        return torch.baddbmm(b2, w2, torch.baddbmm(b1, w1, x)).squeeze(1).t()

    return call


def vmap(model: ParallelFCN, x: torch.Tensor) -> Call:
    """torch.func.stack_module_state and vmap, over instances of x viewed as [batch, n, 20]."""
    n = len(model.models)
    networks = systems.vmapped(list(model.models), in_dim=1, out_dim=1)  # [batch, n, 1]
    return lambda x: networks(x.view(x.shape[0], n, INPUTS)).squeeze(-1)


USUAL = 1000  # networks


def make(instances: int | None, batch: int) -> tuple[nn.Module, tuple[torch.Tensor]]:
    """The model in eval mode and an input [batch, 20 n] on the CPU, seeded."""
    n = instances or USUAL
    torch.manual_seed(0)
    return ParallelFCN(n).eval(), (torch.rand(batch, INPUTS * n),)


def cost(instances: int | None, batch: int) -> Cost:
    """Inputs, weights, biases and results move once, in float32; hidden values need not."""
    weights = INPUTS * HIDDEN + HIDDEN * OUTPUTS
    n = instances or USUAL
    floats = n * (weights + HIDDEN + OUTPUTS + batch * (INPUTS + OUTPUTS))
    return Cost(bytes=4 * floats, flops=2 * n * batch * weights)


SEED = Workload(
    name="seed",
    about="n networks Linear(20, 10) → Linear(10, 1), each on its own slice of the input",
    make=make,
    cost=cost,
    systems=[
        System("eager loop", systems.eager),
        System("stepwise synchronised", lambda m, x: StepwiseSynchronised(m, x.device)),
        System("multi-stream", systems.cuda_only(lambda m, x: MultiStream(m))),
        System("eager loop, CUDA graph", systems.cuda_graph(systems.eager)),
        System("torch.jit.script", systems.jit_script),
        System("torch.jit.script, frozen", systems.jit_script_frozen, slow=True),
        System("torch.compile of the loop", systems.torch_compile, slow=True),
        System("grouped Conv1d", grouped_conv),
        System("vmap", vmap),
        System("torch.compile(vmap)", lambda m, x: systems.compiled(vmap(m, x))),
        System("baddbmm by hand", baddbmm),
        System("baddbmm by hand, W xᵀ", baddbmm_transposed),
        System("AVX-512 by hand", lambda m, x: reference.live(stacked(m), x), ceiling=True),
        System(
            "AVX-512 by hand, packed", lambda m, x: reference.frozen(stacked(m), x), ceiling=True
        ),
        System("pfcn (live weights)", systems.pfcn(freeze=False)),
        System("pfcn (freeze=True)", systems.pfcn(freeze=True)),
        System("pfcn (live weights), CUDA graph", systems.cuda_graph(systems.pfcn(freeze=False))),
    ],
)
