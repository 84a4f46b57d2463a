"""Records one forward of a model as eager runs it.

A recording is exact for the shapes, dtypes, constants and modes that it was made with. What
depends on a size shows up as a different recording at another size; see `unify` and `matches`.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import random
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from . import _C
from .errors import CaptureError

__all__ = [
    "Capture",
    "CaptureError",
    "TreeSpec",
    "current_recorder",
    "matches",
    "record",
    "record_graph",
    "run_graph",
    "unify",
]

_CONSTANTS = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device,
              torch.layout, torch.memory_format, type(...))  # fmt: skip
TENSOR = object()  # stands for a tensor among the leaves of a `TreeSpec`


@dataclass(frozen=True)
class TreeSpec:
    """A nest of lists, tuples and dicts whose leaves are tensors and constants."""

    tree: pytree.TreeSpec
    leaves: tuple[Any, ...]  # constants; `TENSOR` where a tensor stands

    @classmethod
    def of(cls, nest: Any, what: str) -> tuple[list[torch.Tensor], TreeSpec]:
        """The tensors of a nest, in order, and its spec."""
        leaves, tree = pytree.tree_flatten(nest)
        for leaf in leaves:
            if not isinstance(leaf, torch.Tensor) and not isinstance(leaf, _CONSTANTS):
                raise CaptureError(
                    f"{what} contains a {type(leaf).__name__}",
                    remedy="use tensors, numbers, strings, None, and lists, tuples or dicts of"
                    " them, or register the class with torch.utils._pytree",
                )
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        kept = (TENSOR if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves)
        return tensors, cls(tree, tuple(kept))

    def unflatten(self, tensors: Iterable[torch.Tensor]) -> Any:
        """The nest with the given tensors."""
        tensors = iter(tensors)
        leaves = [next(tensors) if leaf is TENSOR else leaf for leaf in self.leaves]
        return pytree.tree_unflatten(leaves, self.tree)

    def template(self) -> Any:
        """The nest with `TENSOR` for each tensor."""
        return pytree.tree_unflatten(list(self.leaves), self.tree)

    def key(self) -> tuple:
        """Hashable; tells 1, 1.0 and True apart."""
        return (self.tree, tuple((type(leaf), repr(leaf)) for leaf in self.leaves
                                 if leaf is not TENSOR), len(self.leaves),
                tuple(i for i, leaf in enumerate(self.leaves) if leaf is TENSOR))  # fmt: skip


@dataclass
class Capture:
    """One forward, recorded."""

    tape: _C.Tape
    inputs: list[torch.Tensor]  # in the order of the function's arguments
    in_spec: TreeSpec  # of (args, kwargs)
    out_spec: TreeSpec
    # Of each tensor result: whether it shares memory with an input, a parameter or a buffer, and
    # the strides that eager gave it.
    aliases_foreign: list[bool] = field(default_factory=list)
    out_strides: list[tuple[int, ...]] = field(default_factory=list)
    devices: set[torch.device] = field(default_factory=set)  # of the inputs
    seconds: float = 0.0  # that recording took

    @functools.cached_property
    def model(self) -> _C.Model:
        """The recording in the pfcn dialect."""
        return self.tape.build()

    @functools.cached_property
    def tape_key(self) -> tuple:
        """Equal for recordings that compute the same."""
        return (self.tape.key, self.in_spec.key(), self.out_spec.key())


def unify(a: Capture, b: Capture) -> Capture | None:
    """A recording with `?` for the sizes in which two recordings differ, None if they differ in
    more than sizes that follow from the inputs'."""
    if a.in_spec.key() != b.in_spec.key() or a.out_spec.key() != b.out_spec.key():
        return None
    tape = _C.unify(a.tape, b.tape)
    if tape is None:
        return None
    return Capture(tape, a.inputs, a.in_spec, a.out_spec, a.aliases_foreign, a.out_strides)


def matches(general: Capture, capture: Capture) -> bool:
    """Whether the general recording computes what `capture` recorded."""
    return (
        general.in_spec.key() == capture.in_spec.key()
        and general.out_spec.key() == capture.out_spec.key()
        and general.aliases_foreign == capture.aliases_foreign
        and _C.matches(general.tape, capture.tape)
    )


