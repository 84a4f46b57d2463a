"""The seed model written by hand with AVX-512 intrinsics (`benchmarks/seed_avx512.cpp`), compiled
when it is first asked for by whichever C++ compiler the system has."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch.nn import functional as F

from .workload import Call, LeftOut

SOURCE = Path(__file__).resolve().parents[3] / "benchmarks" / "seed_avx512.cpp"
COMPILERS = ("clang++-22", "clang++", "g++", "c++")
LANES = 16


@functools.cache
def load() -> ctypes.CDLL:
    """The kernel; LeftOut with the reason where this machine cannot build or run it."""
    if "AVX512" not in torch.backends.cpu.get_cpu_capability():
        raise LeftOut("this CPU has no AVX-512")
    if not SOURCE.exists():
        raise LeftOut("its source is in the repository's benchmarks/, which is not here")
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise LeftOut(f"no C++ compiler: none of {', '.join(COMPILERS)} is there")
    with tempfile.TemporaryDirectory() as folder:
        library = f"{folder}/seed.so"
        command = [compiler, "-O3", "-mavx512f", "-std=c++17", "-shared", "-fPIC"]
        done = subprocess.run(
            [*command, str(SOURCE), "-o", library], capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{compiler} cannot compile {SOURCE.name}: {done.stderr}")
        loaded = ctypes.CDLL(library)  # stays mapped when the file is gone
    loaded.seed_packed.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_long]
    loaded.seed_rows.argtypes = [ctypes.c_void_p] * 6 + [ctypes.c_long]
    loaded.seed_packed.restype = loaded.seed_rows.restype = None
    return loaded


def packed(layers: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Weights and biases of the two layers in the order in which the kernel reads them,
    [tiles, 221, 16]: one network a lane, and the last tile filled up with zeros."""
    (w, b), (v, c) = layers
    rows = torch.cat([w, b.unsqueeze(-1)], dim=-1).flatten(1)
    rows = torch.cat([rows, v.flatten(1), c], dim=1)
    rows = F.pad(rows, (0, 0, 0, -len(rows) % LANES))
    return rows.unflatten(0, (-1, LANES)).transpose(1, 2).contiguous()


def check(x: torch.Tensor, n: int) -> None:
    if x.shape[0] != 1 or x.dtype != torch.float32 or x.device.type != "cpu":
        raise LeftOut("written for one row of float32 on the CPU")
    if n < LANES:
        raise LeftOut(f"written for {LANES} networks or more")


def frozen(layers: list[tuple[torch.Tensor, torch.Tensor]], x: torch.Tensor) -> Call:
    """Weights packed ahead. `layers`: weights and biases, [n, …]."""
    n, kernel, weights = len(layers[0][0]), load().seed_packed, packed(layers)
    check(x, n)
    if weights.data_ptr() % 64:
        raise LeftOut("torch's memory is not aligned to 64 bytes here")

    def call(x: torch.Tensor) -> torch.Tensor:
        y = torch.empty(1, n)
        kernel(x.data_ptr(), weights.data_ptr(), y.data_ptr(), n)
        return y

    return call


def live(layers: list[tuple[torch.Tensor, torch.Tensor]], x: torch.Tensor) -> Call:
    """Weights as torch has them, each layer's in one tensor."""
    n, kernel = len(layers[0][0]), load().seed_rows
    check(x, n)
    tensors = [tensor.contiguous() for layer in layers for tensor in layer]

    def call(x: torch.Tensor) -> torch.Tensor:
        y = torch.empty(1, n)
        kernel(x.data_ptr(), *(t.data_ptr() for t in tensors), y.data_ptr(), n)
        return y

    return call
