"""The backend of `torch.compile(model, backend="pfcn")`.

Dynamo's graph is compiled as it is, with the gradients of its groups where autograd follows it.
What writes its inputs or returns views goes through AOTAutograd, which makes a forward and a
backward graph of it, and each of these is compiled.
"""

from __future__ import annotations

import functools
import os
import re
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch._dynamo.backends.common import aot_autograd
from torch._functorch._aot_autograd.schemas import OutputType
from torch._functorch.partitioners import default_partition
from torch._guards import TracingContext

from .errors import InputError
from .graph import Graph, is_followed
from .plans import Options
from .report import Report

_OPTIONS = ("strict", "on_error")
_graphs: list[weakref.ref[Graph]] = []  # in the order in which they were made


def backend(
    graph: fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    mode: str | None = None,
    options: dict[str, Any] | None = None,
) -> Callable:
    """What dynamo calls for each graph.

    options: `strict` (raise where a graph cannot be recorded or nothing in it fuses) and `on_error`
    ("raise", or "eager" to run a graph in eager where compiling fails), as in `pfcn.compile`
    """
    chosen = _choose(mode, options)
    if os.environ.get("PFCN_DISABLE", "") not in ("", "0"):
        return graph.forward
    if _is_plain(graph, example_inputs):
        compiled = Graph(graph, _weights_of(graph, example_inputs), chosen)
        if not is_followed(example_inputs) or compiled.can_train(example_inputs):
            _note(compiled)
            return lambda *args: compiled.run(args)
    return _compile_with_autograd(graph, example_inputs, chosen)


def reports() -> list[Report]:
    """The reports of all graphs that torch.compile has given to pfcn and still holds, in the order
    in which they were compiled."""
    return [graph.report for graph in (ref() for ref in _graphs) if graph is not None]


def _choose(mode: str | None, options: dict[str, Any] | None) -> Options:
    if mode not in (None, "default"):
        raise InputError(f'backend="pfcn" has no mode {mode!r}; leave it out')
    options = dict(options or {})
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise InputError(f'backend="pfcn" has no option {unknown[0]!r}, only {", ".join(_OPTIONS)}')
    if options.get("on_error", "raise") not in ("raise", "eager"):
        raise InputError(f'on_error is "raise" or "eager", not {options["on_error"]!r}')
    return Options(**options)


def _note(graph: Graph) -> None:
    _graphs[:] = [ref for ref in _graphs if ref() is not None]
    _graphs.append(weakref.ref(graph))


def _placeholders(graph: fx.GraphModule) -> list[fx.Node]:
    return [node for node in graph.graph.nodes if node.op == "placeholder"]


def _weights_of(graph: fx.GraphModule, example_inputs: Sequence[Any]) -> dict[int, str]:
    """The inputs of dynamo's graph that are parameters or buffers, by their paths."""
    weights: dict[int, str] = {}
    taken = set()
    for i, (node, value) in enumerate(zip(_placeholders(graph), example_inputs)):
        if isinstance(value, nn.Parameter) or hasattr(value, "_dynamo_static_input_type"):
            path = _path_of(node)
            weights[i] = node.name if path in taken else path
            taken.add(path)
    return weights


def _path_of(node: fx.Node) -> str:
    """`models.0.weight` for `L['self']._modules['models']._modules['0']._parameters['weight']`."""
    arg = node.meta.get("grapharg")
    source = str(arg.source.name) if arg is not None else ""
    parts = re.findall(r"\._(?:modules|parameters|buffers)\['([^']*)'\]", source)
    return ".".join(parts) or node.name


# --- Graphs that need no AOTAutograd -----------------------------------------------------------

# They change modes that a recording must not depend on, or make numbers out of tensors, which
# AOTAutograd keeps as tensors where it can.
_CONTEXTS = ("_set_grad_enabled", "_enter_autocast", "_enter_inference_mode", "item", "tolist")


def _is_plain(graph: fx.GraphModule, example_inputs: Sequence[Any]) -> bool:
    """Whether no input is written, and no result shares memory."""
    if any(map(torch.is_autocast_enabled, ("cpu", "cuda"))):
        return False
    nodes = list(graph.graph.nodes)
    if any(_name_of(node) in _CONTEXTS for node in nodes):
        return False
    if _find_written(graph):
        return False
    inputs = [node.meta.get("example_value") for node in nodes if node.op == "placeholder"]
    memory = {value.untyped_storage()._cdata for value in inputs if isinstance(value, torch.Tensor)}
    for output in nodes[-1].all_input_nodes:
        value = output.meta.get("example_value")
        if not isinstance(value, torch.Tensor):
            return False
        if (address := value.untyped_storage()._cdata) in memory:
            return False
        memory.add(address)
    return True


def _find_written(graph: fx.GraphModule) -> set[int]:
    """The inputs that the graph writes: dynamo has run it on stand-ins for them."""
    values = [node.meta.get("example_value") for node in _placeholders(graph)]
    return {i for i, v in enumerate(values) if isinstance(v, torch.Tensor) and v._version}