def record(
    model: nn.Module,
    args: Sequence[Any] = (),
    kwargs: dict | None = None,
    leaves: dict[str, torch.Tensor] | None = None,
) -> Capture:
    """Runs the model once on the given inputs and records it.

    leaves: the model's `named_tensors`, for those who have them at hand.
    Modes (training, grad) are the caller's. Buffers, random state and gradients are left as they
    were. Raises `CaptureError` where the model does what a recording cannot repeat; an error of the
    model itself passes through.
    """
    inputs, in_spec = TreeSpec.of((tuple(args), dict(kwargs or {})), "the input")
    _check_modes("cuda")
    leaves = named_tensors(model) if leaves is None else leaves
    inputs = _distinct(inputs, {id(tensor) for tensor in leaves.values()})
    args, kwargs = in_spec.unflatten(inputs)

    recorder = _C.Recorder(
        [(module, path) for path, module in model.named_modules()], _FOREIGN_ROOTS
    )
    recorder.allow_writes()
    with _refusals(recorder):
        for tensor in inputs:
            _check_plain(tensor, "an input")
            recorder.add_input(tensor)
        for name, tensor in leaves.items():
            _check_plain(tensor, name)
            recorder.add_leaf(name, tensor)
    outputs = _run(recorder, model, args, kwargs)
    tensors, out_spec = TreeSpec.of(outputs, "the result")
    with _refusals(recorder):
        recorder.check_unwritten()
        aliases = [recorder.add_output(tensor) for tensor in tensors]
        recorder.finish()
    strides = [tensor.stride() for tensor in tensors]
    return Capture(recorder.tape, inputs, in_spec, out_spec, aliases, strides)


def record_graph(
    graph: fx.GraphModule, args: Sequence[Any], weights: dict[int, str]
) -> tuple[Capture, tuple]:
    """Runs an FX graph once and records it.

    weights: the names of those arguments that are weights; the other tensors are inputs. Returns
    the recording, and the results with `TENSOR` where there is a tensor.
    """
    _check_modes("cpu", "cuda")
    constants = {f"graph.{name}": tensor for name, tensor in constants_of(graph).items()}
    leaves = {name: args[i] for i, name in weights.items()} | constants
    places = [i for i, arg in enumerate(args) if isinstance(arg, torch.Tensor) and i not in weights]
    inputs = _distinct([args[i] for i in places], {id(tensor) for tensor in leaves.values()})
    args = list(args)
    for i, tensor in zip(places, inputs):
        args[i] = tensor

    recorder = _C.Recorder([], _FOREIGN_ROOTS)
    with _refusals(recorder):
        for tensor in inputs:
            _check_plain(tensor, "an input")
            recorder.add_input(tensor)
        for name, tensor in leaves.items():
            _check_plain(tensor, name)
            recorder.add_leaf(name, tensor)
    with _recording(recorder):
        outputs = run_graph(graph, args, recorder)
    tensors = [output for output in outputs if isinstance(output, torch.Tensor)]
    with _refusals(recorder):
        recorder.check_unwritten()
        aliases = [recorder.add_output(tensor) for tensor in tensors]
    specs = (TreeSpec.of(inputs, "")[1], TreeSpec.of(tensors, "")[1])
    strides = [tensor.stride() for tensor in tensors]
    rest = (TENSOR if isinstance(output, torch.Tensor) else output for output in outputs)
    return Capture(recorder.tape, inputs, *specs, aliases, strides), tuple(rest)


def constants_of(graph: fx.GraphModule) -> dict[str, torch.Tensor]:
    """Tensors that belong to the graph itself, parameters and buffers included."""
    targets = {node.target for node in graph.graph.nodes if node.op == "get_attr"}
    found = {target: functools.reduce(getattr, target.split("."), graph)
             for target in sorted(targets)}  # fmt: skip
    return {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}


