"""Wrong kernels made from right ones: each operator changes one place of a kernel's PTX.

An operator maps one instruction (its text) to wrong ones, or to nothing where it does not apply.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    operator: str
    line: int
    before: str
    after: str
    text: str

    def __str__(self) -> str:
        return f"{self.operator}, line {self.line}: `{self.before}` -> `{self.after}`"


def drop_barrier(s: str):
    if s.startswith("bar.sync"):
        yield ""


def drop_guard(s: str):
    """A missing predicate: the bound is never checked."""
    if s.startswith("@"):
        yield "" if " bra" in s else re.sub(r"^@\S+\s+", "", s)


def negate_guard(s: str):
    if s.startswith("@"):
        yield s.replace("@!", "@", 1) if s.startswith("@!") else s.replace("@", "@!", 1)


def off_by_one(s: str):
    """A comparison that takes one element more or fewer."""
    swap = {"lt": "le", "le": "lt", "gt": "ge", "ge": "gt"}
    if m := re.match(r"setp\.(lt|le|gt|ge)\.([su]\d+)(.*)", s):
        yield f"setp.{swap[m[1]]}.{m[2]}{m[3]}"


def four_bytes_on(s: str) -> str:
    """The same access at the next word; LLVM writes a negative offset as `+-8`."""
    return re.sub(r"\[(%?\w+)(?:\+(-?\d+))?\]", lambda m: f"[{m[1]}+{int(m[2] or 0) + 4}]", s)


def misalign_vector(s: str):
    """A vector access 4 bytes on."""
    if re.match(r"(@\S+\s+)?(ld|st)\.\S*v[24]\.", s):
        yield re.sub(
            r"\[(%?\w+)(\+-?\d+)?\]", lambda m: f"[{m[1]}+{int((m[2] or '+0')[1:]) + 4}]", s
        )


def wrong_stride(s: str):
    """The factor that makes an index an address, or an index of two."""
    if m := re.match(r"((?:mul\.wide|mad\.lo)\.\S+\s.*, )(\d+)((?:, .*)?;)$", s):
        yield f"{m[1]}{int(m[2]) * 2}{m[3]}"
    elif m := re.match(r"(shl\.b\d+\s.*, )(\d+);$", s):
        yield f"{m[1]}{int(m[2]) + 1};"


def swap_sources(s: str):
    """The two sources of what does not commute."""
    if m := re.match(r"((?:sub|selp|div|shl|shr)\.\S+\s+%\w+), (%\w+), (?!\2\b)(%\w+)(.*)", s):
        yield f"{m[1]}, {m[3]}, {m[2]}{m[4]}"


def wrong_register(s: str):
    """The register that the last source of an arithmetic instruction should not be."""
    if m := re.match(r"((?:fma|add|mul)\.rn\.f32\s+%\w+, )(%\w+)(, .*?)(?!\2;)(%\w+);$", s):
        yield f"{m[1]}{m[2]}{m[3]}{m[2]};"


def shift_shared(s: str):
    """An access of shared memory one element on."""
    if re.match(r"(@\S+\s+)?(ld|st)\.shared\.b", s):
        yield re.sub(
            r"\[(\S+?)(\+-?\d+)?\]", lambda m: f"[{m[1]}+{int((m[2] or '+0')[1:]) + 4}]", s
        )


def drop_store(s: str):
    if re.match(r"st\.", s):
        yield ""


def wrong_lane(s: str):
    """A shuffle that takes a lane's own value."""
    if m := re.match(r"(shfl\.\S+\s+\S+ %\w+, )(\d+)(, .*)", s):
        yield f"{m[1]}0{m[3]}"


def wrong_width(s: str):
    """An access of another width than the register's."""
    if m := re.match(r"((?:ld|st)\.(?:global|shared)\S*\.)b32(\s.*)", s):
        yield f"{m[1]}b64{m[2]}"


def unknown_modifier(s: str):
    if m := re.match(r"((?:fma|add|ld\.global|bar|shfl)\S*)(\s.*)", s):
        yield f"{m[1]}.zz{m[2]}"


def shrink_shared(s: str):
    """A shared array of half the size."""
    if m := re.match(r"(\.shared .*\[)(\d+)(\];)", s):
        yield f"{m[1]}{int(m[2]) // 2}{m[3]}"


def swap_fragments(s: str):
    """Two registers of an operand of mma in each other's place."""
    if not s.startswith("mma."):
        return
    for m in re.finditer(r"\{(%\w+), (%\w+)", s):
        if m[1] != m[2]:
            yield f"{s[: m.start()]}{{{m[2]}, {m[1]}{s[m.end() :]}"


def wrong_shape(s: str):
    """A product of another depth than its fragments."""
    swap = {"m16n8k16": "m16n8k8", "m16n8k8": "m16n8k16"}
    if m := re.match(r"(mma\.\S*?)(m16n8k16|m16n8k8)(.*)", s):
        yield f"{m[1]}{swap[m[2]]}{m[3]}"


def other_element(s: str):
    """f16 for bf16 and the reverse: the same bits, read otherwise."""
    if m := re.match(r"(mma\.\S*\.f32\.)(b?f16)\.(b?f16)(\.f32.*)", s):
        other = "f16" if m[2] == "bf16" else "bf16"
        yield f"{m[1]}{other}.{other}{m[4]}"


OPERATORS = {
    f.__name__: f
    for f in (
        *(drop_barrier, drop_guard, negate_guard, off_by_one, misalign_vector, wrong_stride),
        *(swap_sources, wrong_register, shift_shared, drop_store, wrong_lane, wrong_width),
        *(unknown_modifier, shrink_shared, swap_fragments, wrong_shape, other_element),
    )
}


def kernel_text(text: str, kernel: str) -> str:
    """The module with this kernel only; shared and other variables stay."""
    parts = re.split(r"(?m)^(?=\.visible \.entry )", text)
    mine = [p for p in parts[1:] if re.match(rf"\.visible \.entry {kernel}\b", p)]
    return parts[0] + mine[0]


def one_line_each(text: str) -> str:
    """Instructions that LLVM breaks, each in one line."""
    return re.sub(r"\n\s*(?=\{%)", " ", text)


def mutants(text: str, kernel: str, operator: str) -> Iterator[Mutant]:
    """All mutants of one kernel by one operator."""
    lines = kernel_text(text, kernel).split("\n")
    seen = set()
    for n, line in enumerate(lines):
        code = line.split("//")[0].strip()
        if not code:
            continue
        if operator == "unknown_modifier":  # of one opcode is enough
            opcode = re.sub(r"^@\S+\s+", "", code).split()[0]
            if opcode in seen:
                continue
            seen.add(opcode)
        for after in OPERATORS[operator](code):
            assert after != code, f"{operator} changes nothing in `{code}`"
            changed = "\n".join([*lines[:n], after, *lines[n + 1 :]])
            yield Mutant(operator, n + 1, code, after, changed)