def _name_of(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


# --- Graphs of AOTAutograd -----------------------------------------------------------------------


def _compile_with_autograd(
    graph: fx.GraphModule, example_inputs: Sequence[Any], options: Options
) -> Callable:
    paths = _weights_of(graph, example_inputs)
    named: dict[str, str] = {}  # the weights of the forward graph, by placeholder

    def compile_forward(module: fx.GraphModule, inputs: Sequence[Any]) -> Callable:
        metadata = TracingContext.get().fw_metadata
        fixed = set(metadata.static_input_indices)
        for i, node in enumerate(_placeholders(module)):
            if i in fixed:
                named[node.name] = paths.get(i, node.name)
        return compile_boxed(module, _Views.find(module, metadata))

    def compile_backward(module: fx.GraphModule, inputs: Sequence[Any]) -> Callable:
        return compile_boxed(module)

    def compile_boxed(module: fx.GraphModule, views: _Views | None = None) -> Callable:
        weights = {i: named[node.name] for i, node in enumerate(_placeholders(module))
                   if node.name in named}  # fmt: skip
        compiled = Graph(module, weights, options)
        _note(compiled)

        def run(args: list) -> Sequence[Any]:
            results = compiled.run(args)
            if views is not None:
                results = views.renew(args, results)
            args.clear()
            return results

        run._boxed_call = True  # AOTAutograd passes one list, and lets it be emptied
        return run

    compiler = aot_autograd(
        fw_compiler=compile_forward,
        bw_compiler=compile_backward,
        inference_compiler=compile_forward,
        partition_fn=functools.partial(_partition, _find_written(graph)),
    )
    return compiler(graph, example_inputs)


class _Views:
    """Results that are views: of inputs, or of other results.

    AOTAutograd makes them anew of what they view, and where sizes are open it reads the strides and
    the offset off the graph's result. A plan's results are tensors of their own, so these come from
    torch's own view operators.
    """

    def __init__(self, graph: fx.GraphModule, places: list[int], bases: list[int]):
        self.graph = graph  # from all inputs and the bases to the views
        self.places = places  # among the results, of the views
        self.bases = bases  # among the results, of what is viewed

    def renew(self, args: Sequence[Any], results: Sequence[Any]) -> list[Any]:
        renewed = list(results)
        views = self.graph(*args, *(results[i] for i in self.bases))
        for place, view in zip(self.places, views, strict=True):
            renewed[place] = view
        return renewed

    @staticmethod
    def find(module: fx.GraphModule, metadata: Any) -> _Views | None:
        first = metadata.num_mutated_inp_runtime_indices
        (outputs,) = next(n for n in module.graph.nodes if n.op == "output").args
        places = [
            first + i
            for i, info in enumerate(metadata.output_info)
            if info.output_type in _VIEW_OUTPUTS and isinstance(outputs[first + i], fx.Node)
        ]
        if not places:
            return None
        graph = fx.Graph()
        copies = {node: graph.node_copy(node) for node in _placeholders(module)}
        bases: list[int] = []

        def copy(node: fx.Node) -> fx.Node:
            if node in copies:
                return copies[node]
            value = node.meta.get("val")
            views = [outputs[i] for i in places]
            if node in outputs and node not in views and isinstance(value, torch.Tensor):
                bases.append(outputs.index(node))
                copies[node] = graph.placeholder(f"base_{len(bases)}")
            else:
                copies[node] = graph.node_copy(node, copy)
            return copies[node]

        graph.output([copy(outputs[i]) for i in places])
        return _Views(fx.GraphModule(module, graph), places, bases)


_VIEW_OUTPUTS = {
    OutputType.alias_of_input,
    OutputType.alias_of_intermediate,
    OutputType.alias_of_intermediate_save_as_output,
    OutputType.alias_of_intermediate_base_is_user_output,
}
_aten = torch.ops.aten
_VIEWS = {
    _aten.t.default, _aten.transpose.int, _aten.permute.default, _aten.view.default,
    _aten.unsqueeze.default, _aten.squeeze.dim, _aten.squeeze.dims, _aten.slice.Tensor,
    _aten.select.int, _aten.expand.default, _aten.alias.default, _aten.detach.default,
}  # fmt: skip


def _partition(written: set[int], joint: fx.GraphModule, *args: Any, **kwargs: Any) -> tuple:
    """AOTAutograd's default, but the backward graph takes views of inputs anew: each saved view
    would be a tensor of its own. `written`: the inputs that the graph writes."""
    inputs = [node for node in _placeholders(joint) if node.name.startswith("primals")]
    views = {node for i, node in enumerate(inputs) if i not in written}  # and those found below
    copies = {node: node for node in views}

    def copy(node: fx.Node) -> fx.Node:
        if node not in views:
            return node
        if node not in copies:
            copies[node] = joint.graph.node_copy(node, copy)
            copies[node].meta = {**node.meta, "partitioner_tag": "is_backward"}
        return copies[node]

    for node in list(joint.graph.nodes):
        if node.meta.get("partitioner_tag") == "is_backward":
            with joint.graph.inserting_before(node):
                node.args = fx.map_arg(node.args, copy)
                node.kwargs = fx.map_arg(node.kwargs, copy)
        elif node.target in _VIEWS and node.args[0] in views:
            views.add(node)
    return default_partition(joint, *args, **kwargs)


__all__ = ["backend", "reports"]
