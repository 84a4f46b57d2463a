"""One launch of each test kernel with its reference in numpy: for the tests and the mutations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from ptx import Memory, Program, Stats
from ptx.numerics import bf16_to_f32, f32_to_bf16
from toolchain import compile_c

KERNELS = Path(__file__).parent / "kernels"
F32 = np.float32


@dataclass(frozen=True)
class Case:
    """`arguments` are arrays and numbers, and None where the output goes."""

    kernel: str
    grid: tuple
    block: tuple
    arguments: tuple
    expected: np.ndarray
    rtol: float = 1e-5
    atol: float | None = None  # default: rtol of the largest element
    dynamic_shared: int = 0
    bf16: bool = False

    def run(self, program: Program, order: str = "forward", **options) -> tuple[np.ndarray, Stats]:
        """Launches; the output as f64 (bf16 unpacked), which every element must have been given."""
        memory = Memory()
        dtype = np.uint16 if self.bf16 else self.expected.dtype
        out = memory.alloc(int(self.expected.size * np.dtype(dtype).itemsize), name="out")
        args = []
        for i, a in enumerate(self.arguments):
            if a is None:
                args.append(out)
            elif isinstance(a, np.ndarray):
                args.append(memory.alloc(a, name=f"argument {i}"))
            else:
                args.append(a)
        stats = program.launch(
            *(self.kernel, self.grid, self.block, args, memory),
            dynamic_shared=self.dynamic_shared,
            order=order,
            **options,
        )
        got = memory.read(out, dtype, self.expected.shape)
        got = bf16_to_f32(got) if self.bf16 else got
        return got.astype(np.float64), stats

    def agrees(self, got: np.ndarray) -> bool:
        want = self.expected.astype(np.float64)
        atol = self.atol
        if atol is None:
            atol = self.rtol * np.abs(want[np.isfinite(want)]).max(initial=0)
        with np.errstate(all="ignore"):
            return bool(np.allclose(got, want, self.rtol, atol, equal_nan=True))


@cache
def text() -> str:
    """kernels.c as PTX."""
    return compile_c((KERNELS / "kernels.c").read_text())


@cache
def mma_text() -> str:
    return (KERNELS / "mma.ptx").read_text()


def source(kernel: str) -> str:
    """The PTX text in which a kernel is."""
    return mma_text() if kernel.startswith("mma") else text()


def rng(seed: int = 0):
    return np.random.default_rng(seed)


def matmul() -> Case:
    m, n, k = 21, 35, 37
    a, b = rng(1).standard_normal((m, k), F32), rng(2).standard_normal((k, n), F32)
    return Case(
        "matmul", (3, 2), (16, 16), (a, b, None, m, n, k), (a.astype(float) @ b).astype(F32)
    )


def block_sum() -> Case:
    n = 1000
    x = rng().standard_normal(n, F32)
    sums = np.pad(x.astype(float), (0, 24)).reshape(4, 256).sum(1)
    return Case("block_sum", (4,), (256,), (x, None, n), sums.astype(F32))


def row_sum() -> Case:
    x = rng().standard_normal((11, 128), F32)
    return Case("row_sum", (3,), (128,), (x, None, 11), x.astype(float).sum(1).astype(F32))


def transpose() -> Case:
    x = rng().standard_normal((45, 70), F32)
    return Case("transpose", (3, 2), (32, 8), (x, None, 45, 70), x.T.copy(), 0)


def scale4() -> Case:
    x = rng().standard_normal(1003, F32)
    return Case("scale4", (4,), (64,), (x, None, 1.25, 1003), x * F32(1.25), 0)


def activations() -> Case:
    x = np.concatenate(
        [rng().standard_normal(290) * 4, [0, -0.0, 1e5, -3e7, 1e-30, 88, -100, 12, 40.5]]
    )
    x = x.astype(F32)
    d = x.astype(float)
    with np.errstate(all="ignore"):
        rows = [np.tanh(d), np.exp(d), [math.erf(v) for v in d], np.log(d), np.sin(d)]
        expected = np.array(rows).astype(F32)
    return Case("activations", (3,), (128,), (x, None, len(x)), expected, 3e-7, 1e-7)


def exp_f64() -> Case:
    x = np.concatenate([rng().standard_normal(58) * 20, [0, 709, -720]])
    return Case("exp_f64", (1,), (64,), (x, None, 61), np.exp(x), 1e-15, 1e-322)


def reverse() -> Case:
    x = rng().standard_normal(4 * 96, F32)
    expected = x.reshape(4, 96)[:, ::-1].ravel()
    return Case("reverse", (4,), (96,), (x, None), expected.copy(), 0, dynamic_shared=96 * 4)


def dot_f16() -> Case:
    x, w, b = (rng(i).standard_normal(s).astype(np.float16) for i, s in enumerate([(50, 8), 8, 1]))
    expected = (x.astype(float) @ w.astype(float) + b.astype(float)).astype(np.float16)
    return Case("dot_f16", (2,), (32,), (x, w, b, None, 50), expected, 1e-3)


def dot_bf16() -> Case:
    shapes = [(50, 8), 8, 1]
    x, w, b = (f32_to_bf16(rng(i).standard_normal(s).astype(F32)) for i, s in enumerate(shapes))
    exact = bf16_to_f32(x).astype(float) @ bf16_to_f32(w) + bf16_to_f32(b)
    expected = bf16_to_f32(f32_to_bf16(exact.astype(F32)))
    return Case("dot_bf16", (2,), (32,), (x, w, b, None, 50), expected, 8e-3, bf16=True)


def networks() -> Case:
    n = 30
    shapes = [(n, 20), (n, 32, 20), (n, 32), (n, 32), (n,)]
    x, w1, b1, w2, b2 = (rng(i).standard_normal(s).astype(F32) for i, s in enumerate(shapes))
    h = np.maximum(np.einsum("ni,noi->no", x.astype(float), w1) + b1, 0)
    y = (h * w2).sum(1) + b2
    return Case("networks", (8,), (128,), (x, w1, b1, w2, b2, None, n), y.astype(F32))


def mma_f16() -> Case:
    a, b = rng(1).standard_normal((16, 16)), rng(2).standard_normal((16, 8))
    a, b = a.astype(np.float16), b.astype(np.float16)
    expected = (a.astype(float) @ b.astype(float)).astype(F32)
    return Case("mma_f16", (1,), (32,), (a, b.T.copy(), None), expected)


def mma_tf32() -> Case:
    a, b = rng(1).standard_normal((16, 8), F32), rng(2).standard_normal((8, 8), F32)
    expected = (a.astype(float) @ b + 1).astype(F32)
    return Case("mma_tf32", (1,), (32,), (a, b.T.copy(), None), expected, 1e-3)


ALL: dict[str, Callable[[], Case]] = {
    f.__name__: f
    for f in (
        *(matmul, block_sum, row_sum, transpose, scale4, activations, exp_f64, reverse),
        *(dot_f16, dot_bf16, networks, mma_f16, mma_tf32),
    )
}
