#!/usr/bin/env python3
"""Measures the README's table of figures again, and writes it there.

Usage: .venv/bin/python tools/dev/figures.py, on a machine that does nothing else meanwhile.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from pfcn.bench.table import write_figures

ROOT = Path(__file__).resolve().parents[2]
BATCHES = (1, 16, 256)


def measure(batch: int) -> dict[str, dict]:
    """The rows of `pfcn.bench seed` at n = 1000 and one thread, by system."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = ["-m", "pfcn.bench", "seed", "--batch", str(batch), "--json", file.name]
        subprocess.run([sys.executable, *command], check=True, cwd=ROOT)
        return {row["system"]: row for row in json.loads(Path(file.name).read_text())}


def cell(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def table(rows: list[dict[str, dict]]) -> str:
    lines = [f"| median µs a call | {' | '.join(f'batch {b}' for b in BATCHES)} | set-up, s |"]
    lines.append("|---" + "|--:" * (len(BATCHES) + 1) + "|")
    for system, first in rows[0].items():
        if first["us_median"] is None:
            continue
        cells = [cell(row[system]["us_median"]) for row in rows] + [cell(first["setup_seconds"])]
        name = f"**{system}**" if system.startswith("pfcn") else system
        lines.append(f"| {name} | {' | '.join(cells)} |")
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    lines.append(
        "\nn = 1000 networks of `Linear(20, 10)` → `Linear(10, 1)`, float32, one thread of "
        f"{cpu[1] if cpu else 'the CPU'} ({torch.backends.cpu.get_cpu_capability()}), torch "
        f"{torch.__version__}. The bound is the time to read weights and inputs once, or to do the "
        "arithmetic, whichever is longer."
    )
    return "\n".join(lines) + "\n"


write_figures(ROOT / "README.md", table([measure(batch) for batch in BATCHES]))
