"""How many blocks fit a multiprocessor, and the least time that a launch can take: a static model.

Occupancy follows cuda_occupancy.h (CUDA 13: cudaOccMaxBlocksPerSM{Warps,Regs,Smem}Limit and
cudaOccMaxBlocksPerMultiprocessor; tested against it). The bound comes from what the interpreter
counted and from data sheets: nothing here was measured, and no kernel is faster than its bound.
"""

from __future__ import annotations

from dataclasses import dataclass

from ptx import Stats
from toolchain import Kernel


@dataclass(frozen=True)
class Chip:
    """Limits of a compute capability, and one product's data sheet (GHz boost, GB/s)."""

    capability: int
    threads: int  # per multiprocessor, as are blocks and shared
    blocks: int
    shared: int
    shared_optin: int
    reserved: int
    product: str
    multiprocessors: int
    ghz: float
    gbytes: float

    @property
    def shared_granularity(self) -> int:
        return 256 if self.capability < 80 else 128


K = 1024
CHIPS = {
    f"sm_{c.capability}": c
    for c in (
        Chip(75, 1024, 16, 64 * K, 64 * K, 0, "T4", 40, 1.59, 320),
        Chip(80, 2048, 32, 164 * K, 163 * K, K, "A100 SXM 40 GB", 108, 1.41, 1555),
        Chip(86, 1536, 16, 100 * K, 99 * K, K, "RTX 3090", 82, 1.70, 936),
        Chip(89, 1536, 24, 100 * K, 99 * K, K, "RTX 4090", 128, 2.52, 1008),
        Chip(90, 2048, 32, 228 * K, 227 * K, K, "H100 SXM", 132, 1.98, 3350),
        Chip(100, 2048, 32, 228 * K, 227 * K, K, "B200", 148, 1.97, 8000),
        Chip(103, 2048, 32, 228 * K, 227 * K, K, "B300", 148, 1.92, 8000),
        Chip(120, 1536, 24, 100 * K, 99 * K, K, "RTX 5090", 170, 2.41, 1792),
    )
}
REGISTERS, WARP, PARTITIONS, REGISTER_GRANULARITY = 65536, 32, 4, 256


def round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def register_limit(registers: int, warps: int) -> int:
    """Registers are given to warps, in units of 256, out of one of four partitions."""
    per_warp = round_up(registers * WARP, REGISTER_GRANULARITY)
    if per_warp * round_up(warps, PARTITIONS) > REGISTERS or registers > 256:
        return 0
    if not per_warp:
        return 1 << 30
    return REGISTERS // PARTITIONS // per_warp * PARTITIONS // warps


def shared_limit(chip: Chip, shared: int) -> int:
    total = round_up(shared + chip.reserved, chip.shared_granularity)
    if total > chip.shared_optin + chip.reserved:
        return 0
    return chip.shared // total if total else 1 << 30


def blocks_per_multiprocessor(
    chip: Chip, registers: int, shared: int, threads: int
) -> dict[str, int]:
    """Each limit by name; the least of them is how many blocks are resident. `shared` is static and
    dynamic together; the kernel uses one barrier, the L1 carve-out gives way to shared memory."""
    warps = -(-threads // WARP)
    return {
        "warps": chip.threads // WARP // warps if threads <= 1024 else 0,
        "registers": register_limit(registers, warps),
        "shared": shared_limit(chip, shared),
        "blocks": chip.blocks,
    }


@dataclass(frozen=True)
class Report:
    """One kernel's launch on one chip. Times in µs."""

    kernel: str
    chip: Chip
    registers: int
    shared: int
    blocks: int  # resident on a multiprocessor
    limit: str
    occupancy: float  # resident warps over the most there can be
    waves: float  # how often the multiprocessors are filled
    memory_us: float  # every sector touched moved once, at the memory's full rate
    sectors_us: float  # every sector that a warp's request touches, likewise: as if without caches
    memory_overhead: float  # sectors touched over bytes that must move, each once
    issue_us: float  # one warp instruction a cycle and partition

    @property
    def bound_us(self) -> float:
        return max(self.memory_us, self.issue_us)

    def __str__(self) -> str:
        return (
            f"{self.kernel} on sm_{self.chip.capability} ({self.chip.product}): "
            f"{self.registers} registers, {self.shared} B shared, {self.blocks} blocks a "
            f"multiprocessor ({self.limit}), {self.occupancy:.0%} occupancy, {self.waves:.2f} "
            f"waves; no faster than {self.bound_us:.2f} us (memory {self.memory_us:.2f}, with "
            f"{self.memory_overhead:.2f} times the bytes that must move; instructions "
            f"{self.issue_us:.2f}; without caches {self.sectors_us:.2f})"
        )


def report(
    kernel: Kernel, stats: Stats, chip_name: str, grid: int, threads: int, dynamic: int = 0
) -> Report:
    """What ptxas said of a kernel and the interpreter counted, as a report for a chip."""
    chip = CHIPS[chip_name]
    shared = kernel.static_shared + dynamic
    limits = blocks_per_multiprocessor(chip, kernel.registers, shared, threads)
    name, blocks = min(limits.items(), key=lambda item: item[1])
    busy = min(chip.multiprocessors, grid)
    issued = stats.instructions.total() / (busy * PARTITIONS * chip.ghz * 1e3)
    return Report(
        *(kernel.name, chip, kernel.registers, shared, blocks, name),
        occupancy=blocks * -(-threads // WARP) / (chip.threads // WARP),
        waves=grid / max(1, blocks * chip.multiprocessors),
        memory_us=32 * sum(stats.unique_sectors.values()) / chip.gbytes / 1e3,
        sectors_us=32 * (stats.loads.sectors + stats.stores.sectors) / chip.gbytes / 1e3,
        memory_overhead=stats.memory_overhead,
        issue_us=issued,
    )
