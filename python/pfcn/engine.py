"""From calls to plans: when to record, which plan to run, and when eager must.

The first call with new shapes, layouts or modes records the model again; `plans.py` finds the plan
for a recording. Anything put in, replaced or taken out of the model makes all recordings void.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from . import _C, capture
from .errors import CaptureError, CudaError, Error, FusionError, as_compile_error
from .plans import Options, Plans, Tensors, prepared
from .report import Report

_MAX_CALLS = 64  # shapes whose plan is at hand
_MAX_REFUSALS = 8  # after which a model that keeps changing is left alone


@dataclass
class Call:
    """What a call with certain shapes runs: a plan with the model's weights, or eager."""

    bound: _C.BoundPlan | None = None
    constants: dict[str, torch.Tensor] = field(default_factory=dict)  # kept alive for the plan
    recording: capture.Capture | None = None
    shape: _C.CallShape | None = None  # of a call that the dispatcher can answer
    followed: tuple = ()  # in grad mode: which inputs autograd follows, and then which parameters

    @property
    def is_followed(self) -> bool:
        return any(self.followed)


@dataclass
class State:
    """What was found out about the model as it is now; void once it changes."""

    calls: OrderedDict[tuple, Call] = field(default_factory=OrderedDict)
    weights: _C.Weights = field(default_factory=_C.Weights)
    guards: _C.Guards | None = None


