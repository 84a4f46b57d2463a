"""The row that nothing beats: what the machine needs to move the bytes and do the operations."""

from __future__ import annotations

from .measure import Row
from .workload import Cost


def bound(cost: Cost, threads: int, device: str) -> Row:
    """The larger of bytes ÷ read bandwidth, measured at that working-set size, and flops ÷ peak."""
    row = Row("bound")
    if device != "cpu":
        row.reason = "measured on the CPU only"
        return row
    try:
        from pfcn import _C

        bandwidth = _C.probe_read_bandwidth(cost.bytes, threads)  # bytes/s
        peak = _C.probe_peak_flops(threads)  # operations/s
    except (ImportError, AttributeError):
        row.reason = "this build of pfcn cannot measure the machine"
        return row
    move, compute = cost.bytes / bandwidth * 1e6, cost.flops / peak * 1e6
    row.us_median = row.us_min = max(move, compute)
    row.about = (
        f"{cost.bytes / 1e6:.2f} MB at {bandwidth / 1e9:.0f} GB/s"
        if move >= compute
        else f"{cost.flops / 1e6:.1f} Mflop at {peak / 1e9:.0f} Gflop/s"
    )
    return row
