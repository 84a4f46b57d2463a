"""Checks on a real GPU, each run in a process of its own by test_hardware.py: `hardware.py CHECK`.

`host` needs a driver only: tensors stay on the CPU. The others need a CUDA build of torch.
"""

from __future__ import annotations

import copy
import sys
from concurrent.futures import ThreadPoolExecutor

import torch
from cuda_models import MODELS, make
from torch import nn

import pfcn
from pfcn.bench.seed import ParallelFCN

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def compare(result: torch.Tensor, model: nn.Module, x: torch.Tensor) -> None:
    """With eager on the CPU in f64, by which eager's own rounding is judged too."""
    assert result.dtype == x.dtype
    exact = copy.deepcopy(model).cpu().double()(x.cpu().double())
    if x.dtype in (torch.float32, torch.float64):
        torch.testing.assert_close(result.cpu(), exact.to(x.dtype))
        return
    eager_error = (model.cpu()(x.cpu()).double() - exact).abs().max()
    error = (result.cpu().double() - exact).abs().max()
    assert error <= 1.5 * eager_error + torch.finfo(x.dtype).eps * exact.abs().max()


def host(kinds: list[str]) -> None:
    """Models and inputs on the CPU, kernels on the GPU."""
    for kind in kinds or MODELS:
        for dtype in DTYPES:
            model, x = make(kind, dtype)
            fast = pfcn.compile(model, device="cuda", strict=True)
            for batch in (1, 3, 17):
                x = torch.randn(batch, *x.shape[1:]).to(dtype)
                compare(fast(x), model, x)
            assert fast.report.launches == MODELS[kind][1], str(fast.report)


def tensors(kinds: list[str]) -> None:
    """Models on the GPU: f32 is compared with multiplications that are not rounded to tf32."""
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    for kind in kinds or MODELS:
        for dtype in DTYPES:
            model, x = make(kind, dtype)
            fast = pfcn.compile(copy.deepcopy(model).cuda())
            for batch in (1, 3, 17, 128):
                x = torch.randn(batch, *x.shape[1:]).to(dtype)
                compare(fast(x.cuda()), model, x)
                wide = torch.stack([x, x], dim=-1).cuda()[..., 0]
                compare(fast(wide), model, x)


def order(_: list[str]) -> None:
    """On the current stream, from several threads, and in a graph that is replayed."""
    model = ParallelFCN(100).eval().requires_grad_(False)
    fast = pfcn.compile(copy.deepcopy(model).cuda())
    x = torch.randn(16, 2000)
    on_device = x.cuda()
    compare(fast(on_device), model, x)

    def on_a_stream(_: int) -> torch.Tensor:
        with torch.no_grad(), torch.cuda.stream(torch.cuda.Stream()):
            result = fast(x.pin_memory().cuda(non_blocking=True))
            torch.cuda.current_stream().synchronize()
            return result

    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(on_a_stream, range(16)):
            compare(result, model, x)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = fast(on_device)
    other = torch.randn_like(x)
    on_device.copy_(other)
    graph.replay()
    compare(result, model, other)


def weights(_: list[str]) -> None:
    """Edits, optimizer steps and replaced modules are seen by the next call."""
    model = ParallelFCN(30).eval().cuda()
    fast = pfcn.compile(model)
    x = torch.randn(4, 600, device="cuda")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(3):
        with torch.no_grad():
            torch.testing.assert_close(fast(x), model(x))
        with torch.enable_grad():
            model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if step == 1:
            model.models[7] = ParallelFCN(1).models[0].cuda()


CHECKS = {check.__name__: check for check in (host, tensors, order, weights)}

if __name__ == "__main__":
    with torch.no_grad():
        CHECKS[sys.argv[1]](sys.argv[2:])
