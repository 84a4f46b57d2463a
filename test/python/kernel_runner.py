"""Compiles kernels by pfcn-opt and runs their object code on tensors next to guard pages.

Every tensor ends (or begins) at a page that cannot be touched, so a read or a store beyond it
is a crash; what lies between its rows, and what no instance writes, must stay as it was.
"""

from __future__ import annotations

import ctypes
import mmap
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import torch
from kernel_cases import Kernel, Operand

ROOT = Path(__file__).resolve().parents[2]
PFCN_OPT = ROOT / "build" / "bin" / "pfcn-opt"
PAGE = mmap.PAGESIZE


@dataclass
class Target:
    name: str
    chip: str = ""
    vector_bytes: int = 64
    pack_weights: bool = False
    op_lanes: str = "auto"

    @property
    def pipeline(self) -> str:
        pack = "true" if self.pack_weights else "false"
        # Kernels for all, also where the library's matrix products would be faster.
        options = [
            f"vector-bytes={self.vector_bytes}",
            f"pack-weights={pack}",
            "machine=library-rate=0",
        ]
        options.append(f"op-lanes={self.op_lanes}")
        return "--pfcn-pipeline-cpu=" + " ".join(options)


class CompileError(RuntimeError):
    pass


def run_tool(*command: str | Path, text: str = "") -> bytes:
    done = subprocess.run(
        [str(c) for c in command], input=text.encode(), capture_output=True, check=False
    )
    if done.returncode != 0:
        raise CompileError(f"{Path(command[0]).name}: {done.stderr.decode()[:4000]}")
    return done.stdout


@dataclass
class Launch:
    name: str
    tiles: int
    packed: list[int]


@dataclass
class Library:
    launches: dict[str, Launch]
    declined: dict[str, str]
    code: ctypes.CDLL


def compile_kernels(kernels: list[Kernel], target: Target, folder: Path) -> Library:
    text = "".join(kernel.text() for kernel in kernels)
    (folder / "kernels.mlir").write_text(text)
    lowered = run_tool(PFCN_OPT, "--pfcn-batch-instances", target.pipeline, text=text).decode()
    launches = {}
    for name, tiles, rest in re.findall(r"pfcn\.launch @(\w+) count \d+ tiles (\d+) (.*)", lowered):
        packed = re.search(r"pfcn\.packed = array<i64: (.*?)>", rest)
        lanes = [int(count) for count in packed.group(1).split(",")] if packed else []
        launches[name] = Launch(name, int(tiles), lanes)
    declined = dict(
        re.findall(r'pfcn\.(?:kernel|instances) "(\w+)".*?pfcn\.declined = "(.*?)"', lowered)
    )
    left = re.findall(r'pfcn\.(?:kernel|instances) "(\w+)"', lowered)
    assert set(left) == set(declined), "a kernel was declined without a reason"
    chip = [f"--chip={target.chip}"] if target.chip else []
    object_file = folder / "kernels.o"
    object_file.write_bytes(run_tool(PFCN_OPT, "--emit=obj", *chip, text=lowered))
    shared = folder / "kernels.so"
    run_tool("clang-22", "-shared", object_file, "-lm", "-o", shared)
    return Library(launches, declined, ctypes.CDLL(str(shared)))


