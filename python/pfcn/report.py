"""What the compiler did with a model, and why: `compiled.report`."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass, field


@dataclass
class Group:
    """n instances of one body that became one."""

    name: str
    instances: int
    ops: list[str]  # of one instance, in order
    operands: list[str]  # how each varies with the instance
    kernels: list[str]  # what it became; empty where it runs on torch's functions
    reason: str  # why these instances are one group
    declined: str = ""  # why there is no kernel, or ""
    where: str = ""  # module path and source line of the first instance


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

    launches: compiled kernels started per call
    steps: (kind, name) of each step of the plan, in order
    compile_seconds: recording, compiling and all; `phase_seconds` has the parts
    eager: why the model runs in eager, or ""
    copies: why parameters are copied for each call instead of living in one place, one line each
    plans: how many plans there are, one per recording that differs
    tracked_calls: calls that ran in eager because autograd had to follow them
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
        """Of lists, dicts, strings and numbers only."""
        result = asdict(self)
        result["steps"] = [list(step) for step in self.steps]
        return result

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
            lines += _table(
                ["group", "instances", "ops", "runs as"], [_group_row(g) for g in self.groups]
            )
        for group in self.groups:
            if group.declined:
                lines.append(_indented(f"{group.name}: {group.declined}"))
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
            f" and {len(self.steps) - self.launches} other steps a call;"
            f" compiled in {self.compile_seconds:.2f} s"
        )
        return f"{text} ({phases})" if phases else text


def _group_row(group: Group) -> list[str]:
    kinds = list(dict.fromkeys(group.ops))
    ops = f"{len(group.ops)}: " + ", ".join(kinds[:4]) + (", …" if len(kinds) > 4 else "")
    runs_as = ", ".join(group.kernels) if group.kernels else "torch functions"
    return [group.name, str(group.instances), ops, runs_as]


def _miss_text(miss: Miss) -> str:
    text = miss.reason
    if miss.where:
        text += f"\nat {miss.where}"
    if miss.other:
        text += f"\nand {miss.other}"
    return text + (f"\nsuggestion: {miss.suggestion}" if miss.suggestion else "")


def _indented(text: str) -> str:
    return textwrap.indent(text, "  ")


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = []
    for row in [head, *rows]:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  " + "  ".join(cells).rstrip())
    return lines
