"""Draws a report: the model as it was written, and the plan that runs in its place.

Instances of a group are one box "× n", however many they are. The layout is graphviz's.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import graphviz

from .errors import Error

if TYPE_CHECKING:
    from .report import Group, Report

_SHOWN_OPS = 12  # of one instance
_FUSED, _OTHER = "#fde0b2", "#eeeeee"


def draw(report: Report) -> graphviz.Digraph:
    """Two clusters, before and after, each from the inputs down to the results."""
    graph = graphviz.Digraph("pfcn", node_attr={"shape": "box", "style": "filled,rounded"})
    graph.attr(fontname="sans-serif", rankdir="TB", nodesep="0.3")
    graph.attr("node", fontname="sans-serif", fontsize="10", fillcolor=_OTHER)
    with graph.subgraph(name="cluster_before") as before:
        before.attr(label="as it is written", color="grey")
        _draw_before(before, report)
    with graph.subgraph(name="cluster_after") as after:
        after.attr(label="as it runs", color="grey")
        _draw_after(after, report)
    return graph


def render(report: Report, path: str | Path | None = None) -> str:
    """The picture as SVG; also written to `path`. Raises `pfcn.Error` where graphviz is missing."""
    try:
        svg = draw(report).pipe(format="svg", encoding="utf-8")
    except graphviz.ExecutableNotFound as error:
        raise Error(
            "drawing needs the program `dot`\n  remedy: apt-get install graphviz, or"
            " graphviz.org/download; str(report) says the same in words"
        ) from error
    if path is not None:
        Path(path).write_text(svg, encoding="utf-8")
    return svg


def _draw_before(graph: graphviz.Digraph, report: Report) -> None:
    _ends(graph, "before")
    for number, group in enumerate(report.groups):
        name = f"group{number}"
        graph.node(name, _instances_label(group), fillcolor=_FUSED, peripheries="2")
        graph.edge("before_in", name, label=f"× {group.instances}", fontsize="9")
        graph.edge(name, "before_out")
    if not report.groups:
        graph.edge("before_in", "before_out", label="nothing that repeats", fontsize="9")


def _instances_label(group: Group) -> str:
    ops = [op.removeprefix("pfcn.") for op in group.ops]
    shown = ops[:_SHOWN_OPS] + (
        [f"… {len(ops) - _SHOWN_OPS} more"] if len(ops) > _SHOWN_OPS else []
    )
    return f"× {group.instances}\n" + "\n".join(shown)


def _draw_after(graph: graphviz.Digraph, report: Report) -> None:
    _ends(graph, "after")
    previous = "after_in"
    for number, (step, same) in enumerate(itertools.groupby(map(tuple, report.steps))):
        kind, name = step
        count = len(list(same))
        times = f" × {count}" if count > 1 else ""
        fill = _FUSED if kind == "kernel" else _OTHER
        graph.node(f"step{number}", f"{kind}{times}\n{name}", fillcolor=fill)
        graph.edge(previous, f"step{number}")
        previous = f"step{number}"
    graph.edge(previous, "after_out")


def _ends(graph: graphviz.Digraph, prefix: str) -> None:
    graph.node(f"{prefix}_in", "inputs", shape="plaintext", style="")
    graph.node(f"{prefix}_out", "results", shape="plaintext", style="")
