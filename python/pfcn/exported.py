"""An ExportedProgram as a module that can be compiled."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.export._tree_utils import reorder_kwargs
from torch.utils import _pytree as pytree

from . import capture


class Exported(nn.Module):
    """`program.module()` with the same parameters, buffers and state_dict. What torch.export puts
    there as hooks, checks of the inputs, is part of this module's forward."""

    def __init__(self, graph: torch.fx.GraphModule):
        super().__init__()
        own = self.__dict__
        own["_graph"] = graph  # no submodule: its names are this module's own
        for table in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
            own[table] = vars(graph)[table]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        recorder = capture.current_recorder()
        leaves = None if recorder is None else self._flatten(args, kwargs)
        if leaves is None:
            return self._graph(*args, **kwargs)
        self._check(args, kwargs)
        results = capture.run_graph(self._graph, leaves, recorder)
        return pytree.tree_unflatten(results, self._graph._out_spec)

    def named_constants(self) -> list[tuple[str, torch.Tensor]]:
        """What the program read and that is no parameter or buffer of it."""
        own = {id(tensor) for tensor in (*self.parameters(), *self.buffers())}
        constants = capture.constants_of(self._graph)
        return [(name, t) for name, t in constants.items() if id(t) not in own]

    def _flatten(self, args: tuple, kwargs: dict) -> list | None:
        """The graph's inputs; None where the arguments are not passed as the example was."""
        spec = self._graph._in_spec
        try:
            leaves, given = pytree.tree_flatten((args, reorder_kwargs(kwargs, spec)))
        except (ValueError, KeyError):
            return None
        return leaves if given == spec else None

    def _check(self, args: tuple, kwargs: dict) -> None:
        for key, hook in self._graph._forward_pre_hooks.items():
            if key in self._graph._forward_pre_hooks_with_kwargs:
                hook(self._graph, args, kwargs)
            else:
                hook(self._graph, args)

    def train(self, mode: bool = True) -> Exported:
        self._graph.train(mode)  # which an ExportedProgram refuses
        return self

    def __deepcopy__(self, memo: dict) -> Exported:
        return Exported(copy.deepcopy(self._graph, memo))


__all__ = ["Exported"]
