"""The rivals that know nothing of a particular workload. Each is a `setup` of a `System`."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .workload import Call, LeftOut


def synchroniser(device: torch.device) -> Callable[[], None]:
    """What waits for the device to finish; nothing on the CPU, where a call ends with its work."""
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None


def stopwatch(device: torch.device) -> Callable[[Callable[[], object]], float]:
    """What times one call in µs: the clock on the CPU; on a GPU, two events around what the call
    puts on the stream, with the device idle before: launching counts, and waiting does not."""

    def clock(call: Callable[[], object]) -> float:
        start = time.perf_counter_ns()
        call()
        return (time.perf_counter_ns() - start) / 1e3

    def events(call: Callable[[], object]) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) * 1e3

    return events if device.type == "cuda" else clock


def eager(model: nn.Module, *inputs: Any) -> Call:
    return model


def cuda_only(setup: Callable[[nn.Module, torch.Tensor], Call]):
    """Wraps a set-up that needs CUDA streams."""

    def wrapped(model: nn.Module, x: torch.Tensor) -> Call:
        if x.device.type != "cuda":
            raise LeftOut("needs CUDA streams; the CPU has none")
        return setup(model, x)

    return wrapped


def cuda_graph(setup: Callable[[nn.Module, torch.Tensor], Call]):
    """Wraps a set-up: what its call launches is captured once, and replayed with every call."""

    def wrapped(model: nn.Module, x: torch.Tensor) -> Call:
        if x.device.type != "cuda":
            raise LeftOut("needs CUDA graphs; the CPU has none")
        call, taken = setup(model, x), x.clone()
        # As torch's documentation asks: warmed up on another stream than the one that is captured.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                call(taken)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = call(taken)

        def replay(x: torch.Tensor) -> torch.Tensor:
            taken.copy_(x)
            graph.replay()
            return result

        return replay

    return wrapped


def jit_script(model: nn.Module, x: torch.Tensor) -> Call:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; people still try it
        scripted = torch.jit.script(model)
    scripted(x)  # this call is profiled, and the next one, still in the set-up, optimises
    return scripted


def jit_script_frozen(model: nn.Module, x: torch.Tensor) -> Call:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.script(model)))
    scripted(x)
    return scripted


def compiled(call: Call) -> Call:
    """torch.compile with its default backend, for exactly this shape."""
    torch._dynamo.reset()
    return torch.compile(call, dynamic=False)


def torch_compile(model: nn.Module, *inputs: Any) -> Call:
    return compiled(model)


def vmapped(networks: list[nn.Module], in_dim: int, out_dim: int) -> Call:
    """The networks as one, weights stacked once; the instances lie along `in_dim` and `out_dim`."""
    params, buffers = torch.func.stack_module_state(networks)
    params = {name: p.detach() for name, p in params.items()}
    template = networks[0]

    def one(params, buffers, x):
        return torch.func.functional_call(template, (params, buffers), (x,))

    batched = torch.vmap(one, in_dims=(0, 0, in_dim), out_dims=out_dim)
    return lambda x: batched(params, buffers, x)


def pfcn(freeze: bool):
    """pfcn.compile, live weights (an update is seen by the next call) or frozen (packed once)."""

    def setup(model: nn.Module, *inputs: Any) -> Call:
        import pfcn

        return pfcn.compile(model, inputs, freeze=freeze)

    return setup
