"""Instructions to Python closures over a team of lanes, decoded and type-checked once a kernel.

A register is an array of raw unsigned bits, one element a lane, or one for all lanes if the value
is uniform. A write replaces it, never changes it in place, so copies are free. Each closure takes
the `Team`, whose mask says which lanes are active (None: all).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np

from .faults import PtxFault
from .parse import (
    SINK,
    WIDTH,
    Addr,
    Imm,
    Instruction,
    Kernel,
    Module,
    Not,
    Pair,
    Reg,
    Special,
    Sym,
    Vec,
)

RAW = {0: np.bool_, 1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
DTYPE = {
    **{f"u{8 * w}": RAW[w] for w in (1, 2, 4, 8)},
    **{f"b{8 * w}": RAW[w] for w in (1, 2, 4, 8)},
    **{"s8": np.int8, "s16": np.int16, "s32": np.int32, "s64": np.int64},
    **{"f16": np.float16, "f32": np.float32, "f64": np.float64, "bf16": np.uint16},
    **{"f16x2": np.uint32, "bf16x2": np.uint32, "tf32": np.uint32, "pred": np.bool_},
}
DECODERS: dict = {}
SYNC = ("bar", "barrier", "shfl", "mma", "ldmatrix", "vote", "activemask", "redux")


def op(*names):
    """Registers a decoder `f(compiler, instruction, modifiers) -> closure`."""

    def register(f):
        for name in names:
            DECODERS[name] = f
        return f

    return register


class Modifiers:
    """The dotted words of an opcode; each must be asked for, and what is left over is an error."""

    def __init__(self, ins: Instruction):
        self.name, *self.words = ins.words
        # `.L1::no_allocate` and `.L2::128B` are hints; they have no meaning to get wrong.
        self.words = [w for w in self.words if not w.startswith(("L1::", "L2::"))]
        self.opcode = ins.opcode

    def flag(self, word: str) -> bool:
        if word in self.words:
            self.words.remove(word)
            return True
        return False

    def one(self, *allowed: str, default: str | None = None) -> str:
        for word in self.words:
            if word in allowed:
                self.words.remove(word)
                return word
        if default is None:
            self.unsupported()
        return default

    def type(self, *allowed: str) -> str:
        """The next type, in the order of the opcode."""
        for word in self.words:
            if word in WIDTH:
                if allowed and word not in allowed:
                    self.unsupported()
                self.words.remove(word)
                return word
        self.unsupported()

    def unsupported(self):
        raise PtxFault("unsupported", f"`{self.opcode}`")

    def done(self):
        if self.words:
            self.unsupported()


KINDS = {"f": "float", "s": "int", "u": "int", "b": "bits", "p": "pred"}


def kind_of(type_: str) -> str:
    """bf16 and tf32 live in .b registers."""
    return "float" if type_ == "f16" else KINDS[type_[0]] if type_[0] != "t" else "bits"


@dataclass
class Block:
    """Straight-line code; `end` says what its last instruction does to the flow."""

    first: int
    code: list = field(default_factory=list)
    instructions: list[Instruction] = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)
    end: str = "fall"  # fall, bra, exit, bar
    guard: object = None
    target: int = -1
    bar_threads: int | None = None
    members: object = None  # of a warp-wide instruction: the lanes that it waits for


class Compiler:
    """One kernel as basic blocks of closures."""

    def __init__(self, module: Module, kernel: Kernel):
        self.module, self.kernel = module, kernel
        self.ins: Instruction | None = None
        self.blocks: list[Block] = []
        self.shared: dict[str, tuple[int, int]] = {}
        self.local: dict[str, tuple[int, int]] = {}
        self.params: dict[str, tuple[int, int]] = {}
        self.valid: dict[int, np.ndarray] = {}
        self.members = None
        self.mentions: dict[Reg, list[Instruction]] = defaultdict(list)
        for ins in kernel.code:
            for reg in registers(ins):
                self.mentions[reg].append(ins)
        self.shared_granule = self.global_granule = 4
        self.layout()
        self.compile()

    # ---- variables ----

    def layout(self):
        offset = 0
        for p in self.kernel.params:
            offset = -(-offset // p.align) * p.align
            self.params[p.name] = (offset, p.size)
            offset += p.size
        self.param_bytes = offset
        self.globals = [v for v in self.module.variables if v.space in ("global", "const")]
        shared = [v for v in self.module.variables if v.space == "shared"]
        text = {s for i in self.kernel.code for s in symbols(i)}
        shared = [v for v in shared if v.name in text]
        shared += [v for v in self.kernel.variables if v.space == "shared"]
        self.static_shared = sum(v.size for v in shared if v.size is not None)
        at = 0
        for v in (v for v in shared if v.size is not None):
            # 128 bytes between two variables: an overrun of one is not silently inside the next.
            # And none is aligned better than it says: an assembler may place it so.
            at = -(-(at + 128) // (2 * v.align)) * 2 * v.align + v.align
            self.shared[v.name] = (at, v.size)
            at += v.size
        dynamic = [v for v in shared if v.size is None]
        start = -(-(at + (128 if at else 0)) // 128) * 128
        for v in dynamic:  # all of them name the same bytes
            self.shared[v.name] = (start, None)
        self.dynamic_start = start
        self.uses_dynamic = bool(dynamic)
        at = 0
        for v in (v for v in self.kernel.variables if v.space == "local"):
            at = -(-at // v.align) * v.align
            self.local[v.name] = (at, v.size)
            at += v.size
        self.local_bytes = at

    def shared_valid(self, dynamic: int) -> np.ndarray:
        """Which bytes of the block's shared memory belong to a variable."""
        if dynamic not in self.valid:
            size = self.dynamic_start + (dynamic if self.uses_dynamic else 0)
            valid = np.zeros(max(size, 1), bool)
            for start, length in self.shared.values():
                valid[start : start + (dynamic if length is None else length)] = True
            self.valid[dynamic] = valid
        return self.valid[dynamic]

    # ---- blocks ----

    def compile(self):
        code = self.kernel.code
        leaders = {0, *self.kernel.labels.values()}
        for i, ins in enumerate(code):
            name = ins.words[0]
            if name in ("bra", "ret", "exit"):
                leaders.add(i + 1)
            elif name in SYNC:
                leaders |= {i, i + 1}
        starts = sorted(s for s in leaders if s < len(code))
        self.block_of = {s: n for n, s in enumerate(starts)}
        self.warp_epochs = any(i.opcode.startswith(("bar.warp", "barrier.warp")) for i in code)
        for start, end in zip(starts, [*starts[1:], len(code)], strict=True):
            block = Block(start)
            for ins in code[start:end]:
                self.add(block, ins)
            self.blocks.append(block)
        if not self.blocks or self.blocks[-1].end not in ("exit", "bra") or self.blocks[-1].guard:
            raise PtxFault("parse", f"{self.kernel.name} does not end with ret, exit or a branch")

    def add(self, block: Block, ins: Instruction):
        self.ins = ins
        try:
            mods = Modifiers(ins)
            if mods.name in ("bra", "ret", "exit"):
                self.terminator(block, ins, mods)
            elif ins.opcode in ("bar.sync", "barrier.sync", "barrier.sync.aligned") or (
                ins.opcode in ("barrier.cta.sync", "barrier.cta.sync.aligned", "bar.cta.sync")
            ):
                self.barrier(block, ins)
            elif mods.name not in DECODERS:
                mods.unsupported()
            else:
                run = DECODERS[mods.name](self, ins, mods)
                mods.done()
                if ins.guard is not None:
                    if mods.name in SYNC:
                        raise PtxFault("unsupported", f"a guard on {ins.opcode}")
                    run = self.guarded(run, ins.guard)
                block.code.append(run)
                if mods.name in SYNC:
                    block.members = self.members
            block.instructions.append(ins)
            block.counts[classify(ins)] += 1
        except PtxFault as fault:
            fault.line = fault.line or ins.line
            raise

    def terminator(self, block: Block, ins: Instruction, mods: Modifiers):
        mods.flag("uni")
        mods.done()
        block.end = "bra" if mods.name == "bra" else "exit"
        block.guard = self.predicate(ins.guard) if ins.guard is not None else None
        if mods.name == "bra":
            label = ins.operands[0].name
            at = self.kernel.labels.get(label)
            if at is None or at not in self.block_of:
                raise PtxFault("parse", f"no instruction at label {label}")
            block.target = self.block_of[at]

    def barrier(self, block: Block, ins: Instruction):
        if not all(isinstance(o, Imm) for o in ins.operands) or not 1 <= len(ins.operands) <= 2:
            raise PtxFault("unsupported", f"`{ins.opcode}` with a register operand")
        if not 0 <= ins.operands[0].value < 16:
            raise PtxFault("launch", f"barrier {ins.operands[0].value}: there are 16")
        block.end = "bar"
        block.bar_threads = ins.operands[1].value if len(ins.operands) == 2 else None
        block.guard = self.predicate(ins.guard) if ins.guard is not None else None

    def guarded(self, run, guard):
        predicate = self.predicate(guard)

        def guarded(t):
            p = predicate(t)
            mask = t.mask
            if len(p) == 1:
                if p[0]:
                    run(t)
                return
            active = p if mask is None else mask & p
            if not active.any():
                return
            t.mask, t.lanes_of_mask = (None if active.all() else active), None
            run(t)
            t.mask, t.lanes_of_mask = mask, None

        return guarded

    # ---- operands ----

    def check(self, reg: Reg, type_: str, wider: bool = False):
        have, want = WIDTH[reg.type], WIDTH[type_]
        if (reg.type == "pred") != (type_ == "pred"):
            self.mistyped(reg, type_)
        if have != want and not (wider and have > want):
            self.mistyped(reg, type_)
        kinds = {kind_of(reg.type), kind_of(type_)}
        if kinds == {"int", "float"} and not wider:
            self.mistyped(reg, type_)

    def mistyped(self, reg: Reg, type_: str):
        raise PtxFault("type", f".{type_} of `{self.ins.opcode}`, but {reg.name} is .{reg.type}")

    def predicate(self, operand):
        if isinstance(operand, Not):
            inner = self.src(operand.reg, "pred")
            return lambda t: ~inner(t)
        return self.src(operand, "pred")

    def src(self, operand, type_: str, wider: bool = False):
        """Closure that reads an operand as an array of the type; `wider`: the low bits of it."""
        dtype = DTYPE[type_]
        if isinstance(operand, Reg):
            self.check(operand, type_, wider)
            return self.read_register(operand, dtype)
        if isinstance(operand, Imm):
            return self.constant(operand, type_, dtype)
        if isinstance(operand, Special):
            return self.special(operand, type_)
        if isinstance(operand, Sym):
            return self.symbol(operand, type_)
        if isinstance(operand, Not) and type_ == "pred":
            return self.predicate(operand)
        raise PtxFault("unsupported", f"operand {operand} of `{self.ins.opcode}`")

    def read_register(self, reg: Reg, dtype):
        index, narrow = reg.index, np.dtype(dtype).itemsize < max(1, WIDTH[reg.type])

        def read(t):
            defined = t.defined[index]
            if defined is not True:
                t.check_defined(reg, defined)
            value = t.regs[index]
            if narrow:
                value = value.astype(RAW[np.dtype(dtype).itemsize])
            return value.view(dtype)

        return read

    def constant(self, imm: Imm, type_: str, dtype):
        width = WIDTH[type_]
        if imm.kind == "int":
            if type_ == "pred":
                value = np.array([imm.value != 0])
                return lambda t: value
            if type_ in ("f32", "f64", "f16"):
                raise PtxFault("type", f"integer {imm.value} where .{type_} stands")
            if not -(1 << 8 * width - 1) <= imm.value < 1 << 8 * width:
                raise PtxFault("type", f"{imm.value} does not fit .{type_}")
        elif width != WIDTH[imm.kind] or kind_of(type_) == "int":
            raise PtxFault("type", f"an {imm.kind} constant where .{type_} stands")
        value = np.array([imm.value % (1 << 8 * width)], np.uint64).astype(RAW[width]).view(dtype)
        return lambda t: value

    def special(self, operand: Special, type_: str):
        name = operand.name
        if name not in SPECIALS:
            raise PtxFault("unsupported", f"special register {name}")
        dtype = DTYPE[type_]
        if np.dtype(dtype).itemsize < 4:
            raise PtxFault("type", f"{name} has 32 bits, not .{type_}")
        return lambda t: t.special(name).astype(dtype)

    def symbol(self, operand: Sym, type_: str):
        if WIDTH[type_] not in (4, 8):
            raise PtxFault("type", f"the address of {operand.name} as .{type_}")
        dtype, name, offset = DTYPE[type_], operand.name, operand.offset
        for table in (self.shared, self.local):
            if name in table:
                value = np.array([table[name][0] + offset], np.uint64).astype(dtype)
                return lambda t: value
        if any(v.name == name for v in self.globals):
            return lambda t: np.array([t.machine.symbols[name] + offset], np.uint64).astype(dtype)
        raise PtxFault("parse", f"unknown name {name}")

    def dst(self, operand, type_: str, wider: bool = False):
        """Closure `put(team, value)`; a wider register takes it extended by its sign or 0."""
        if operand == SINK:
            return lambda t, value: None
        if not isinstance(operand, Reg):
            raise PtxFault("parse", f"{operand} is not a destination")
        self.check(operand, type_, wider)
        index, width, raw = operand.index, WIDTH[operand.type], RAW[WIDTH[operand.type]]
        signed = {1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}.get(width)
        extend = width > WIDTH[type_]

        def put(t, value):
            if extend:
                value = value.astype(signed if value.dtype.kind == "i" else raw)
            t.write(index, value.view(raw))

        return put

    def is_read(self, operand) -> bool:
        """Whether anything but the one instruction that sets it names a register."""
        return operand != SINK and len(self.mentions[operand]) > 1

    def used(self, into, width: int) -> tuple[int, list[int]]:
        """Which of the units of a vector are ever read from the registers it is loaded into, and
        what a unit has of bytes: half an element where it may hold two, else one."""
        if width != 4:
            return width, [k for k, o in enumerate(into) if self.is_read(o)]
        return 2, [2 * k + h for k, o in enumerate(into) for h in (0, 1) if self.half_is_read(o, h)]

    def half_is_read(self, operand, half: int) -> bool:
        if not self.is_read(operand):
            return False
        for ins in self.mentions[operand]:
            to = ins.operands[0]
            if ins.words[0] == "ld" and isinstance(to, Vec) and operand in to.items:
                continue  # which sets it
            if ins.opcode == "mov.b32" and isinstance(to, Vec) and len(to.items) == 2:
                reads = self.is_read(to.items[half])
            else:
                reads = half == 0 or ins.opcode != "cvt.u16.u32"
            if reads:
                return True
        return False

    def sources(self, operands, *types):
        if len(operands) != len(types):
            raise PtxFault("parse", f"`{self.ins.opcode}` with {len(operands)} sources")
        return [self.src(o, ty) for o, ty in zip(operands, types, strict=True)]

    def address(self, operand: Addr):
        """Closure that gives the byte addresses as int64, one or one a lane."""
        if not isinstance(operand, Addr):
            raise PtxFault("parse", f"{operand} is not an address")
        base, offset = operand.base, np.int64(operand.offset)
        if isinstance(base, Sym):
            get = self.symbol(Sym(base.name, base.offset), "u64")
            return lambda t: get(t).astype(np.int64) + offset
        if isinstance(base, Imm):
            value = np.array([base.value], np.int64) + offset
            return lambda t: value
        if WIDTH[base.type] not in (4, 8):
            self.mistyped(base, "b64")
        get = self.read_register(base, RAW[WIDTH[base.type]])
        return lambda t: get(t).astype(np.int64) + offset