def run_graph(graph: fx.GraphModule, args: Sequence[Any], recorder: _C.Recorder) -> Sequence[Any]:
    """The results of the graph; tells the recorder where in the user's code each node comes from.
    (`fx.Interpreter` keeps the books of nested tracers with each node, at ten times the cost.)"""
    waiting, values = iter(args), {}
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            values[node] = next(waiting)
            continue
        if node.op == "get_attr":
            values[node] = functools.reduce(getattr, node.target.split("."), graph)
            continue
        given = fx.map_arg((node.args, node.kwargs), values.__getitem__)
        if node.op == "output":
            return given[0][0]
        recorder.set_place(*_place_of(node))
        values[node] = _call_target(graph, node, *given)
    raise AssertionError("the graph has no output")


def _call_target(graph: fx.GraphModule, node: fx.Node, args: tuple, kwargs: dict) -> Any:
    if node.op == "call_method":
        return getattr(args[0], node.target)(*args[1:], **kwargs)
    if node.op == "call_module":
        return graph.get_submodule(node.target)(*args, **kwargs)
    return node.target(*args, **kwargs)


def _place_of(node: fx.Node) -> tuple[str, str, int]:
    stack = node.meta.get("nn_module_stack") or node.meta.get("fwd_nn_module_stack")
    path = next(reversed(stack.values()))[0] if stack else ""
    path = path.removeprefix("L['self']").removeprefix(".")
    return (path, *_last_line(node.meta.get("stack_trace") or ""))


@functools.lru_cache(maxsize=256)
def _last_line(stack_trace: str) -> tuple[str, int]:
    """File and line of the innermost call that is not torch's own."""
    lines = re.findall(r'File "(.*)", line (\d+)', stack_trace)
    lines = [line for line in lines if not line[0].startswith(_FOREIGN_ROOTS[0])]
    return (lines[-1][0], int(lines[-1][1])) if lines else ("", 0)


# Frames of these are not the user's.
_FOREIGN_ROOTS = [os.path.dirname(torch.__file__), __file__]
_FOREIGN_ROOTS += [module.__file__ for module in (contextlib, copy, functools)]


# A recording watches the calls of all modules (see `_calls_watched`), so two take turns.
_ONE_AT_A_TIME = threading.RLock()
_active = threading.local()


def current_recorder() -> _C.Recorder | None:
    """Of the calling thread, while it is recording."""
    return getattr(_active, "recorder", None)


def _run(recorder: _C.Recorder, model: nn.Module, args: tuple, kwargs: dict) -> Any:
    """The forward under the recorder."""
    watches = [_attributes_kept(recorder, model), _calls_watched(recorder)]
    with _recording(recorder, *watches):
        return model(*args, **kwargs)


@contextlib.contextmanager
def _recording(
    recorder: _C.Recorder, *watches: contextlib.AbstractContextManager
) -> Iterator[None]:
    """What runs inside is recorded, on a thread of its own turn, and leaves no trace."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_refusals(recorder))
        stack.enter_context(_ONE_AT_A_TIME)
        stack.enter_context(_random_state_kept(recorder))
        for watch in watches:
            stack.enter_context(watch)
        stack.enter_context(_no_attention_fast_path())
        stack.enter_context(_no_autocast_cache())
        stack.enter_context(_Escapes(recorder))
        recorder.start()
        stack.callback(recorder.stop)
        stack.callback(setattr, _active, "recorder", current_recorder())
        _active.recorder = recorder
        yield


@contextlib.contextmanager
def _refusals(recorder: _C.Recorder) -> Iterator[None]:
    """Says what was refused, whatever the model made of the error."""
    try:
        yield
    except Exception:
        if recorder.refusal is None:
            raise
    if recorder.refusal is not None:
        raise CaptureError(*recorder.refusal)


def _check_modes(*autocast_devices: str) -> None:
    for device in autocast_devices:
        if torch.is_autocast_enabled(device):
            raise CaptureError("autocast is on", remedy="cast the model and its inputs instead")
    if torch._C._functorch.peek_interpreter_stack() is not None:
        raise CaptureError("a transform of torch.func is running", remedy="compile outside of it")
    if torch._C._len_torch_dispatch_stack() > 0:
        raise CaptureError("a TorchDispatchMode is active", remedy="compile outside of it")


def _check_plain(tensor: torch.Tensor, what: str) -> None:
    # To isinstance, a parameter of any subclass of tensors is an nn.Parameter.
    kind = type(tensor)
    if kind not in (torch.Tensor, nn.Buffer) and nn.Parameter not in kind.__mro__:
        raise CaptureError(
            f"{what} is of the tensor subclass {type(tensor).__name__}", remedy="use plain tensors"
        )


def named_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters, buffers, and what a module says are its constants; shared ones once."""
    constants = getattr(model, "named_constants", list)()
    return dict([*model.named_parameters(), *model.named_buffers(), *constants])


