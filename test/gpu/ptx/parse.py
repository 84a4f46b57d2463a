"""PTX text to a `Module` of kernels, each a flat list of instructions with labels.

The grammar is the part of PTX that compilers print for kernels (ISA 8.x, chapters 4 to 11). What it
does not know is an error with its line, never skipped: an interpreter that ignores a word is wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .faults import PtxFault

WIDTH = {
    **{f"{k}{w}": w // 8 for k in "bsu" for w in (8, 16, 32, 64)},
    **{"f16": 2, "bf16": 2, "f32": 4, "f64": 8, "f16x2": 4, "bf16x2": 4, "tf32": 4, "pred": 0},
}

TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*|/\*.*?\*/)
      | (?P<float>0[fF][0-9a-fA-F]{8}(?![0-9a-fA-F])|0[dD][0-9a-fA-F]{16})
      | (?P<version>\d+\.\d+)(?![\w.])
      | (?P<int>0[xX][0-9a-fA-F]+U?|\d+U?)(?![\w.])
      | (?P<word>[.A-Za-z_$%](?:[\w$.%]|::)*)
      | (?P<string>"[^"]*")
      | (?P<punct>[\[\]{}(),;:+\-!@|<>=])""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Reg:
    index: int
    type: str
    name: str


@dataclass(frozen=True)
class Imm:
    """An integer (kind "int", any sign), or the bits of a float (kind "f32" or "f64")."""

    value: int
    kind: str = "int"


@dataclass(frozen=True)
class Sym:
    name: str
    offset: int = 0


@dataclass(frozen=True)
class Special:
    name: str


@dataclass(frozen=True)
class Vec:
    items: tuple


@dataclass(frozen=True)
class Addr:
    base: object  # Reg, Sym or Imm
    offset: int


@dataclass(frozen=True)
class Pair:
    """`d|p`: the two results of setp and shfl.sync."""

    first: object
    second: object


@dataclass(frozen=True)
class Not:
    reg: Reg


SINK = Sym("_")


@dataclass
class Instruction:
    opcode: str
    operands: list
    guard: Reg | Not | None
    line: int

    @property
    def words(self) -> list[str]:
        return self.opcode.split(".")


@dataclass
class Variable:
    """A `.shared`, `.local`, `.global`, `.const` or `.param` object; size None is `extern []`."""

    name: str
    space: str
    align: int
    size: int | None
    type: str
    data: bytes | None = None


@dataclass
class Kernel:
    name: str
    params: list[Variable]
    code: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    registers: list[Reg] = field(default_factory=list)
    variables: list[Variable] = field(default_factory=list)
    directives: dict[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass
class Module:
    version: str = ""
    target: str = ""
    kernels: dict[str, Kernel] = field(default_factory=dict)
    variables: list[Variable] = field(default_factory=list)


def tokenize(text: str) -> list[tuple[str, str, int]]:
    """Splits into (kind, text, line); `%r<5>` stays several tokens."""
    tokens, at, line = [], 0, 1
    while at < len(text):
        match = TOKEN.match(text, at)
        if not match:
            raise PtxFault("parse", f"unexpected {text[at : at + 12]!r}", line=line)
        if match.lastgroup != "skip":
            tokens.append((match.lastgroup, match.group(), line))
        line += match.group().count("\n")
        at = match.end()
    tokens.append(("end", "", line))
    return tokens


class Parser:
    def __init__(self, text: str):
        self.tokens = tokenize(text)
        self.at = 0
        self.module = Module()

    # ---- tokens ----

    @property
    def word(self) -> str:
        return self.tokens[self.at][1]

    @property
    def kind(self) -> str:
        return self.tokens[self.at][0]

    @property
    def line(self) -> int:
        return self.tokens[self.at][2]

    def fail(self, message: str):
        raise PtxFault("parse", message, line=self.line)

    def take(self, expected: str | None = None) -> str:
        if expected is not None and self.word != expected:
            self.fail(f"expected {expected!r}, found {self.word!r}")
        self.at += 1
        return self.tokens[self.at - 1][1]

    def accept(self, word: str) -> bool:
        if self.word == word and self.kind != "end":
            self.at += 1
            return True
        return False

    def integer(self) -> int:
        sign = -1 if self.accept("-") else 1
        if self.kind != "int":
            self.fail(f"expected an integer, found {self.word!r}")
        return sign * int(self.take().rstrip("U"), 0)

    # ---- module ----

    def parse(self) -> Module:
        while self.kind != "end":
            word = self.take()
            if word == ".version":
                self.module.version = self.rest_of_line()
            elif word == ".target":
                self.module.target = self.rest_of_line()
            elif word == ".address_size":
                if self.integer() != 64:
                    self.fail("only .address_size 64 is known")
            elif word == ".file":
                self.rest_of_line()
            elif word == ".entry":
                self.entry()
            elif word in (".visible", ".weak"):
                continue
            elif word in (".extern", ".shared", ".global", ".const"):
                self.module_variable(word)
            else:
                self.fail(f"{word!r} at module level is not supported")
        return self.module

    def rest_of_line(self) -> str:
        line, words = self.line, []
        while self.line == line and self.kind != "end":
            words.append(self.take())
        return "".join(words)

    def module_variable(self, word: str):
        extern = word == ".extern"
        space = self.take() if extern else word
        if space == ".func":
            while self.word == "(" and self.take() and self.kind != "end":
                while not self.accept(")"):
                    self.take()
            self.fail(f".extern .func {self.word}: the driver could not resolve it")
        if space not in (".shared", ".global", ".const"):
            self.fail(f"{word} {space} is not supported")
        variable = self.variable(space[1:])
        if extern and variable.size is not None and space != ".shared":
            self.fail(f".extern {space} {variable.name}: the driver could not resolve it")
        if not extern and variable.size is None:
            self.fail(f"{variable.name} has no size")
        self.module.variables.append(variable)
        self.take(";")

    def variable(self, space: str) -> Variable:
        align, name_type = None, None
        while self.word.startswith("."):
            word = self.take()
            if word == ".align":
                align = self.integer()
            elif word == ".ptr":
                continue
            elif word in (".global", ".shared", ".const", ".local") and space == "param":
                continue  # `.ptr .global .align 4`: what the pointer points at
            elif word[1:] in WIDTH:
                name_type = word[1:]
                if space == "param":
                    align = None
            else:
                self.fail(f"{word} on a variable is not supported")
        if name_type is None:
            self.fail("a variable without a type")
        width = WIDTH[name_type]
        name = self.take()
        size: int | None = width
        array = False
        while self.accept("["):
            array = True
            if self.accept("]"):
                size = None
                break
            size *= self.integer()
            self.take("]")
        data = self.initializer(width, size) if self.accept("=") else None
        if space == "param" and not array:
            align = width  # a `.ptr … .align` speaks of the pointee
        return Variable(name, space, align or width, size, name_type, data)

    def initializer(self, width: int, size: int | None) -> bytes:
        values = []
        if self.accept("{"):
            while not self.accept("}"):
                values.append(self.initial_value())
                self.accept(",")
        else:
            values.append(self.initial_value())
        data = b"".join((v % (1 << 8 * width)).to_bytes(width, "little") for v in values)
        return data.ljust(size or len(data), b"\0")

    def initial_value(self) -> int:
        if self.kind == "float":
            return int(self.take()[2:], 16)
        return self.integer()

    # ---- kernels ----

    def entry(self):
        name = self.take()
        params = []
        if self.accept("("):
            while not self.accept(")"):
                self.take(".param")
                params.append(self.variable("param"))
                self.accept(",")
        kernel = Kernel(name, params)
        while self.word.startswith("."):
            directive = self.take()
            if directive not in (".maxntid", ".reqntid", ".minnctapersm", ".maxnreg", ".noreturn"):
                self.fail(f"{directive} on a kernel is not supported")
            values = []
            while self.kind == "int":
                values.append(self.integer())
                self.accept(",")
            kernel.directives[directive] = tuple(values)
        self.take("{")
        Body(self, kernel).parse()
        if name in self.module.kernels:
            self.fail(f"{name} is defined twice")
        self.module.kernels[name] = kernel


class Body:
    """The statements of one kernel; a nested `{ }` has registers of its own."""

    def __init__(self, parser: Parser, kernel: Kernel):
        self.p = parser
        self.kernel = kernel
        self.scopes: list[dict[str, Reg]] = [{}]

    def parse(self):
        p = self.p
        while True:
            if p.accept("{"):
                self.scopes.append({})
            elif p.accept("}"):
                self.scopes.pop()
                if not self.scopes:
                    return
            elif p.word == ".reg":
                self.registers()
            elif p.word in (".shared", ".local"):
                space = p.take()[1:]
                self.kernel.variables.append(p.variable(space))
                p.take(";")
            elif p.word == ".pragma":
                p.take()
                p.take()
                p.take(";")
            elif p.word == ".loc":
                p.rest_of_line()
            elif p.kind == "word" and p.tokens[p.at + 1][1] == ":":
                label = p.take()
                p.take(":")
                if label in self.kernel.labels:
                    p.fail(f"label {label} is defined twice")
                self.kernel.labels[label] = len(self.kernel.code)
            elif p.kind == "end":
                p.fail("the kernel's } is missing")
            else:
                self.instruction()

    def registers(self):
        p = self.p
        p.take(".reg")
        kind = p.take()[1:]
        if kind not in WIDTH or WIDTH[kind] == 1:
            p.fail(f".reg .{kind} is not supported")
        while True:
            name = p.take()
            if p.accept("<"):
                names = [f"{name}{i}" for i in range(p.integer())]
                p.take(">")
            else:
                names = [name]
            for n in names:
                reg = Reg(len(self.kernel.registers), kind, n)
                if n in self.scopes[-1]:
                    p.fail(f"register {n} is declared twice")
                self.scopes[-1][n] = reg
                self.kernel.registers.append(reg)
            if p.accept(";"):
                return
            p.take(",")

    def lookup(self, name: str):
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        if name.startswith("%"):
            return Special(name)
        return Sym(name)

    def register(self) -> Reg:
        reg = self.lookup(self.p.take())
        if not isinstance(reg, Reg):
            self.p.fail(f"{reg.name} is not a register")
        return reg

    def instruction(self):
        p = self.p
        line, guard = p.line, None
        if p.accept("@"):
            guard = Not(self.register()) if p.accept("!") else self.register()
        if p.kind != "word":
            p.fail(f"expected an instruction, found {p.word!r}")
        opcode = p.take()
        operands = []
        if not p.accept(";"):
            operands.append(self.operand())
            while p.accept(","):
                operands.append(self.operand())
            p.take(";")
        self.kernel.code.append(Instruction(opcode, operands, guard, line))

    def operand(self):
        first = self.simple_operand()
        if self.p.accept("|"):
            return Pair(first, self.simple_operand())
        return first

    def simple_operand(self):
        p = self.p
        if p.accept("{"):
            items = [self.simple_operand()]
            while p.accept(","):
                items.append(self.simple_operand())
            p.take("}")
            return Vec(tuple(items))
        if p.accept("["):
            base, offset = self.simple_operand(), 0
            if p.accept("+") or p.word == "-":
                offset = p.integer()
            p.take("]")
            if isinstance(base, Sym):
                base, offset = Sym(base.name), base.offset + offset
            return Addr(base, offset)
        if p.accept("!"):
            return Not(self.register())
        if p.kind == "float":
            text = p.take()
            return Imm(int(text[2:], 16), "f32" if text[1] in "fF" else "f64")
        if p.kind == "int" or p.word == "-":
            return Imm(p.integer())
        if p.kind != "word":
            p.fail(f"expected an operand, found {p.word!r}")
        found = self.lookup(p.take())
        if isinstance(found, Sym) and p.accept("+"):
            return Sym(found.name, p.integer())
        return found


def parse(text: str) -> Module:
    """Parses a PTX module, or raises `PtxFault` of kind "parse"."""
    return Parser(text.rstrip("\0")).parse()