class Engine:
    """The plans of one model."""

    def __init__(self, model: nn.Module, options: Options, hooks: list[dict]):
        self.model = model
        self.options = options
        self.hooks = hooks
        self.dispatcher = _C.Dispatcher()
        self.dispatch = self.dispatcher.callable()
        self.plans = Plans(options)
        self.state = State()
        self.lock = threading.RLock()
        self.eager_reason = ""
        self.shapes: dict[tuple, _C.CallShape | None] = {}
        self.refusals = 0
        self.tracked_calls = 0
        self.has_hooks = False
        self.stacked: list = []  # parameters that train as one; see optim.py
        self.is_disabled = os.environ.get("PFCN_DISABLE", "") not in ("", "0")
        if self.is_disabled:
            self.eager_reason = "PFCN_DISABLE is set"

    # --- Calls -----------------------------------------------------------------------------------

    def run(self, args: tuple, kwargs: dict) -> Any:
        """The model's result."""
        inputs = self._inputs(args, kwargs)
        if inputs is None:
            return self.model(*args, **kwargs)
        tensors, spec = inputs
        with self.lock:
            call = self._find_call(tensors, spec, args, kwargs)
        if call.bound is None:
            return self.model(*args, **kwargs)
        if self.stacked and call.is_followed:
            self._check_stacked_homes()
        return call.recording.out_spec.unflatten(call.bound.run(tensors, call.is_followed))

    def prepare(self, args: tuple, kwargs: dict) -> None:
        """Records and compiles for these arguments, whether or not autograd would follow them."""
        if self.is_disabled or self._find_hooks():
            return
        with torch.no_grad(), self.lock:
            tensors, spec = capture.TreeSpec.of((args, kwargs), "the input")
            self._find_call(tensors, spec, args, kwargs)

    def explain(self, args: tuple, kwargs: dict) -> Report:
        """The report for these arguments, without touching the model's parameters."""
        try:
            with torch.no_grad(), _uncollected():
                own = capture.named_tensors(self.model)
                self.plans.find(self._record(args, kwargs, own), own)
        except CaptureError as error:
            if self.options.strict:
                raise
            self.eager_reason = str(error)
        return self.report()

    def _inputs(self, args: tuple, kwargs: dict) -> tuple[list, capture.TreeSpec] | None:
        """The tensors of a call that a plan may answer; None where only eager can."""
        if self.is_disabled or not _C.is_plain_dispatch(allows_autocast=True):
            return None
        if self._find_hooks():
            return None
        try:
            tensors, spec = capture.TreeSpec.of((args, kwargs), "the input")
        except CaptureError as error:
            self.eager_reason = str(error)
            return None
        if not all(map(_C.is_plain_tensor, tensors)):
            return None
        if (
            torch.is_grad_enabled()
            and self._is_untrainable(tensors)
            and any(self._find_followed(tensors))
        ):
            self.tracked_calls += 1
            return None
        return tensors, spec

    def _is_untrainable(self, tensors: list) -> bool:
        """Whether eager has the calls that autograd follows: frozen weights, other devices."""
        if self.options.freeze or not self.options.use_kernels or self.options.device is not None:
            return True
        return any(tensor.device.type != "cpu" for tensor in [*tensors, *self.model.parameters()])

    def _find_followed(self, tensors: list) -> tuple:
        """Which inputs and tensors of the model autograd follows; empty where it is off."""
        if not torch.is_grad_enabled():
            return ()
        tracked = [*tensors, *capture.named_tensors(self.model).values()]
        return tuple(tensor.requires_grad for tensor in tracked)

    def _find_hooks(self) -> bool:
        """Whether a hook is registered on the model or a part of it, or on all modules."""
        # Only registering is counted: while there are hooks, each call looks if there still are.
        if self.has_hooks or self.dispatcher.have_hooks_changed():
            self.dispatcher.note_hooks()
            had_hooks = self.has_hooks
            self.has_hooks = _has_global_hooks() or any(map(_has_hooks, self.model.modules()))
            if had_hooks != self.has_hooks:
                self.eager_reason = "hooks are registered on its modules" if self.has_hooks else ""
            self._publish()
        return self.has_hooks

    def _find_call(self, tensors: list, spec: capture.TreeSpec, args: tuple, kwargs: dict) -> Call:
        self._drop_stale()
        followed = self._find_followed(tensors)
        key = (spec.key(), tuple(map(_describe, tensors)), followed, _C.get_mode())
        call = self.state.calls.get(key)
        if call is None:
            with _uncollected():
                call = self._make_call(args, kwargs, any(followed))
            call.followed = followed
            self.state.calls[key] = call
            if len(self.state.calls) > _MAX_CALLS:
                self.state.calls.popitem(last=False)
            self._publish()
        self.state.calls.move_to_end(key)
        return call

    def _drop_stale(self) -> None:
        """Forgets what was recorded of a model that is no longer the same."""
        state = self.state
        if state.guards is None:
            return
        is_same = not state.guards.have_changed() and state.weights.settle()
        if is_same and all(c.bound is None or c.bound.is_current() for c in state.calls.values()):
            state.guards.rearm()
            return
        self.refresh()

    def refresh(self) -> None:
        """Makes all recordings void."""
        with self.lock:
            weights = self.state.weights
            self.state = State()
            self.state.weights.take_leaves(weights)
            self.dispatcher.clear()

    def _check_stacked(self) -> None:
        """A parameter that took the place of a stacked one would not be trained."""
        own = dict(self.model.named_parameters())
        for leaf in self.stacked:
            for name, member in zip(leaf.names, leaf._members(), strict=True):
                if own.get(name) is not member:
                    raise Error(
                        f"parameter '{name}' was replaced after pfcn.optim.stack;"
                        " compile the model anew, and stack it again"
                    )

    def _check_stacked_homes(self) -> None:
        """Where other networks stand beside them now, parameters have moved away from the leaf."""
        for leaf in self.stacked:
            if leaf._members()[0].data_ptr() != leaf.data_ptr():
                raise Error(
                    f"the networks of '{leaf.names[0]}' train stacked, and others have come"
                    " to them or left; compile the model anew, and stack it again"
                )

    def _publish(self) -> None:
        """Gives the dispatcher the calls that it can answer: tensors, and lists, tuples and dicts
        of them, in and out. The most recent comes first."""
        self.dispatcher.clear()
        if self.has_hooks or self.is_disabled:
            return
        for key, call in self.state.calls.items():
            if call.shape is None:
                continue
            inputs = call.recording.inputs
            followed = list(call.followed[: len(inputs)]) or [False] * len(inputs)
            pattern = call.bound.grad_pattern if call.is_followed else 0
            self.dispatcher.add(call.bound, inputs, key[-1], call.shape, followed, pattern)
        weights = None if self.options.freeze else self.state.weights
        self.dispatcher.watch(self.state.guards, weights, self.hooks)

    # --- Recording and compiling -----------------------------------------------------------------

    def _make_call(self, args: tuple, kwargs: dict, followed: bool) -> Call:
        if self.refusals >= _MAX_REFUSALS:
            return Call()
        if self.state.guards is None:
            self.state.guards = _guards(self.model, self.options.freeze)
        if followed:
            self._check_stacked()
        try:
            own = capture.named_tensors(self.model)
            recording = self._record(args, kwargs, own)
            self._check_writes(recording)
        except CaptureError as error:
            self.refusals += 1
            self.eager_reason = str(error)
            if self.options.strict:
                raise
            return Call()
        try:
            plan = self.plans.find(recording, own, followed)
            tensors = {**plan.constants, **own}
            bound = _C.BoundPlan(plan.compilation.plan, tensors, self.state.weights,
                                 self.options.freeze)  # fmt: skip
        except FusionError:
            raise
        except CaptureError as error:
            self.eager_reason = str(error)
            return Call()
        except Exception as error:
            return self._failed(error)
        self.eager_reason = ""
        return Call(bound, plan.constants, recording, self._shape(recording))

    def _shape(self, recording: capture.Capture) -> _C.CallShape | None:
        """How tensors lie in arguments and result; None where that takes Python."""
        key = (recording.in_spec.key(), recording.out_spec.key())
        if key not in self.shapes:
            args, kwargs = recording.in_spec.template()
            result = recording.out_spec.template()
            self.shapes[key] = None if kwargs else _C.CallShape.of(args, result, capture.TENSOR)
        return self.shapes[key]

    def _check_writes(self, recording: capture.Capture) -> None:
        """A plan writes buffers where nothing is frozen."""
        if recording.tape.writes and self.options.freeze:
            raise CaptureError(
                f"its forward writes {recording.tape.writes[0]}, which was to be frozen",
                remedy="call model.eval() if only training writes it",
            )

    def _failed(self, error: Exception) -> Call:
        message = f"compiling failed: {error}"
        if self.options.on_error == "raise":
            if isinstance(error, CudaError):
                raise error
            raise as_compile_error(error, 'on_error="eager" runs the model') from error
        warnings.warn(f"pfcn: the model runs in eager: {message}", stacklevel=2)
        self.eager_reason = message
        return Call()

    def _record(self, args: tuple, kwargs: dict, own: Tensors) -> capture.Capture:
        started = time.perf_counter()
        return prepared(capture.record(self.model, args, kwargs, own), started)

    # --- Report ----------------------------------------------------------------------------------

    def report(self) -> Report:
        report = self.plans.report()
        report.eager = self.eager_reason
        report.tracked_calls = self.tracked_calls
        report.copies = [
            f"{count} parameters: {reason}" for count, reason in self.state.weights.stacks if reason
        ]
        return report


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Python's collector of cycles waits. While thousands of dictionaries and tensors are made it
    would look at all objects of a large model again and again, a third of the time of a capture."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _describe(tensor: torch.Tensor) -> tuple:
    return (tensor.shape, tensor.stride(), tensor.dtype, tensor.device)


def _guards(model: nn.Module, freeze: bool) -> _C.Guards:
    """Over the dictionaries in which the model keeps submodules, parameters and attributes."""
    if freeze:
        return _C.Guards([vars(model)])
    dicts, scripted, seen, waiting = [], [], set(), [model]
    while waiting:
        module = waiting.pop()
        if module is None or id(module) in seen:
            continue
        seen.add(id(module))
        own = vars(module)
        dicts.append(own)
        if isinstance(module, torch.jit.ScriptModule):
            scripted.append(module)  # with all that is below it
            continue
        tables = (own.get(name) for name in ("_modules", "_parameters", "_buffers"))
        dicts.extend(table for table in tables if table)
        waiting.extend(reversed(module._modules.values()))
    return _C.Guards(dicts, scripted)


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _has_hooks(module: nn.Module) -> bool:
    return any(getattr(module, name, None) for name in _HOOKS)


def _has_global_hooks() -> bool:
    owner = torch.nn.modules.module
    return any(getattr(owner, "_global" + name, None) for name in _HOOKS)


__all__ = ["Engine", "Options"]
