"""An FX graph that takes its weights as arguments, as torch.compile makes them.

A call is answered in C++ where a plan fits its shapes, its numbers and its weights. The first call
of each kind is recorded, and compiled if no plan has been made that covers it. What cannot be
recorded runs as it is.
"""

from __future__ import annotations

import threading
import time
import warnings
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from . import _C, capture
from .errors import CaptureError, CudaError, FusionError, as_compile_error
from .plans import Options, Plans, prepared
from .report import Report


def is_followed(args: Sequence[Any]) -> bool:
    """Whether autograd follows a call with these arguments."""
    tensors = [arg for arg in args if isinstance(arg, torch.Tensor)]
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


class Graph:
    """weights: the names of those arguments that are weights."""

    def __init__(self, module: fx.GraphModule, weights: dict[int, str], options: Options):
        self.module = module
        self.weights = weights
        self.options = options
        self.plans = Plans(options)
        self.calls = _C.GraphCalls(_count_inputs(module), list(weights))
        self.call = self.calls.callable()
        self.lock = threading.RLock()
        self.owners: dict[int, weakref.ref] = {}
        self.eager_reason = ""

    def run(self, args: Sequence[Any]) -> Sequence[Any]:
        """The graph's results, of which a list or a tuple."""
        result = self.call(args)
        if result is NotImplemented and self._prepare(args):
            result = self.call(args)
        return self.module(*args) if result is NotImplemented else result

    @property
    def report(self) -> Report:
        report = self.plans.report()
        report.eager = self.eager_reason
        report.copies = [f"{n} parameters: {reason}" for n, reason in self.calls.stacks if reason]
        return report

    def can_train(self, args: Sequence[Any]) -> bool:
        """Makes the plan for these arguments, which autograd follows. False where it cannot be
        recorded as it is."""
        try:
            return _C.is_plain_dispatch() and self._add_plan(args) == ""
        except CaptureError:
            return False
        except FusionError:
            raise
        except Exception as error:
            self._fail(error)
            return True  # in eager

    def _prepare(self, args: Sequence[Any]) -> bool:
        """Makes the plan for a call; False where only eager can answer it."""
        tensors = [arg for arg in args if isinstance(arg, torch.Tensor)]
        if self.eager_reason or not _C.is_plain_dispatch():
            return False
        if not all(map(_C.is_plain_tensor, tensors)):
            return False
        with self.lock:
            try:
                self.eager_reason = self._add_plan(args)
            except CaptureError as error:
                if self.options.strict:
                    raise
                self.eager_reason = str(error)
            except FusionError:
                raise
            except Exception as error:
                self._fail(error)
        return not self.eager_reason

    def _add_plan(self, args: Sequence[Any]) -> str:
        """Why there is none, or nothing."""
        started = time.perf_counter()
        followed = is_followed(args)
        if followed and any(a.device.type != "cpu" for a in args if isinstance(a, torch.Tensor)):
            return "autograd has to follow it on a GPU"
        recording, outputs = capture.record_graph(self.module, args, self.weights)
        plan = self.plans.find(prepared(recording, started), self._weights_of(args), followed)
        number = self.calls.add(list(args), plan.compilation.plan, list(self.weights.values()),
                                plan.constants, outputs, capture.TENSOR)  # fmt: skip
        if self.weights and number not in self.owners:
            # A model that is gone takes its homes and plans with it.
            first = args[next(iter(self.weights))]
            self.owners[number] = weakref.ref(first, lambda _: self._forget(number))
        return ""

    def _weights_of(self, args: Sequence[Any]) -> dict[str, torch.Tensor]:
        return {name: args[i] for i, name in self.weights.items()}

    def _forget(self, number: int) -> None:
        self.calls.forget(number)
        self.owners.pop(number, None)

    def _fail(self, error: Exception) -> None:
        message = f"compiling failed: {error}"
        if self.options.on_error == "raise":
            if isinstance(error, CudaError):
                raise error
            advice = 'options={"on_error": "eager"} runs the graph'
            raise as_compile_error(error, advice) from error
        warnings.warn(f"pfcn: a graph runs in eager: {message}", stacklevel=2)
        self.eager_reason = message


def _count_inputs(module: fx.GraphModule) -> int:
    return sum(node.op == "placeholder" for node in module.graph.nodes)


__all__ = ["Graph"]
