"""Shows rows: as a table in the terminal, and as a bar chart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .measure import Row


def microseconds(us: float | None) -> str:
    if us is None:
        return ""
    return f"{us:,.0f}" if us >= 100 else f"{us:.1f}"


def times(row: Row, base: Row | None) -> str:
    """How many times faster than `base` the row is."""
    if row.us_median is None or base is None or base.us_median is None:
        return ""
    factor = base.us_median / row.us_median
    return f"{factor:,.0f}×" if factor >= 10 else f"{factor:.1f}×"


def show(console: Console, title: str, rows: Sequence[Row], left_out: Sequence[Row]) -> None:
    """Prints the rows, compared with the first of them, and below what has no figures and why."""
    base = rows[0] if rows else None
    table = Table(title=title, title_justify="left", title_style="bold", caption_justify="left")
    table.add_column("system", no_wrap=True)
    for heading in ("median µs", "min µs", "speed", "30 calls, s", "set-up, s", "max error"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        if row.reason:
            continue
        name = f"{row.system} [dim]({row.about})[/dim]" if row.about else row.system
        table.add_row(
            name,
            microseconds(row.us_median),
            microseconds(row.us_min),
            times(row, base),
            "" if row.wall_30_calls_s is None else f"{row.wall_30_calls_s:.4f}",
            "" if row.setup_seconds is None else f"{row.setup_seconds:.2f}",
            "" if row.max_abs_err is None else f"{row.max_abs_err:.0e}".replace("0e+00", "0"),
            style="bold" if row.system.startswith("pfcn") else None,
        )
    console.print(table)
    for row in [*(r for r in rows if r.reason), *left_out]:
        console.print(f"Left out: {row.system}: {row.reason}", highlight=False, markup=False)


def plot(path: Path, title: str, rows: Sequence[Row]) -> None:
    """Draws the medians as bars on a logarithmic axis; the format is the path's suffix."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [row for row in rows if row.us_median is not None][::-1]
    figure, axes = pyplot.subplots(figsize=(8, 0.4 * len(shown) + 1.2), layout="constrained")
    colours = [
        "tab:orange"
        if r.system.startswith("pfcn")
        else "lightgrey"
        if r.system == "bound"
        else "tab:blue"
        for r in shown
    ]
    bars = axes.barh([r.system for r in shown], [r.us_median for r in shown], color=colours)
    axes.bar_label(bars, [microseconds(r.us_median) for r in shown], padding=3)
    axes.set(xscale="log", xlabel="median µs a call (logarithmic)", title=title)
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
