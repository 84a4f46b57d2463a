"""Kernels as machine code against torch: every op and random bodies, on the targets this CPU has.

PFCN_KERNELS=N runs N random kernels per target in place of the usual sample, from the seed
PFCN_KERNELS_SEED on; `python test_kernels.py SEED TARGET` prints and runs a single one.
"""

from __future__ import annotations

import faulthandler
import os
import random
import sys
import tempfile
from pathlib import Path

import pytest
import test_linalg_numerics as linalg
import torch.nn.functional as F
from kernel_cases import COUNTS, from_case, random_kernel
from kernel_runner import Target, check_kernel, compile_kernels

SEED = int(os.environ.get("PFCN_KERNELS_SEED", "0"))
SAMPLE = int(os.environ.get("PFCN_KERNELS", "60"))
TARGETS = [
    Target("host"),
    Target("host-packed", pack_weights=True),
    Target("avx2", "x86-64-v3", 32),
    Target("sse", "x86-64", 16, pack_weights=True),
    Target("host-own-lanes", op_lanes="always"),
    Target("avx2-own-lanes", "x86-64-v3", 32, op_lanes="always"),
    Target("host-blocks", op_lanes="blocks"),
    Target("avx2-blocks", "x86-64-v3", 32, op_lanes="blocks"),
]


def can_run(target: Target) -> bool:
    flags = Path("/proc/cpuinfo").read_text()
    return {"x86-64-v3": "avx2" in flags, "": "avx512f" in flags}.get(target.chip, True)


def compare_all(kernels, target: Target, folder: Path) -> dict[str, str]:
    """Returns the reasons of those that were declined."""
    if not can_run(target):
        pytest.skip(f"this CPU does not run {target.name}")
    library = compile_kernels(kernels, target, folder)
    faulthandler.enable()
    failures = []
    for i, kernel in enumerate(kernels):
        if kernel.name in library.declined:
            continue
        (folder / "running.txt").write_text(kernel.about)
        try:
            check_kernel(library, kernel, at_end=i % 4 != 0)
        except AssertionError as error:
            failures.append(f"{kernel.about} on {target.name}: {str(error).strip()[:300]}")
    assert not failures, f"{len(failures)} of {len(kernels)}:\n" + "\n".join(failures[:20])
    return library.declined


def op_kernels(target: Target):
    """One in ten of the cases of each op and type, and other instances for each target."""
    rng = random.Random(f"{SEED} {target.name}")
    cases = [c for c in linalg.CASES if SAMPLE > 1000 or rng.random() < 0.1]
    return [from_case(c, f"k{i}", rng.choice(COUNTS), rng) for i, c in enumerate(cases)]


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_ops(target, tmp_path):
    compare_all(op_kernels(target), target, tmp_path)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_random_bodies(target, tmp_path):
    first = 1_000_000 * TARGETS.index(target) + SEED
    kernels = [random_kernel(first + i, f"k{i}") for i in range(SAMPLE)]
    declined = compare_all(kernels, target, tmp_path)
    assert len(declined) < len(kernels) // 2, declined


def long_kernels():
    """Sums over more terms than one accumulator can take without losing digits."""
    rng = random.Random(SEED)
    kernels = []
    for depth in (63, 64, 65, 900, 3000):
        for element in ("f32", "bf16"):
            for op, inputs, result, reference in (
                ("sum %0 dims [1]", ["2x@"], "2x", lambda x: x.sum(1)),
                ("mean %0 dims [0, 1]", ["3x@"], "", lambda x: x.mean((0, 1))),
                ("linear %0, %1", ["2x@", "3x@"], "2x3x", F.linear),
            ):
                types = [i.replace("@", f"{depth}x{element}") for i in inputs]
                operands = ", ".join(f"{{{i}}}" for i in range(len(types)))
                text = f"pfcn.{op} : {operands} -> {{r}}"
                case = linalg.Case(f"{op}, {depth}", text, types, result + element, reference)
                kernels.append(from_case(case, f"k{len(kernels)}", rng.choice([2, 16, 20]), rng))
    return kernels


@pytest.mark.parametrize("target", [TARGETS[0], *TARGETS[3:]], ids=lambda t: t.name)
def test_long_sums(target, tmp_path):
    declined = compare_all(long_kernels(), target, tmp_path)
    assert len(declined) < 20, declined


def main() -> None:
    seed, target = int(sys.argv[1]), next(t for t in TARGETS if t.name == sys.argv[2])
    kernel = random_kernel(seed, "k0")
    print(kernel.text())
    with tempfile.TemporaryDirectory() as folder:
        library = compile_kernels([kernel], target, Path(folder))
        print(library.declined or library.launches)
        if not library.declined:
            check_kernel(library, kernel)


if __name__ == "__main__":
    main()
