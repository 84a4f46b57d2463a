"""Training n networks as one.

groups = pfcn.optim.stack(fast)              # param groups over stacked parameters
optimizer = torch.optim.AdamW(groups, lr=1e-3, fused=True)

Each stacked parameter holds one parameter of all n networks, so an optimizer steps one tensor per
layer instead of n. That is the same as n optimizers of n networks, as the optimizers here work
element by element.

optimizer = pfcn.optim.Adam(fast, lr=torch.logspace(-4, -2, n))   # a learning rate for each network
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from . import _C
from .errors import Error, InputError

if TYPE_CHECKING:
    from .compile import Compiled
    from .engine import Engine


class StackedParameter(nn.Parameter):
    """One parameter of n networks, `[n, *shape]`: the memory in which the networks' own parameters
    lie.

    Its `.grad` and theirs are one memory. Clearing the one clears the other; the networks'
    gradients are zeros then, not None.
    """

    _leaf: _C.StackedLeaf
    names: list[str]

    @property
    def grad(self) -> torch.Tensor | None:
        leaf = self.__dict__.get("_leaf")
        return torch.Tensor.grad.__get__(self) if leaf is None else leaf.get_grad()

    @grad.setter
    def grad(self, value: torch.Tensor | None) -> None:
        leaf = self.__dict__.get("_leaf")
        if leaf is None:
            torch.Tensor.grad.__set__(self, value)
        else:
            leaf.set_grad(value)

    @grad.deleter
    def grad(self) -> None:
        self.grad = None

    def __reduce_ex__(self, protocol: int) -> Any:
        return nn.Parameter(self.detach(), self.requires_grad).__reduce_ex__(protocol)


def stack(compiled: Compiled) -> list[dict[str, Any]]:
    """Parameter groups of a compiled model in which the parameters of its networks are stacked.

    From here on they train as one: what needs an edge of autograd for each parameter (their hooks,
    `torch.autograd.grad` for them, DistributedDataParallel) does not work any more, and raises.
    Calling it again gives the same parameters.

    compiled: has been called, or was compiled with `example_inputs`
    """
    engine = compiled._engine
    stacked = stack_parameters(engine)
    inside = {id(member) for leaf in stacked for member in leaf._members()}
    others = [p for p in engine.model.parameters() if p.requires_grad and id(p) not in inside]
    groups = [{"params": stacked}, {"params": others}]
    return [group for group in groups if group["params"]]


def stack_parameters(engine: Engine) -> list[StackedParameter]:
    weights = engine.state.weights
    names = {id(p): name for name, p in engine.model.named_parameters()}
    if not weights.stacks:
        raise InputError(
            "nothing to stack: " + (engine.eager_reason or "the model has not been called yet")
        )
    stacked = []
    for index, (_count, reason) in enumerate(weights.stacks):
        members = weights.members(index)
        followed = [p.requires_grad for p in members if id(p) in names]
        if reason or len(followed) != len(members) or not any(followed):
            continue  # they stay parameters of their own
        if not all(followed):
            raise InputError(
                f"'{names[id(members[0])]}' and the parameters beside it train in part;"
                " stacked, they train all or none"
            )
        stacked.append(_make_stacked(weights, index, [names[id(p)] for p in members]))
    if not stacked:
        reasons = [reason for _, reason in weights.stacks if reason]
        raise Error("nothing to stack: " + (reasons[0] if reasons else "no parameter trains"))
    engine.stacked = stacked
    return stacked


def _make_stacked(weights: _C.Weights, index: int, names: list[str]) -> StackedParameter:
    existing = weights.leaf(index)
    if existing is not None:
        return existing.parameter
    parameter = StackedParameter(weights.home(index), requires_grad=True)
    leaf = weights.add_leaf(index, parameter)
    parameter._leaf, parameter.names = leaf, names
    parameter._members = lambda: leaf.members

    def before(gradient: torch.Tensor | None) -> None:
        if gradient is not None:  # else there is nothing to be added
            leaf.before_accumulation()

    parameter.register_hook(before)
    parameter.register_post_accumulate_grad_hook(lambda _parameter: leaf.after_accumulation())
    return parameter


# --- Optimizers with settings for each network ---------------------------------------------------

Setting = float | torch.Tensor


class _Optimizer(torch.optim.Optimizer):
    """Settings are numbers, or vectors with one number for each of the n networks."""

    _vectors = ("lr", "weight_decay")

    def __init__(self, params: Compiled | Iterable, defaults: dict[str, Any]):
        if isinstance(params, nn.Module) and hasattr(params, "_engine"):
            params = stack(params)
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        for key in self._vectors:
            value = group[key]
            if not isinstance(value, torch.Tensor):
                if value < 0:
                    raise InputError(f"{key} is {value}, and has to be 0 or more")
                continue
            for parameter in group["params"]:
                if value.dim() != 1 or not isinstance(parameter, StackedParameter):
                    raise InputError(f"{key} is a number, or a vector for stacked parameters")
                if len(value) != len(parameter):
                    raise InputError(
                        f"{key} has {len(value)} elements for {len(parameter)} networks"
                    )

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters, gradients = [], []
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is not None:
                    parameters.append(parameter)
                    gradients.append(gradient)
            if parameters:
                self._update(group, parameters, gradients)
        return loss

    def _update(self, group: dict, parameters: list, gradients: list) -> None:
        raise NotImplementedError

    def _has_vectors(self, group: dict) -> bool:
        return any(isinstance(group[key], torch.Tensor) for key in self._vectors)


def _along(value: Setting, parameter: torch.Tensor) -> Setting:
    """A vector over the networks, to be multiplied with what belongs to them."""
    if not isinstance(value, torch.Tensor):
        return value
    return value.to(parameter).reshape(-1, *[1] * (parameter.dim() - 1))


class SGD(_Optimizer):
    """`torch.optim.SGD`, with `lr` and `weight_decay` for each network."""

    def __init__(
        self,
        params: Compiled | Iterable,
        lr: Setting = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: Setting = 0.0,
        nesterov: bool = False,
    ):
        if nesterov and (momentum <= 0 or dampening != 0):
            raise InputError("nesterov takes a momentum and no dampening")
        defaults = {"lr": lr, "momentum": momentum, "dampening": dampening}
        super().__init__(params, {**defaults, "weight_decay": weight_decay, "nesterov": nesterov})

    def _update(self, group: dict, parameters: list, gradients: list) -> None:
        momentum = group["momentum"]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            decay = _along(group["weight_decay"], parameter)
            if isinstance(decay, torch.Tensor) or decay != 0:
                gradient = gradient + decay * parameter
            if momentum != 0:
                state = self.state[parameter]
                buffer = state.get("momentum_buffer")
                if buffer is None:
                    buffer = state["momentum_buffer"] = gradient.clone()
                else:
                    buffer.mul_(momentum).add_(gradient, alpha=1 - group["dampening"])
                gradient = gradient + momentum * buffer if group["nesterov"] else buffer
            lr = _along(group["lr"], parameter)
            if isinstance(lr, torch.Tensor):
                parameter.sub_(lr * gradient)
            else:
                parameter.sub_(gradient, alpha=lr)


class Adam(_Optimizer):
    """`torch.optim.Adam`, with `lr` and `weight_decay` for each network."""

    _decouples = False

    def __init__(
        self,
        params: Compiled | Iterable,
        lr: Setting = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: Setting = 0.0,
    ):
        if not all(0 <= beta < 1 for beta in betas):
            raise InputError(f"betas are {betas}, and have to be in [0, 1)")
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    def _states(self, parameters: list) -> tuple[list, list, list]:
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32)
                state["exp_avg"] = torch.zeros_like(parameter.detach())
                state["exp_avg_sq"] = torch.zeros_like(parameter.detach())
        keys = ("step", "exp_avg", "exp_avg_sq")
        return tuple([self.state[p][key] for p in parameters] for key in keys)

    def _update(self, group: dict, parameters: list, gradients: list) -> None:
        steps, averages, squares = self._states(parameters)
        torch._foreach_add_(steps, 1)
        beta1, beta2 = group["betas"]
        if not self._has_vectors(group):
            update = torch._fused_adamw_ if self._decouples else torch._fused_adam_
            update(parameters, gradients, averages, squares, [], steps, lr=group["lr"],
                   beta1=beta1, beta2=beta2, weight_decay=group["weight_decay"],
                   eps=group["eps"], amsgrad=False, maximize=False)  # fmt: skip
            return
        for parameter, gradient, step, average, square in zip(
            parameters, gradients, steps, averages, squares, strict=True
        ):
            lr, decay = (_along(group[key], parameter) for key in self._vectors)
            if self._decouples:
                parameter.mul_(1 - lr * decay)
            else:
                gradient = gradient + decay * parameter
            average.lerp_(gradient, 1 - beta1)
            square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            count = step.item()
            scale = (square / (1 - beta2**count)).sqrt_().add_(group["eps"])
            parameter.sub_(lr / (1 - beta1**count) * (average / scale))


class AdamW(Adam):
    """`torch.optim.AdamW`, with `lr` and `weight_decay` for each network."""

    _decouples = True

    def __init__(
        self,
        params: Compiled | Iterable,
        lr: Setting = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: Setting = 1e-2,
    ):
        super().__init__(params, lr, betas, eps, weight_decay)


__all__ = ["SGD", "Adam", "AdamW", "StackedParameter", "stack"]
