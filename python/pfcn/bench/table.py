"""Shows rows: as a table in the terminal, and as a bar chart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from .measure import Row

# On two lines, so that the table fits a narrow terminal.
HEADINGS = (
    "median\nµs",
    "min\nµs",
    "speed-\nup",
    "×\nbound",
    "30 calls\ns",
    "set-up\ns",
    "max\nerror",
)


def microseconds(us: float | None) -> str:
    if us is None:
        return ""
    return f"{us:,.0f}" if us >= 100 else f"{us:.1f}"


def times(row: Row, base: Row) -> str:
    """How many times longer than `base` the row takes."""
    if row.us_median is None or base.us_median is None:
        return ""
    factor = row.us_median / base.us_median
    return f"{factor:,.0f}×" if factor >= 10 else f"{factor:.2g}×"


def first_beside(row: Row, rows: Sequence[Row]) -> Row:
    """The first row, of those with the same name in front of a colon."""
    kind, colon, _ = row.system.rpartition(": ")
    return next((r for r in rows if r.system.startswith(kind + colon)), row)


def show(console: Console, title: str, rows: Sequence[Row], left_out: Sequence[Row]) -> None:
    """Prints the rows, each beside the first one and the bound, and what has no figures and why."""
    bound = next((row for row in rows if row.system == "bound"), Row("bound"))
    console.print(f"\n{title}", style="bold", highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("\nsystem", no_wrap=True)
    for heading in HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        if row.reason:
            continue
        table.add_row(
            row.system,
            microseconds(row.us_median),
            microseconds(row.us_min),
            times(first_beside(row, rows), row),
            times(row, bound),
            "" if row.wall_30_calls_s is None else f"{row.wall_30_calls_s:.4f}",
            "" if row.setup_seconds is None else f"{row.setup_seconds:.2f}",
            "" if row.max_abs_err is None else f"{row.max_abs_err:.0e}".replace("0e+00", "0"),
            style="bold" if row.system.startswith("pfcn") else None,
        )
    console.print(table)
    if bound.about:
        console.print(f"Bound: {bound.about}", highlight=False)
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


_MARKED = re.compile(r"(<!-- figures[^>]*-->\n).*?(<!-- end -->)", re.DOTALL)


def write_figures(file: Path, text: str) -> None:
    """Puts a text between the marks `<!-- figures … -->` and `<!-- end -->` of a Markdown file.

    Raises ValueError where the file has no such marks; it is left as it was.
    """
    page = file.read_text()
    if not _MARKED.search(page):
        raise ValueError(
            f"{file} has no lines <!-- figures … --> and <!-- end --> to write between"
        )
    file.write_text(_MARKED.sub(lambda match: match[1] + text + match[2], page))
