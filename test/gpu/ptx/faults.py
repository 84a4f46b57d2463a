"""The one exception of the interpreter: what is wrong, in which line and thread."""

from __future__ import annotations


class PtxFault(Exception):
    """`kind` is one of: parse, unsupported, type, launch, bounds, alignment, uninitialised, race,
    divergence, deadlock, arithmetic, timeout."""

    def __init__(self, kind: str, message: str, *, line: int | None = None, where: str = ""):
        super().__init__(message)
        self.kind, self.message, self.line, self.where = kind, message, line, where

    def __str__(self) -> str:
        line = f"line {self.line}: " if self.line else ""
        return f"{line}{self.kind}: {self.message}" + (f" ({self.where})" if self.where else "")
