"""Functions that kernels compute without libdevice: each against torch, in the interpreter.

f64 to a few units in the last place, f32 to what eager's own rounding allows; special values
exactly.
"""

from __future__ import annotations

import launches
import numpy as np
import pytest
import torch
from ptx import Memory, Program


def exact_fmod(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The C library's: torch's own gives up where the quotient is large."""
    with np.errstate(invalid="ignore"):
        return torch.from_numpy(np.fmod(x.numpy(), y.numpy()))


UNARY = {
    "exp": torch.exp,
    "expm1": torch.expm1,
    "exp2": torch.exp2,
    "log": torch.log,
    "log1p": torch.log1p,
    "log2": torch.log2,
    "log10": torch.log10,
    "tanh": torch.tanh,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "asinh": torch.asinh,
    "acosh": torch.acosh,
    "atanh": torch.atanh,
    "erf": torch.erf,
    "erfc": torch.erfc,
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "atan": torch.atan,
    "asin": torch.asin,
    "acos": torch.acos,
}
BINARY = {"math.powf": torch.pow, "math.atan2": torch.atan2, "arith.remf": exact_fmod}
FLOATS = {"f32": torch.float32, "f64": torch.float64}
# Relative. Upstream's polynomials of f32 (exp, tanh, erf, …) are good to several units in the last
# place; functions of f64 that are an exponential lose as many as the exponent has digits.
TOLERANCE = {"f32": 1.3e-6, "f64": 4e-15}
TOLERANCES = {("exp2", "f64"): 3e-13, ("math.powf", "f64"): 3e-13}


def kernel(name: str, dtype: str, operands: int) -> str:
    """One element a thread: `z[i] = name(x[i], y[i])`."""
    flat = f"memref<1000000x{dtype}>"
    casts = "\n".join(
        f"      %{v} = memref.reinterpret_cast %{v}0 to offset: [0], sizes: [1000000], strides: [1]"
        f" : memref<{dtype}> to {flat}"
        for v in "xyz"
    )
    arguments = "%0, %1" if operands == 2 else "%0"
    return f"""
module attributes {{gpu.container_module}} {{
  gpu.module @kernels {{
    gpu.func @k(%x0: memref<{dtype}>, %y0: memref<{dtype}>, %z0: memref<{dtype}>) kernel {{
{casts}
      %b = gpu.block_id x
      %d = gpu.block_dim x
      %t = gpu.thread_id x
      %s = arith.muli %b, %d : index
      %i = arith.addi %s, %t : index
      %0 = memref.load %x[%i] : {flat}
      %1 = memref.load %y[%i] : {flat}
      %2 = {name} {arguments} : {dtype}
      memref.store %2, %z[%i] : {flat}
      gpu.return
    }}
  }}
}}"""


def tolerance(name: str, dtype: str) -> float:
    return TOLERANCES.get((name, dtype), TOLERANCE[dtype])


def values(dtype: torch.dtype) -> torch.Tensor:
    """Of every magnitude, the edges, and the arguments that reductions are worst at."""
    generator = torch.Generator().manual_seed(5)
    info = torch.finfo(dtype)
    top = np.log2(info.max)
    few = torch.randn(300, generator=generator, dtype=torch.float64)
    magnitudes = torch.linspace(-top, top * 0.999, 200, dtype=torch.float64)
    signs = torch.randint(0, 2, (200,), generator=generator) * 2 - 1
    special = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -2.0, 3.0, -3.0, float("inf"), -float("inf")]
    special += [float("nan"), info.max, -info.max, info.tiny, info.smallest_normal / 4, info.eps]
    special += [88.7, -87.5, -103.0, 709.7, -745.0, 20.0, -20.0, 6.5, 26.0, -6.5, 0.9999999]
    turns = [k * np.pi / 2 for k in (1, 2, 3, 4, 7, 10**4, 10**5, 10**6, 2**30, 10**12)]
    turns += [131071.9, 131072.1, 2.0**29 - 1, 2.0**29 + 3, 6381956970095103 * 2.0**797]
    rest = torch.tensor(special + turns, dtype=torch.float64)
    return torch.cat([few, few * 20, signs * 2**magnitudes, rest]).to(dtype)


def run(name: str, dtype: str, x: torch.Tensor, y: torch.Tensor, operands: int) -> torch.Tensor:
    program = Program(launches.emit(kernel(name, dtype, operands), "ptx", "sm_80"))
    memory = Memory()
    blocks = -(-len(x) // 128)
    padded = [torch.nn.functional.pad(v, (0, blocks * 128 - len(v)), value=1.0) for v in (x, y)]
    args = [memory.alloc(v.numpy(), name="in") for v in padded]
    out = memory.alloc(padded[0].nbytes, name="out")
    program.launch("k", (blocks,), (128,), [*args, out], memory)
    result = memory.read(out, padded[0].numpy().dtype, (blocks * 128,))
    return torch.from_numpy(result)[: len(x)]


def check(got: torch.Tensor, want: torch.Tensor, rtol: float, *arguments: torch.Tensor) -> None:
    """`want` is what f64 gives: equal where it is no finite normal number, near it elsewhere."""
    want_here = want.to(got.dtype)
    info = torch.finfo(got.dtype)
    tolerance = rtol * want.abs() + 4 * info.smallest_normal * info.eps
    special = ~torch.isfinite(want_here)
    near = (got.double() - want).abs() <= tolerance
    # The last numbers before infinity may round to either side.
    near |= (want.abs() >= info.max * (1 - 1e-5)) & (got == want_here.sign() * float("inf"))
    good = torch.where(
        special, torch.isnan(want_here) & torch.isnan(got) | (got == want_here), near
    )
    good |= special & (want.abs() < float("inf")) & (got.abs() > info.max * (1 - 1e-5))
    wrong = [tuple(a[i].item() for a in (*arguments, got, want)) for i in (~good).nonzero()[:, 0]]
    assert not wrong, f"{len(wrong)} of {len(got)}: {wrong[:12]}"


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_unary(name, dtype):
    x = values(FLOATS[dtype])
    check(run(f"math.{name}", dtype, x, x, 1), UNARY[name](x.double()), tolerance(name, dtype), x)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", BINARY)
def test_binary(name, dtype):
    x = values(FLOATS[dtype])
    shuffled = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(3))]
    special = torch.tensor(
        [0.0, -0.0, 1, -1, 2, -3, 0.5, float("inf"), -float("inf"), float("nan")]
    )
    a, b = torch.meshgrid(special, special, indexing="ij")
    x = torch.cat([x, a.flatten().to(x.dtype), x.abs()])
    y = torch.cat([shuffled, b.flatten().to(x.dtype), shuffled.clamp(-8, 8)])
    check(
        run(name, dtype, x, y, 2),
        BINARY[name](x.double(), y.double()),
        tolerance(name, dtype),
        x,
        y,
    )
