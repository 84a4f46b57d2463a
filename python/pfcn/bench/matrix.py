"""`pfcn.bench matrix`: banks of many sizes against the best alternative of each, resumable.

Every cell is written as soon as it is measured; a run that finds its file goes on where the last
one ended. What is shown are ratios: the best alternative's time ÷ pfcn's, and pfcn's ÷ the bound.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from .bank import Shape, workload
from .bound import bound
from .measure import measure

INSTANCES = (10, 100, 1000, 10000)
WIDTHS = ((1, 16, 1), (8, 16, 1), (20, 10, 1), (32, 64, 32, 8), (64, 256, 64), (256, 1024, 256))
BATCHES = (1, 16, 256)
MOST_BYTES = 8 << 30  # of weights, inputs, outputs and the widest layer; larger cells are left out


@dataclass(frozen=True)
class Cell:
    """One point of the matrix."""

    shape: Shape
    instances: int
    batch: int
    threads: int

    @property
    def key(self) -> str:
        return f"{self.shape.name} n={self.instances} batch={self.batch} threads={self.threads}"

    @property
    def bytes(self) -> int:
        """What a rewrite by hand has in memory at a time, its copy of the weights included."""
        widths = self.shape.widths
        weights = sum(a * b for a, b in itertools.pairwise(widths))
        return 4 * self.instances * (2 * weights + 3 * self.batch * max(widths))


def cells(threads: Iterable[int]) -> Iterator[Cell]:
    """All cells that fit, the small ones first, so that an early end has seen the most."""
    shapes = [Shape(widths, shared) for widths in WIDTHS for shared in (False, True)]
    found = [Cell(*point) for point in itertools.product(shapes, INSTANCES, BATCHES, set(threads))]
    yield from sorted(
        (cell for cell in found if cell.bytes <= MOST_BYTES), key=lambda c: (c.bytes, c.key)
    )


def measure_cell(cell: Cell, *, rounds: int, seconds: float, everything: bool) -> dict:
    """The rows of a cell as JSON, the bound among them."""
    torch.set_num_threads(cell.threads)
    bank = workload(cell.shape)
    model, inputs = bank.make(cell.instances, cell.batch)
    systems = [s for s in bank.systems if everything or not s.slow]
    rows = measure(systems, model, inputs, rounds=rounds, seconds=seconds)
    assert bank.cost is not None
    rows.append(bound(bank.cost(cell.instances, cell.batch), cell.threads, "cpu"))
    return {
        "cell": cell.key,
        "widths": list(cell.shape.widths),
        "shared": cell.shape.shared,
        "instances": cell.instances,
        "batch": cell.batch,
        "threads": cell.threads,
        "rows": [row.to_dict() for row in rows],
    }


@dataclass(frozen=True)
class Verdict:
    """A measured cell: the time of each alternative ÷ pfcn's, and pfcn's ÷ the bound."""

    ratios: dict[str, float]
    over_bound: float

    @property
    def alternative(self) -> str:
        """The best of the rest."""
        return min(self.ratios, key=self.ratios.__getitem__)

    @property
    def gain(self) -> float:
        """Its time ÷ pfcn's."""
        return self.ratios[self.alternative]


def judge(cell: dict) -> Verdict | None:
    """None where pfcn or all of its alternatives have no figure. pfcn is the better of its rows."""
    times = {row["system"]: row["us_median"] for row in cell["rows"] if row["us_median"]}
    own = [us for system, us in times.items() if system.startswith("pfcn")]
    rest = {s: us for s, us in times.items() if not s.startswith(("pfcn", "bound"))}
    if not own or not rest:
        return None
    ratios = {system: us / min(own) for system, us in rest.items()}
    return Verdict(ratios, min(own) / times.get("bound", math.nan))


def run(
    file: Path,
    *,
    threads: Iterable[int],
    rounds: int,
    seconds: float,
    everything: bool,
    only: str = "",
    progress: Callable[[str], None] = lambda text: None,
) -> list[dict]:
    """Measures what `file` does not have yet, and returns all it has then.

    Args:
        only: cells whose key contains it, e.g. "n=100 batch=1".
        progress: called before each cell, with what is left and for about how long.
    """
    done = json.loads(file.read_text()) if file.exists() else []
    known = {cell["cell"] for cell in done}
    left = [cell for cell in cells(threads) if only in cell.key and cell.key not in known]
    start = time.perf_counter()
    for number, cell in enumerate(left):
        spent = time.perf_counter() - start
        rest = f", about {spent / number * (len(left) - number) / 60:.0f} min" if number else ""
        progress(f"{cell.key} ({len(left) - number} left{rest})")
        done.append(measure_cell(cell, rounds=rounds, seconds=seconds, everything=everything))
        write(file, done)
    return done


def write(file: Path, done: list[dict]) -> None:
    """All or nothing: an interrupted run leaves what was there."""
    beside = file.with_name(file.name + ".part")
    beside.write_text(json.dumps(done, indent=1) + "\n")
    os.replace(beside, file)


