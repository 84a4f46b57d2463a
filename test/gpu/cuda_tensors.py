"""Checks of models that are on a GPU themselves, each run in a process of its own by
test_cuda_tensors.py: `cuda_tensors.py CHECK FOLDER`. The GPU is the fake one, and so is what torch
knows of it."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from pathlib import Path

import fake_torch_cuda
import torch
from cuda_models import MODELS, make
from fake_driver import FakeDriver
from torch import nn

import pfcn
from pfcn.bench.seed import ParallelFCN

CUDA = torch.device("cuda", 0)
# What a call of a compiled model may ask of the driver. It may not wait, copy or allocate.
ALLOWED = {"cuCtxSetCurrent", "cuCtxGetCurrent", "cuLaunchKernel"}


@contextlib.contextmanager
def only_launches(driver: FakeDriver, count: int):
    before = len(driver.calls())
    yield
    names = [call["call"] for call in driver.calls()[before:]]
    assert set(names) <= ALLOWED, names
    assert names.count("cuLaunchKernel") == count, names


def close(result: torch.Tensor, expected: torch.Tensor, **tolerances) -> None:
    assert result.device == CUDA, result.device
    torch.testing.assert_close(result.cpu(), expected, **tolerances)


def seed(n: int = 6, batch: int = 2) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A model on the GPU, an input there, and the result of the CPU."""
    torch.manual_seed(0)
    model, x = ParallelFCN(n).eval(), torch.randn(batch, 20 * n)
    expected = model(x)
    return model.to(CUDA), x.to(CUDA), expected


def models(driver: FakeDriver, _library: ctypes.CDLL) -> None:
    for kind, (_, kernels) in MODELS.items():
        if kind == "seed":
            continue  # a thousand networks op by op take the fake torch a minute
        model, x = make(kind)
        expected = model(x)
        fast = pfcn.compile(model.to(CUDA), (x.to(CUDA),), strict=True)
        assert fast.report.launches == kernels and fast.report.copies == [], str(fast.report)
        y = x.to(CUDA)
        close(fast(y), expected)  # memory for the result is there from now on
        with only_launches(driver, kernels):
            result = fast(y)
        close(result, expected)
        assert fast._engine.dispatcher.hits == 2


def layouts(driver: FakeDriver, _library: ctypes.CDLL) -> None:
    model, _, _ = seed()
    fast, host = pfcn.compile(model), ParallelFCN(6)
    host.load_state_dict({name: value.cpu() for name, value in model.state_dict().items()})
    x = torch.randn(5, 120)
    for view in (lambda x: x, lambda x: x[1:4], lambda x: x.t().contiguous().t(), lambda x: x[:1]):
        close(fast(view(x.to(CUDA))), host(view(x)))


def streams(driver: FakeDriver, library: ctypes.CDLL) -> None:
    model, x, expected = seed()
    fast = pfcn.compile(model, (x,))
    fast(x)
    stream = library.fake_torch_new_stream()
    for current in (stream, 0):
        library.fake_torch_set_stream(current)
        close(fast(x), expected)
    used = [launch["stream"] for launch in driver.launches()]
    assert used[-2] != used[-1] and used[-1] == used[0], used


def graphs(driver: FakeDriver, library: ctypes.CDLL) -> None:
    cuda = ctypes.CDLL("libcuda.so.1")
    library.fake_torch_get_stream.restype = ctypes.c_void_p
    model, x, expected = seed()
    fast = pfcn.compile(model, (x,))
    close(fast(x), expected)
    library.fake_torch_set_stream(library.fake_torch_new_stream())
    stream = ctypes.c_void_p(library.fake_torch_get_stream())
    graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
    assert cuda.cuStreamBeginCapture_v2(stream, 0) == 0
    result = fast(x)
    assert cuda.cuStreamEndCapture(stream, ctypes.byref(graph)) == 0
    assert cuda.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, 0) == 0
    x.add_(1)
    model.models[2][0].weight.mul_(3)
    assert cuda.cuGraphLaunch(executable, stream) == 0
    close(result, fast(x).cpu())
    assert not torch.allclose(result.cpu(), expected)


