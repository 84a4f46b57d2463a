"""The training workload: forward, loss, backward and a step of Adam for banks of n small networks.

Two banks: the seed's Linear(20, 10) → Linear(10, 1), and 8 → 16 → 1 with a ReLU. Every system has
the form of Adam that suits it best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from . import systems
from .seed import USUAL, ParallelFCN
from .workload import Call, System, Workload

CHECKED_STEPS = 20  # whose losses are compared with eager's
LEARNING_RATE = 1e-3


class ReluBank(nn.Module):
    """n networks 8 → 16 → 1, each on its own slice of the input. x: [batch, 8 n] → [batch, n]."""

    def __init__(self, n: int):
        super().__init__()
        self.models = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1)) for _ in range(n)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([m(x[:, i * 8 : (i + 1) * 8]) for i, m in enumerate(self.models)], dim=1)


class Banks(nn.Module):
    """Both, of which each system trains one."""

    def __init__(self, n: int):
        super().__init__()
        self.seed, self.relu = ParallelFCN(n), ReluBank(n)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError("each system trains one of the banks")


class Training:
    """One step of training with every call; the first makes several, and returns their losses."""

    def __init__(self, step: Callable[[torch.Tensor], torch.Tensor]):
        self.step, self.is_checked = step, False

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            if self.is_checked:
                return self.step(x).detach()
            self.is_checked = True
            return torch.stack([self.step(x).detach() for _ in range(CHECKED_STEPS)])


def target(x: torch.Tensor, bank: nn.Module) -> torch.Tensor:
    """What each network has to learn, from its own inputs."""
    n = len(bank.models)
    return x[:, : x.shape[1] // n * n].view(len(x), n, -1).square().mean(-1)


def inputs_of(bank: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The part of x that the bank takes."""
    return x[:, : len(bank.models) * bank.models[0][0].in_features].contiguous()


def adam(parameters: Iterable) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=LEARNING_RATE, fused=True)


def by_autograd(
    forward: Call, optimizer: torch.optim.Optimizer, bank: nn.Module, x: torch.Tensor
) -> Call:
    """Steps by `backward` and the optimizer."""
    own = inputs_of(bank, x)
    wanted = target(own, bank)

    def step(_x: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(forward(own), wanted)
        loss.backward()
        optimizer.step()
        return loss

    return Training(step)


def eager(bank: nn.Module, x: torch.Tensor) -> Call:
    return by_autograd(bank, adam(bank.parameters()), bank, x)


def pfcn_plain(bank: nn.Module, x: torch.Tensor) -> Call:
    import pfcn

    return by_autograd(pfcn.compile(bank), adam(bank.parameters()), bank, x)


def pfcn_stacked(bank: nn.Module, x: torch.Tensor) -> Call:
    import pfcn

    fast = pfcn.compile(bank, (inputs_of(bank, x),))
    return by_autograd(fast, adam(pfcn.optim.stack(fast)), bank, x)


def pfcn_own(bank: nn.Module, x: torch.Tensor) -> Call:
    import pfcn

    fast = pfcn.compile(bank, (inputs_of(bank, x),))
    return by_autograd(fast, pfcn.optim.Adam(fast, lr=LEARNING_RATE), bank, x)


def stacked(bank: nn.Module) -> list[nn.Parameter]:
    """Weights [n, out, in] and biases [n, out] of the layers, one behind the other."""
    layers = [k for k, layer in enumerate(bank.models[0]) if isinstance(layer, nn.Linear)]
    return [
        nn.Parameter(torch.stack([getattr(m[k], name).detach() for m in bank.models]))
        for k in layers
        for name in ("weight", "bias")
    ]


def activation(bank: nn.Module) -> Call:
    has_relu = any(isinstance(layer, nn.ReLU) for layer in bank.models[0])
    return torch.relu if has_relu else lambda h: h


def baddbmm(bank: nn.Module, x: torch.Tensor) -> Call:
    """Two torch.baddbmm, W xᵀ + b."""
    w1, b1, w2, b2 = parameters = stacked(bank)
    n, act = len(bank.models), activation(bank)

    def forward(x: torch.Tensor) -> torch.Tensor:
        x = x.view(x.shape[0], n, -1).permute(1, 2, 0)  # [n, features, batch]
        hidden = act(torch.baddbmm(b1.unsqueeze(2), w1, x))
        return torch.baddbmm(b2.unsqueeze(2), w2, hidden).squeeze(1).t()

    return by_autograd(forward, adam(parameters), bank, x)


def by_vmap(transform: Callable[[Call], Call]) -> Callable[[nn.Module, torch.Tensor], Call]:
    """torch.func: the gradient of one network's loss, over all networks."""

    def setup(bank: nn.Module, x: torch.Tensor) -> Call:
        n, template = len(bank.models), bank.models[0]
        params, _ = torch.func.stack_module_state(list(bank.models))
        params = {name: nn.Parameter(p.detach()) for name, p in params.items()}
        own = inputs_of(bank, x)
        wanted = target(own, bank)
        optimizer = adam(params.values())

        def loss_of_one(params, x, y):
            result = torch.func.functional_call(template, params, (x,)).squeeze(-1)
            return nn.functional.mse_loss(result, y) / n  # a part of the mean over all networks

        gradients = torch.vmap(torch.func.grad_and_value(loss_of_one), in_dims=(0, 1, 1))
        gradients = transform(gradients)
        detached = {name: p.detach() for name, p in params.items()}  # of the same memory

        def step(_x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                grads, losses = gradients(detached, own.view(len(own), n, -1), wanted)
                for name, parameter in params.items():
                    parameter.grad = grads[name]
            optimizer.step()
            return losses.sum()

        return Training(step)

    return setup


SYSTEMS = {
    "eager loop": eager,
    "vmap + grad": by_vmap(lambda call: call),
    "torch.compile(vmap + grad)": by_vmap(systems.compiled),
    "baddbmm by hand": baddbmm,
    "pfcn plain": pfcn_plain,
    "pfcn stacked": pfcn_stacked,
    "pfcn stacked, pfcn.optim": pfcn_own,
}


def on_bank(name: str, setup: Callable) -> Callable[[nn.Module, torch.Tensor], Call]:
    return lambda banks, x: setup(getattr(banks, name), x)


def make(instances: int | None, batch: int) -> tuple[nn.Module, tuple[torch.Tensor]]:
    torch.manual_seed(0)
    instances = instances or USUAL
    return Banks(instances), (torch.randn(batch, 20 * instances),)


TRAIN = Workload(
    name="train",
    about="forward, loss, backward and Adam: the seed's networks, and 8 → 16 → 1 with a ReLU",
    make=make,
    cost=None,
    systems=[
        System(f"{bank}: {name}", on_bank(bank, setup), reference=f"{bank}: eager loop")
        for bank in ("seed", "relu")
        for name, setup in SYSTEMS.items()
    ],
    ours="relu: pfcn stacked",
    baseline="relu: eager loop",
)