def show(console: Console, done: list[dict]) -> None:
    """A table of gains per batch, and their geometric means."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="best alternative ÷ pfcn (÷ bound)")
    table.add_column("bank")
    for batch in BATCHES:
        table.add_column(f"batch {batch}", justify="right")
    lines: dict[tuple, dict[int, Verdict]] = {}
    for cell in done:
        if verdict := judge(cell):
            name = cell["cell"].rsplit(" batch=", 1)[0]
            lines.setdefault((name, cell["threads"]), {})[cell["batch"]] = verdict
    for (name, threads), verdicts in lines.items():
        texts = [
            f"{v.gain:.2f} ({1 / v.over_bound:.2f})" if (v := verdicts.get(batch)) else ""
            for batch in BATCHES
        ]
        table.add_row(f"{name}, {threads} thread{'s' if threads > 1 else ''}", *texts)
    console.print(table)
    for label, chosen in summarise(done).items():
        console.print(f"{label}: {chosen}", highlight=False)


def summarise(done: list[dict]) -> dict[str, str]:
    """What the figures come to: geometric means, and the cells that pfcn loses."""
    judged = [(cell, v) for cell in done if (v := judge(cell))]

    def mean(gains: list[float]) -> str:
        return f"{statistics.geometric_mean(gains):.2f} ({len(gains)} cells)" if gains else "–"

    narrow = [v.gain for cell, v in judged if max(cell["widths"]) <= 64]
    losses = [f"{cell['cell']} ({v.gain:.2f})" for cell, v in judged if v.gain < 1 / 1.05]
    return {
        "geometric mean, widths ≤ 64": mean(narrow),
        "geometric mean, all": mean([v.gain for _, v in judged]),
        "slower than the best alternative by over 5 %": ", ".join(losses) or "none",
    }


def substitutes(done: list[dict]) -> list[tuple[str, str, str, str]]:
    """Of each alternative: cells in which it is the best, those where it takes at most 1.25 times
    pfcn's time, the median of its time ÷ pfcn's, and its best cell."""
    ratios: dict[str, list[tuple[float, str]]] = {}
    best: dict[str, int] = {}
    for cell in done:
        verdict = judge(cell)
        if verdict is None:
            continue
        best[verdict.alternative] = best.get(verdict.alternative, 0) + 1
        for system, ratio in verdict.ratios.items():
            ratios.setdefault(system, []).append((ratio, cell["cell"]))
    medians = {s: statistics.median(ratio for ratio, _ in found) for s, found in ratios.items()}
    lines = []
    for system, found in sorted(ratios.items(), key=lambda item: medians[item[0]]):
        close = sum(ratio <= 1.25 for ratio, _ in found)
        low = min(found)
        lines.append(
            (
                system,
                f"{best.get(system, 0)} / {len(found)}",
                f"{close} · {medians[system]:.1f}×",
                f"{low[1]} ({low[0]:.2f}×)",
            )
        )
    return lines


def markdown(done: list[dict]) -> str:
    """The figures as they stand in docs/Performance.md."""
    lines = [f"{label}: **{text}**" for label, text in summarise(done).items()]
    text = "\n\n".join(lines)
    text += "\n\n| bank | " + " | ".join(f"batch {batch}" for batch in BATCHES) + " |\n"
    text += "|---" * (len(BATCHES) + 1) + "|\n"
    table: dict[str, dict[int, str]] = {}
    for cell in done:
        if verdict := judge(cell):
            name = cell["cell"].rsplit(" batch=", 1)[0]
            name += f", {cell['threads']} thread{'s' if cell['threads'] > 1 else ''}"
            shown = f"{verdict.gain:.2f}× {verdict.alternative} · {1 / verdict.over_bound:.2f}"
            table.setdefault(name, {})[cell["batch"]] = shown
    for name, cells_of in sorted(table.items()):
        text += f"| {name} | " + " | ".join(cells_of.get(b, "") for b in BATCHES) + " |\n"
    text += "\n| by hand | best of the rest in | within 1.25× of pfcn · median | at its best |\n"
    text += "|---|---|---|---|\n"
    for line in substitutes(done):
        text += "| " + " | ".join(line) + " |\n"
    return text


def heat_map(file: Path, done: list[dict]) -> None:
    """Draws the gains: banks by batch and threads, on a logarithmic scale around 1."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import colors, pyplot

    gains = {cell["cell"]: v.gain for cell in done if (v := judge(cell))}
    names = list(dict.fromkeys(key.rsplit(" batch=", 1)[0] for key in gains))
    columns = sorted({tuple(map(int, k.split(" batch=")[1].split(" threads="))) for k in gains})
    values = [
        [gains.get(f"{name} batch={b} threads={t}", math.nan) for b, t in columns] for name in names
    ]
    size = (2 + 0.9 * len(columns), 1.5 + 0.28 * len(names))
    figure, axes = pyplot.subplots(figsize=size, layout="constrained")
    image = axes.imshow(
        values, cmap="RdYlGn", norm=colors.LogNorm(vmin=0.25, vmax=4), aspect="auto"
    )
    axes.set_xticks(range(len(columns)), [f"batch {b}\n{t} thr." for b, t in columns])
    axes.set_yticks(range(len(names)), names)
    for y, line in enumerate(values):
        for x, gain in enumerate(line):
            if not math.isnan(gain):
                axes.text(x, y, f"{gain:.1f}", ha="center", va="center", fontsize=7)
    axes.set_title("best alternative ÷ pfcn: above 1, pfcn is faster")
    figure.colorbar(image, shrink=0.5)
    figure.savefig(file, dpi=150)
    pyplot.close(figure)