def weights(driver: FakeDriver, _library: ctypes.CDLL) -> None:
    model, x, _ = seed()
    fast = pfcn.compile(model, (x,))
    parameter = model.models[3][0].weight
    changes = [
        lambda: parameter.add_(1),
        lambda: parameter.data.mul_(2),
        lambda: setattr(parameter, "data", torch.ones_like(parameter)),
        lambda: model.load_state_dict({k: v + 1 for k, v in model.state_dict().items()}),
        lambda: setattr(model.models[5], "1", nn.Linear(10, 1).to(CUDA)),
    ]
    for change in changes:
        change()
        for _ in range(2):
            close(fast(x), model(x).cpu())
    assert fast.report.copies == [] and fast.report.launches == 1
    shared = parameter.detach()  # a parameter that cannot move: its stack is copied for each call
    again = pfcn.compile(ParallelFCN(6).to(CUDA))
    backup = [p.detach() for p in again.parameters()]
    close(again(x), again._model(x).cpu())
    assert len(again.report.copies) == 4, again.report.copies
    backup[0].add_(1)
    close(again(x), again._model(x).cpu())
    del shared


def frozen(driver: FakeDriver, _library: ctypes.CDLL) -> None:
    model, x, expected = seed()
    fast = pfcn.compile(model, (x,), freeze=True)
    model.models[0][0].weight.add_(1)
    close(fast(x), expected)


def moves(driver: FakeDriver, _library: ctypes.CDLL) -> None:
    torch.manual_seed(0)
    model, x = ParallelFCN(6).eval(), torch.randn(2, 120)
    fast, expected = pfcn.compile(model, (x,)), model(x)
    for _ in range(2):
        torch.testing.assert_close(fast(x), expected)
        model.to(CUDA)
        before = len(driver.launches())
        close(fast(x.to(CUDA)), expected)
        assert len(driver.launches()) == before + 1
        model.to("cpu")


class WithConstant(nn.Module):
    """With a buffer on the CPU, which torch takes beside a GPU's tensors when it is one number."""

    def __init__(self):
        super().__init__()
        self.networks = nn.ModuleList(nn.Linear(3, 2) for _ in range(4))
        self.register_buffer("constant", torch.tensor(2.0))

    def forward(self, x):
        return torch.stack([m(x) for m in self.networks]) * self.constant


def constants(driver: FakeDriver, _library: ctypes.CDLL) -> None:
    model, x = WithConstant().eval(), torch.randn(2, 3)
    expected = model(x)
    model.to(CUDA).constant = torch.tensor(2.0)
    fast = pfcn.compile(model, (x.to(CUDA),))
    close(fast(x.to(CUDA)), expected)
    assert "tensors on cpu and cuda:0" in fast.report.eager, str(fast.report)


class Wide(nn.Module):
    """Matrices for which cuBLAS is faster than a kernel."""

    def __init__(self):
        super().__init__()
        make = lambda: nn.Sequential(nn.Linear(128, 512), nn.ReLU(), nn.Linear(512, 128))
        self.members = nn.ModuleList(make() for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([member(x) for member in self.members], dim=1)


def cublas(_driver: FakeDriver, _library: ctypes.CDLL) -> None:
    """Products by torch, and kernels for what follows them."""
    torch.manual_seed(0)
    model, x = Wide().eval(), torch.randn(128, 128)
    expected = model(x)
    fast = pfcn.compile(model.to(CUDA), (x.to(CUDA),), strict=True)
    (group,) = fast.report.groups
    assert "2 calls of cuBLAS" in group.choice and len(group.kernels) == 2, str(fast.report)
    assert [step for step in fast.report.steps if step[0] == "library"] == [
        ("library", "batch_matmul"),
        ("library", "batch_matmul"),
    ]
    close(fast(x.to(CUDA)), expected)


CHECKS = (models, layouts, streams, graphs, weights, frozen, moves, constants, cublas)


def main() -> None:
    name, folder = sys.argv[1:]
    driver = FakeDriver(Path(folder))
    driver.preload()
    library = fake_torch_cuda.load(driver)
    with torch.no_grad():
        {check.__name__: check for check in CHECKS}[name](driver, library)
    assert driver.faults() == [], driver.faults()


if __name__ == "__main__":
    main()