def _distinct(inputs: list[torch.Tensor], taken: set[int]) -> list[torch.Tensor]:
    """The inputs, a tensor that is there twice (or is a parameter) replaced by a view of it: the
    next call may pass two."""
    distinct = []
    for tensor in inputs:
        distinct.append(tensor.view_as(tensor) if id(tensor) in taken else tensor)
        taken.add(id(tensor))
    return distinct


# --- What the dispatcher does not show -----------------------------------------------------------

_AS_DATA = "makes Python data out of a tensor"
_AS_MEMORY = "hands out the memory of a tensor"
_KEEPTENSORS = "compute with the tensor itself, or keep this part of the model in eager"
_REFUSED = {
    torch.Tensor.tolist: _AS_DATA,
    torch.Tensor.item: _AS_DATA,
    torch.Tensor.__bool__: _AS_DATA,
    torch.Tensor.__int__: _AS_DATA,
    torch.Tensor.__float__: _AS_DATA,
    torch.Tensor.__complex__: _AS_DATA,
    torch.Tensor.__index__: _AS_DATA,
    torch.Tensor.__contains__: _AS_DATA,
    torch.Tensor.__format__: _AS_DATA,
    torch.Tensor.__repr__: _AS_DATA,
    torch.Tensor.__reduce_ex__: _AS_DATA,
    torch.Tensor.__deepcopy__: _AS_DATA,
    torch.Tensor.numpy: _AS_MEMORY,
    torch.Tensor.__array__: _AS_MEMORY,
    torch.Tensor.__dlpack__: _AS_MEMORY,
    torch.Tensor.data_ptr: _AS_MEMORY,
    torch.Tensor.untyped_storage: _AS_MEMORY,
    torch.Tensor.storage: _AS_MEMORY,
    torch.Tensor.data.__set__: "replaces the data of a tensor",
    torch.Tensor.grad.__get__: "reads a gradient",
    torch.Tensor.backward: "runs a backward pass",
    torch.autograd.grad: "runs a backward pass",
    torch.autograd.backward: "runs a backward pass",
    torch.Tensor.requires_grad_: "changes whether a tensor takes part in autograd",
    torch.Tensor.requires_grad.__set__: "changes whether a tensor takes part in autograd",
    torch.Tensor.register_hook: "registers a hook on a tensor",
}


# They read numbers out of the tensors in a list, unseen by the dispatcher.
_CONSTRUCTORS = {torch.tensor, torch.as_tensor, torch.asarray, torch.Tensor.new_tensor}


def _holds_tensor(nest: Any) -> bool:
    return isinstance(nest, torch.Tensor) or (
        isinstance(nest, list | tuple) and any(map(_holds_tensor, nest))
    )


class _Escapes(TorchFunctionMode):
    """Refuses what makes something other than tensors of a tensor."""

    def __init__(self, recorder: _C.Recorder):
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func, types, args=(), kwargs=None):
        reason = _REFUSED.get(func)
        if func in _CONSTRUCTORS and any(
            _holds_tensor(value)
            for value in (*args, *(kwargs or {}).values())
            if isinstance(value, list | tuple)
        ):
            reason = "of a list of tensors reads their data (torch.stack does not)"
        if reason is not None and self.recorder.refusal is None:
            name = getattr(func, "__name__", str(func))
            self.recorder.refuse(f"{name} {reason}", _KEEPTENSORS)
            raise CaptureError(*self.recorder.refusal)
        return func(*args, **(kwargs or {}))


def _drops_padding(module: nn.Module, args: tuple, kwargs: dict) -> bool:
    """The fast path of a TransformerEncoder in eval gives zeros for padding; others compute it."""
    if not isinstance(module, nn.TransformerEncoder) or module.training:
        return False
    mask = args[2] if len(args) > 2 else kwargs.get("src_key_padding_mask")
    return mask is not None


