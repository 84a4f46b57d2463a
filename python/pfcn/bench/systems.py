"""The rivals that know nothing of a particular workload. Each is a `setup` of a `System`."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import nn

from .workload import Call, LeftOut


def synchroniser(device: torch.device) -> Callable[[], None]:
    """What waits for the device to finish; nothing on the CPU, where a call ends with its work."""
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None


def eager(model: nn.Module, x: torch.Tensor) -> Call:
    return model


def cuda_only(setup: Callable[[nn.Module, torch.Tensor], Call]):
    """Wraps a set-up that needs CUDA streams."""

    def wrapped(model: nn.Module, x: torch.Tensor) -> Call:
        if x.device.type != "cuda":
            raise LeftOut("needs CUDA streams; the CPU has none")
        return setup(model, x)

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


def torch_compile(model: nn.Module, x: torch.Tensor) -> Call:
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

    def setup(model: nn.Module, x: torch.Tensor) -> Call:
        import pfcn

        return pfcn.compile(model, (x,), freeze=freeze)

    return setup