# ---- memory -------------------------------------------------------------------------------------

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class GuardedTensor:
    """A strided copy of a tensor, flush with a guard page at its end or at its beginning."""

    def __init__(self, values: torch.Tensor, strides: tuple[int, ...], at_end: bool):
        span = 1 + sum(
            (size - 1) * stride for size, stride in zip(values.shape, strides, strict=True)
        )
        size = max(span, 1) * values.element_size()
        self.pages = -(-size // PAGE) * PAGE
        self.total = self.pages + 2 * PAGE
        private, anonymous = 2, 0x20
        self.base = LIBC.mmap(None, self.total, 0, private | anonymous, -1, 0)
        assert self.base not in (None, ctypes.c_void_p(-1).value), "mmap failed"
        assert LIBC.mprotect(self.base + PAGE, self.pages, 3) == 0
        start = PAGE + (self.pages - size if at_end else 0)
        address = self.base + start
        page_bytes = (ctypes.c_ubyte * self.pages).from_address(self.base + PAGE)
        self.bytes = torch.frombuffer(page_bytes, dtype=torch.uint8)
        # In floats NaN, so that what is read from a gap shows.
        self.bytes.fill_(0 if values.dtype == torch.bool else 0xFF)
        elements = (ctypes.c_ubyte * size).from_address(address)
        flat = torch.frombuffer(elements, dtype=values.dtype)
        self.whole = flat.as_strided(values.shape, strides)
        self.whole.copy_(values)
        self.offset = start - PAGE
        self.size = size
        self.before = self.bytes.clone()

    def changed_outside(self, written: torch.Tensor) -> int:
        """How many bytes differ, those of the elements marked in `written` excepted."""
        may = torch.zeros_like(self.bytes, dtype=torch.bool)
        width = self.whole.element_size()
        inside = may[self.offset : self.offset + self.size].view(-1, width)
        mask = torch.zeros(inside.shape[0], dtype=torch.bool)
        mask.as_strided(self.whole.shape, self.whole.stride()).copy_(written)
        inside |= mask[:, None]
        return int(((self.bytes != self.before) & ~may).sum())

    def free(self) -> None:
        del self.whole, self.bytes
        LIBC.munmap(self.base, self.total)


def pack(stacked: torch.Tensor, lanes: int) -> torch.Tensor:
    """[tile, element, lane]; the last tile ends with the last instance."""
    count = stacked.shape[0]
    rows = stacked.reshape(count, -1)
    starts = [min(first, count - lanes) for first in range(0, count, lanes)]
    return torch.stack([rows[start : start + lanes].T for start in starts]).contiguous()


def make_descriptor(sizes, strides, pointer: int, offset: int) -> ctypes.Array:
    words = [pointer, pointer, offset, *sizes, *strides]
    return (ctypes.c_int64 * len(words))(*words)


def describe(operand: Operand, whole: torch.Tensor, count: int) -> ctypes.Array:
    """The memref of a tensor under its access: instances first."""
    access = operand.access
    sizes, strides, offset = list(whole.shape), list(whole.stride()), 0
    if access.kind != "shared":
        offset = access.offset * strides[access.dim]
        along = strides[access.dim] * access.stride
        if access.kind == "select":
            del sizes[access.dim], strides[access.dim]
        else:
            sizes[access.dim] = access.size
        sizes.insert(0, count)
        strides.insert(0, along)
    return make_descriptor(sizes, strides, whole.data_ptr(), offset)


# ---- running ------------------------------------------------------------------------------------


def written_parts(output: Operand, count: int) -> torch.Tensor:
    mask = torch.zeros(output.values.shape, dtype=torch.bool)
    for i in range(count):
        output.access.get(mask, i).fill_(True)
    return mask


def run_kernel(library: Library, kernel: Kernel, at_end: bool) -> list[torch.Tensor]:
    launch = library.launches[kernel.name]
    guarded, descriptors = [], []
    for i, operand in enumerate(kernel.inputs):
        lanes = launch.packed[i] if launch.packed else 0
        values = pack(operand.values, lanes) if lanes else operand.values
        guarded.append(GuardedTensor(values, values.stride() if lanes else operand.strides, at_end))
        whole = guarded[-1].whole
        if lanes:
            descriptors.append(make_descriptor(whole.shape, whole.stride(), whole.data_ptr(), 0))
        else:
            descriptors.append(describe(operand, whole, kernel.count))
    for operand in kernel.outputs:
        guarded.append(GuardedTensor(operand.values, operand.strides, at_end))
        descriptors.append(describe(operand, guarded[-1].whole, kernel.count))
    function = getattr(library.code, f"_mlir_ciface_{kernel.name}")
    pointers = [ctypes.byref(d) for d in descriptors]
    middle = launch.tiles // 2  # as two threads would share them
    for begin, end in ((middle, launch.tiles), (0, middle)):
        function(ctypes.c_int64(begin), ctypes.c_int64(end), *pointers)
    first_output = len(kernel.inputs)
    for i, tensor in enumerate(guarded):
        if i < first_output:
            mask = torch.zeros(tensor.whole.shape, dtype=torch.bool)
        else:
            mask = written_parts(kernel.outputs[i - first_output], kernel.count)
        changed = tensor.changed_outside(mask)
        what = f"input {i}" if i < first_output else f"around output {i - first_output}"
        assert changed == 0, f"{changed} bytes of {what} were overwritten"
    results = [tensor.whole.clone() for tensor in guarded[first_output:]]
    for tensor in guarded:
        tensor.free()
    return results


def widen(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def check_kernel(library: Library, kernel: Kernel, at_end: bool = True) -> None:
    actual = run_kernel(library, kernel, at_end)
    expected = kernel.expected()
    try:
        for ours, torchs in zip(actual, expected, strict=True):
            torch.testing.assert_close(
                ours, torchs, rtol=kernel.tolerance, atol=kernel.tolerance, equal_nan=True
            )
    except AssertionError:
        if kernel.specials or any(not t.is_floating_point() for t in expected):
            raise
        # Rounding that a body amplifies: both are measured against f64.
        for ours, torchs, truth in zip(actual, expected, kernel.expected(widen), strict=True):
            allowed = 4 * (torchs.double() - truth).abs().max()
            allowed += 4 * torch.finfo(ours.dtype).eps
            if not (ours.double() - truth).abs().max() <= allowed:
                raise
