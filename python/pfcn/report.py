"""What the compiler did with a model, and why: `compiled.report`."""

from __future__ import annotations

import html
import io
import textwrap
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from . import draw
from .errors import Error

_WIDTH = 120  # of the text; a report is read in logs as often as in a terminal


@dataclass
class Group:
    """n instances of one body that became one."""

    name: str
    instances: int
    ops: list[str]  # of one instance, in order
    operands: list[str]  # how each varies with the instance
    kernels: list[str]  # what it became; empty where it runs on torch's functions
    calls: list[str]  # torch's operators in it, each called once for all instances
    reason: str  # why these instances are one group
    tensor_cores: str = ""  # the instruction that multiplies its matrices, or ""
    declined: str = ""  # why there is no kernel, or ""
    choice: str = ""  # what lies across the lanes; one kernel, several or a library; estimates
    padding: str = ""  # what is padded with zeros to one size, and its cost, or ""
    where: str = ""  # module path and source line of the first instance
    # Of all instances, for the sizes that were compiled (an open size counts as 64). Of operators
    # that are foreign to the compiler nothing is known, and they count as no flops.
    flops: float = 0.0
    bytes_before: float = 0.0  # read and written where each operator runs on its own
    bytes_after: float = 0.0  # … as one: inputs, weights and results

    @property
    def operators(self) -> int:
        """How many operators of the model this group stands for: launches before."""
        return self.instances * len(self.ops)


@dataclass
class Miss:
    """What was not fused, and the first ops at which two candidates differ."""

    reason: str
    where: str = ""
    suggestion: str = ""
    other: str = ""


@dataclass
class Report:
    """Of the plan that was compiled last.

    groups, missed: what was fused, and what was not
    launches: compiled kernels started per call
    steps: (kind, name) of each step of the plan, in order
    compile_seconds: recording, compiling and all; `phase_seconds` has the parts
    eager: why the model runs in eager, or ""
    copies: why parameters are copied for each call instead of living in one place, one line each
    plans: how many plans there are, one per recording that differs
    tracked_calls: calls that ran in eager because autograd had to follow them, and no plan can
    """

    groups: list[Group] = field(default_factory=list)
    missed: list[Miss] = field(default_factory=list)
    launches: int = 0
    steps: list[tuple[str, str]] = field(default_factory=list)
    compile_seconds: float = 0.0
    phase_seconds: dict[str, float] = field(default_factory=dict)
    eager: str = ""
    copies: list[str] = field(default_factory=list)
    plans: int = 0
    tracked_calls: int = 0

    def to_dict(self) -> dict:
        """The same for JSON: keys are the names of the fields above and of `Group` and `Miss`; of
        lists, dicts, strings and numbers only. A step is [kind, name]; times are in seconds."""
        result = asdict(self)
        result["steps"] = [list(step) for step in self.steps]
        for described, group in zip(result["groups"], self.groups):
            described["operators"] = group.operators
        return result

    def to_svg(self, path: str | Path) -> None:
        """Draws the model before and after into a file; n instances are one box "× n".

        Raises `pfcn.Error` where the program `dot` of graphviz is missing, and OSError where the
        file cannot be written.
        """
        draw.render(self, path)

    def _repr_html_(self) -> str:
        """The report in a notebook: the picture where graphviz is there, and the text."""
        text = f"<pre>{html.escape(str(self))}</pre>"
        try:
            return draw.render(self) + text
        except Error:
            return text

    def __str__(self) -> str:
        lines = [self._headline()]
        if self.eager:
            lines.append(_indented("in eager: " + self.eager))
        if self.tracked_calls:
            lines.append(
                _indented(
                    f"{self.tracked_calls} calls ran in eager, as autograd had to follow them;"
                    " for inference, call under torch.no_grad()"
                )
            )
        if self.groups:
            lines.append(_table(self.groups))
        for group in self.groups:
            if group.declined:
                lines.append(_indented(f"{group.name}: {group.declined}"))
            if group.padding:
                lines.append(_indented(f"{group.name}: {group.padding}"))
            if group.choice:
                lines.append(_indented(f"{group.name}: {group.choice}"))
        if self.missed:
            lines.append("not fused:")
            lines += [_indented(_miss_text(miss)) for miss in self.missed]
        if self.copies:
            lines.append("copied for each call:")
            lines += [_indented(line) for line in self.copies]
        return "\n".join(lines)

    def _headline(self) -> str:
        fused = sum(group.instances for group in self.groups)
        phases = ", ".join(f"{name} {seconds:.2f}" for name, seconds in self.phase_seconds.items())
        text = (
            f"pfcn: {fused} instances in {len(self.groups)} groups, {self.launches} kernel launches"
            f" and {len(self.steps) - self.launches} other steps a call,"
            f" for {sum(group.operators for group in self.groups)} operators;"
            f" compiled in {self.compile_seconds:.2f} s"
        )
        return f"{text} ({phases})" if phases else text


def _group_row(group: Group) -> list[str]:
    kinds = list(dict.fromkeys(group.ops))
    kinds = [kind.removeprefix("pfcn.") for kind in kinds]
    ops = f"{len(group.ops)}: " + ", ".join(kinds[:4]) + (", …" if len(kinds) > 4 else "")
    kernels = ["one kernel" if name == group.name else name for name in group.kernels]
    runs_as = ", ".join(kernels + group.calls) or "torch functions"
    if group.tensor_cores:
        runs_as += f" ({group.tensor_cores})"
    moved = f"{_amount(group.bytes_before)} → {_amount(group.bytes_after)}"
    launches = f"{group.operators} → {max(1, len(group.kernels) + len(group.calls))}"
    return [group.name, str(group.instances), ops, launches, _amount(group.flops), moved, runs_as]


def _amount(number: float) -> str:
    """Three digits and a factor: 1.26 M."""
    power = 0
    while number >= 999.5 and power < 4:
        number, power = number / 1000, power + 1
    return f"{number:.3g} {' kMGT'[power]}".rstrip()


def _miss_text(miss: Miss) -> str:
    text = miss.reason
    if miss.where:
        text += f"\nat {miss.where}"
    if miss.other:
        text += f"\nand {miss.other}"
    return text + (f"\nsuggestion: {miss.suggestion}" if miss.suggestion else "")


def _indented(text: str) -> str:
    return textwrap.indent(text, "  ")


def _table(groups: list[Group]) -> str:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("group", overflow="fold")
    table.add_column("instances", justify="right")
    table.add_column("ops", overflow="fold")
    for title in ("launches", "flops", "bytes"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("runs as", overflow="fold")
    for group in groups:
        table.add_row(*_group_row(group))
    text = io.StringIO()
    Console(file=text, width=_WIDTH, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().strip("\n").splitlines())