@contextlib.contextmanager
def _calls_watched(recorder: _C.Recorder) -> Iterator[None]:
    """Tells the recorder which module is being called."""
    thread, call = threading.get_ident(), nn.Module.__call__
    enter, leave = recorder.enter, recorder.leave

    def watched_call(module, *args, **kwargs):
        if threading.get_ident() != thread:
            return call(module, *args, **kwargs)
        if _drops_padding(module, args, kwargs):
            recorder.refuse(
                "a TransformerEncoder drops what src_key_padding_mask masks",
                "keep this part of the model in eager",
            )
            raise CaptureError(*recorder.refusal)
        enter(module)
        try:
            return call(module, *args, **kwargs)
        finally:
            leave()

    nn.Module.__call__ = watched_call
    try:
        yield
    finally:
        nn.Module.__call__ = call


@contextlib.contextmanager
def _random_state_kept(recorder: _C.Recorder) -> Iterator[None]:
    """Torch's random numbers are drawn anew by a replay; those of Python and NumPy are not."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    numpy = sys.modules.get("numpy")
    state, numpy_state = random.getstate(), numpy and numpy.random.get_state()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            drawn = random.getstate() != state
            if numpy and repr(numpy.random.get_state()) != repr(numpy_state):
                numpy.random.set_state(numpy_state)
                drawn = True
            if drawn:
                random.setstate(state)
                recorder.refuse("random numbers that are not torch's", "draw them with torch.rand")


@contextlib.contextmanager
def _no_autocast_cache() -> Iterator[None]:
    """Weights that were cast before are not known here; equal casts become one later."""
    was_enabled = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(was_enabled)


@contextlib.contextmanager
def _no_attention_fast_path() -> Iterator[None]:
    """The fast path of nn.MultiheadAttention reads weights in ways of its own."""
    was_enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_enabled)


@contextlib.contextmanager
def _attributes_kept(recorder: _C.Recorder, model: nn.Module) -> Iterator[None]:
    """Refuses a forward that leaves something behind in its modules, and takes it back."""
    tables: list[tuple[str, dict, dict]] = []
    containers: list[tuple[str, Any, Any]] = []
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            if _C.assigns_attribute(module):
                raise CaptureError(
                    "a method of a ScriptModule assigns an attribute",
                    path,
                    "return the value instead, or keep this part of the model in eager",
                )
            continue
        for table in (module.__dict__, module._buffers, module._parameters, module._modules):
            tables.append((path, table, dict(table)))
        for name, value in module.__dict__.items():
            if name not in _MODULE_ATTRIBUTES and isinstance(value, list | dict | set):
                containers.append((f"{path}.{name}" if path else name, value, copy.copy(value)))
    try:
        yield
    finally:
        for path, table, before in tables:
            if table.keys() == before.keys() and all(
                map(_is_same, table.values(), before.values())
            ):
                continue
            changed = [
                key
                for key in {*table, *before}
                if key not in table or key not in before or not _is_same(table[key], before[key])
            ]
            table.clear()
            table.update(before)
            _refuse_change(recorder, f"{path}.{min(changed)}" if path else min(changed))
        for name, value, before in containers:
            items, old = (v.items() if isinstance(v, dict) else v for v in (value, before))
            if len(value) == len(before) and all(map(_is_same, _flat(items), _flat(old))):
                continue
            value.clear()
            value.extend(before) if isinstance(value, list) else value.update(before)
            _refuse_change(recorder, name)


def _refuse_change(recorder: _C.Recorder, name: str) -> None:
    recorder.refuse(
        f"forward changes the attribute {name}, which a replay would not",
        "return the value instead, or keep this part of the model in eager",
    )


def _flat(items: Iterable) -> Iterator:
    """Keys and values one by one; the items of a dict are made anew each time."""
    for item in items:
        if isinstance(item, tuple):
            yield from item
        else:
            yield item


_MODULE_ATTRIBUTES = frozenset(nn.Module().__dict__)


def _is_same(a: Any, b: Any) -> bool:
    return a is b
