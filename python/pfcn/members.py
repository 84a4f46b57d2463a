"""The n networks of a compiled model, one by one: `fast.members`."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from .errors import InputError

if TYPE_CHECKING:
    from .engine import Engine

Mask = torch.Tensor | Sequence[int] | None


class Members:
    """The networks whose parameters lie stacked, in the order of the stack.

    members[3]                         # the module itself: save it, load it, copy it
    norms = members.clip_grad_norm_(1.0)   # of each network for itself
    members.keep(loss < best)          # early stopping: remember these networks' weights …
    members.restore()                  # … and go back to them
    """

    def __init__(self, engine: Engine):
        self._engine = engine
        self._kept: list[torch.Tensor] | None = None

    def _stacks(self) -> list[list[nn.Parameter]]:
        """The parameters of the largest set of networks, a list for each position in one."""
        weights = self._engine.state.weights
        stacks = [weights.members(index) for index in range(len(weights.stacks))]
        if not stacks:
            raise InputError("there are no members: the model was not called yet, or nothing fused")
        most = max(map(len, stacks))
        return [stack for stack in stacks if len(stack) == most]

    def paths(self) -> list[str]:
        """The path of each network's module in the model."""
        names = {id(p): name for name, p in self._engine.model.named_parameters()}
        names |= {id(b): name for name, b in self._engine.model.named_buffers()}
        paths = []
        for position in zip(*self._stacks(), strict=True):
            parts = [names[id(tensor)].split(".")[:-1] for tensor in position]
            common = [p[0] for p in zip(*parts) if len(set(p)) == 1]
            paths.append(".".join(common))
        if len(set(paths)) < len(paths):
            raise InputError("the networks are no modules of their own: their parts lie scattered")
        return paths

    def __len__(self) -> int:
        return len(self._stacks()[0])

    def __getitem__(self, index: int) -> nn.Module:
        return self._engine.model.get_submodule(self.paths()[index])

    def __iter__(self) -> Iterator[nn.Module]:
        return (self._engine.model.get_submodule(path) for path in self.paths())

    def copies(self, indices: Sequence[int]) -> list[nn.Module]:
        """Networks of their own, to save, or to compile as an ensemble of fewer."""
        paths = self.paths()
        return [copy.deepcopy(self._engine.model.get_submodule(paths[i])) for i in indices]

    def grad_norms(self) -> torch.Tensor:
        """The norm of each network's gradient, `[n]`."""
        total: torch.Tensor | float = 0.0
        for gradients in self._gradients():
            total = total + gradients.flatten(1).square().sum(1)
        if not isinstance(total, torch.Tensor):
            raise InputError("no network has a gradient")
        return total.sqrt()

    @torch.no_grad()
    def clip_grad_norm_(self, max_norm: float) -> torch.Tensor:
        """Clips each network's gradient by its own norm; returns the norms, `[n]`."""
        norms = self.grad_norms()
        factors = (max_norm / (norms + 1e-6)).clamp(max=1.0)
        for stack, gradients in zip(self._with_gradients(), self._gradients(), strict=True):
            gradients.mul_(factors.to(gradients).view(-1, *[1] * (gradients.dim() - 1)))
            for parameter, gradient in zip(stack, gradients, strict=True):
                if parameter.grad.data_ptr() != gradient.data_ptr():
                    parameter.grad.copy_(_part(gradient, parameter))
        return norms

    def _with_gradients(self) -> list[list[nn.Parameter]]:
        return [s for s in self._stacks() if all(p.grad is not None for p in s)]

    def _gradients(self) -> Iterator[torch.Tensor]:
        """Stacked gradients; in stacked mode these are no copies."""
        for stack in self._with_gradients():
            base = stack[0].grad._base
            is_stacked = base is not None and base.shape == (len(stack), *stack[0].shape)
            yield base if is_stacked else _stack([p.grad for p in stack])

    @torch.no_grad()
    def keep(self, which: Mask = None) -> None:
        """Remembers the weights of the networks that a mask `[n]` or a list of numbers names; of
        all, by default and the first time."""
        stacks = [_stack(stack) for stack in self._stacks()]
        if self._kept is None or which is None:
            self._kept = stacks
            return
        chosen = self._indices(which)
        for kept, now in zip(self._kept, stacks, strict=True):
            kept[chosen] = now[chosen]

    @torch.no_grad()
    def restore(self, which: Mask = None) -> None:
        """Puts remembered weights back, of all networks or of some."""
        if self._kept is None:
            raise InputError("there is nothing to restore: call keep() first")
        for kept, stack in zip(self._kept, self._stacks(), strict=True):
            for i in self._indices(which).tolist():
                stack[i].copy_(_part(kept[i], stack[i]))

    def _indices(self, which: Mask) -> torch.Tensor:
        if which is None:
            return torch.arange(len(self))
        which = torch.as_tensor(which)
        if which.dtype != torch.bool:
            return which
        if which.shape != (len(self),):
            raise InputError(f"a mask has one element for each of the {len(self)} networks")
        return which.nonzero().flatten()


def _stack(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Stacked; where networks differ in width, with zeros behind what is short."""
    if len({tensor.shape for tensor in tensors}) == 1:
        return torch.stack(list(tensors))
    shape = [max(sizes) for sizes in zip(*(tensor.shape for tensor in tensors))]
    stacked = tensors[0].new_zeros(len(tensors), *shape)
    for padded, tensor in zip(stacked, tensors):
        _part(padded, tensor).copy_(tensor)
    return stacked


def _part(padded: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return padded[tuple(map(slice, like.shape))]


__all__ = ["Members"]