SPECIALS = {
    *(f"%{n}.{d}" for n in ("tid", "ntid", "ctaid", "nctaid") for d in "xyz"),
    *("%laneid", "%warpid", "%nwarpid", "%dynamic_smem_size", "%total_smem_size"),
    *("%lanemask_eq", "%lanemask_lt", "%lanemask_le", "%lanemask_gt", "%lanemask_ge"),
}


def symbols(ins: Instruction):
    """The names of variables that an instruction mentions."""
    for operand in ins.operands:
        for o in operand.items if isinstance(operand, Vec) else [operand]:
            o = o.base if isinstance(o, Addr) else o
            if isinstance(o, Sym):
                yield o.name


def registers(ins: Instruction):
    """The registers that an instruction mentions."""
    for operand in (*ins.operands, ins.guard):
        several = (operand.first, operand.second) if isinstance(operand, Pair) else [operand]
        for o in operand.items if isinstance(operand, Vec) else several:
            o = o.base if isinstance(o, Addr) else o.reg if isinstance(o, Not) else o
            if isinstance(o, Reg):
                yield o


def classify(ins: Instruction) -> str:
    """The class under which an instruction is counted."""
    name, *mods = ins.words
    if name in ("ld", "st", "atom", "red"):
        space = next(
            (m for m in mods if m in ("global", "shared", "local", "param", "const")), "generic"
        )
        return f"{name}.{space}"
    if name in ("fma", "mma", "ldmatrix", "cvt", "bar", "shfl", "bra", "mov"):
        return name
    if name in ("ex2", "lg2", "sqrt", "rsqrt", "rcp", "sin", "cos", "tanh", "div"):
        return "special" if "approx" in mods else name
    if any(m in ("f16", "f32", "f64", "bf16", "f16x2", "bf16x2") for m in mods):
        return "float"
    return "integer"
