"""Warp-wide instructions: shfl, vote, bar.warp.sync, ldmatrix and mma.sync.

`c.members` says for which lanes the scheduler waits before it runs one. mma accumulates in f64 and
rounds once; hardware has its own order of summation, so compare with a tolerance.
"""

from __future__ import annotations

import numpy as np

from . import numerics as nx
from .compiler import Compiler, op
from .faults import PtxFault
from .ops_memory import load_shared
from .parse import SINK, Imm, Pair, Vec

I64, U32, F32, F64 = np.int64, np.uint32, np.float32, np.float64


def all_lanes(t):
    """For mma and ldmatrix, which are .aligned: every lane of a whole warp."""
    if not t.exists.all():
        raise PtxFault("divergence", "a warp-wide instruction in a warp of fewer than 32 threads")
    return np.full(1, 0xFFFFFFFF, U32)


def in_warp(t, value):
    """One element a lane, as one row a warp."""
    return np.broadcast_to(value, t.lanes).reshape(-1, 32)


@op("shfl")
def shfl(c: Compiler, ins, mods):
    """Lane i gets a of lane j, which `mode`, b and the clamp in c choose (ISA, shfl.sync)."""
    if not mods.flag("sync"):
        mods.unsupported()
    mode = mods.one("up", "down", "bfly", "idx")
    mods.type("b32")
    d, p = ins.operands[0], SINK
    if isinstance(d, Pair):
        d, p = d.first, d.second
    a, b, clamp, members = c.sources(ins.operands[1:], "b32", "u32", "u32", "u32")
    c.members = members
    put, put_valid = c.dst(d, "b32"), c.dst(p, "pred")

    def run(t):
        lane = np.arange(32, dtype=I64)
        offset = (in_warp(t, b(t)) & U32(31)).astype(I64)
        limits = in_warp(t, clamp(t)).astype(I64)
        segment, bound = (limits >> 8) & 31, limits & 31
        least, most = lane & segment, (lane & segment) | (bound & ~segment)
        source, valid = {
            "up": lambda: (lane - offset, lane - offset >= most),
            "down": lambda: (lane + offset, lane + offset <= most),
            "bfly": lambda: (lane ^ offset, (lane ^ offset) <= most),
            "idx": lambda: (least | (offset & ~segment), (least | (offset & ~segment)) <= most),
        }[mode]()
        source = np.where(valid, source, lane)
        check_sources(t, source)
        value = np.take_along_axis(in_warp(t, a(t)), source, axis=1).ravel()
        put(t, value)
        put_valid(t, np.broadcast_to(valid, (t.warps, 32)).ravel())

    return run


def check_sources(t, source):
    """Every lane that an active lane reads must be active too."""
    active = np.zeros(t.lanes, bool)
    active[t.active()] = True
    active = active.reshape(-1, 32)
    bad = (active & ~np.take_along_axis(active, source, axis=1)).ravel()
    if bad.any():
        raise t.fault("uninitialised", "shfl from an inactive lane", int(np.flatnonzero(bad)[0]))


@op("bar", "barrier")
def warp_barrier(c: Compiler, ins, mods):
    """bar.warp.sync; the block's barriers are the scheduler's."""
    if not (mods.flag("warp") and mods.flag("sync")):
        mods.unsupported()
    (c.members,) = c.sources(ins.operands, "u32")

    def run(t):
        t.syn[t.active()] += 1

    return run


@op("vote")
def vote(c: Compiler, ins, mods):
    if not mods.flag("sync"):
        mods.unsupported()
    mode = mods.one("all", "any", "uni", "ballot")
    type_ = mods.type("b32" if mode == "ballot" else "pred")
    p, c.members = c.sources(ins.operands[1:], "pred", "u32")
    members, put = c.members, c.dst(ins.operands[0], type_)
    bit = U32(1) << np.arange(32, dtype=U32)

    def run(t):
        wanted = (in_warp(t, members(t)) & bit) != 0
        yes = in_warp(t, p(t)) & wanted
        some, every = yes.any(1), (yes | ~wanted).all(1)
        result = {
            "all": lambda: every,
            "any": lambda: some,
            "uni": lambda: every | ~some,
            "ballot": lambda: (yes * bit).sum(1, dtype=U32),
        }[mode]()
        put(t, np.repeat(result, 32))

    return run


# ---- matrices -----------------------------------------------------------------------------------

LANE = np.arange(32)
GROUP, IN_GROUP = LANE >> 2, LANE & 3


@op("ldmatrix")
def ldmatrix(c: Compiler, ins, mods):
    """8x8 matrices of b16: lane 8i + r gives the address of row r of matrix i."""
    if not (mods.flag("sync") and mods.flag("aligned") and mods.flag("m8n8")):
        mods.unsupported()
    count = int(mods.one("x1", "x2", "x4")[1:])
    transposed = mods.flag("trans")
    if not (mods.one("shared", "shared::cta") and mods.type("b16")):
        mods.unsupported()
    d = ins.operands[0]
    puts = [c.dst(o, "b32") for o in (d.items if isinstance(d, Vec) else [d])]
    if len(puts) != count:
        raise PtxFault("type", f"{len(puts)} registers for .x{count}")
    address, line = c.address(ins.operands[1]), ins.line
    c.members = all_lanes

    def run(t):
        mask = t.mask
        giving = (
            np.tile(8 * count > LANE, t.warps)
            if mask is None
            else mask & np.tile(8 * count > LANE, t.warps)
        )
        at = address(t)
        t.set_mask(giving)
        words = load_shared(t, t.spread(at), 4, 4, line)
        words = np.stack([t.scatter(w) for w in words], 1).reshape(-1, 32, 4)
        t.mask, t.lanes_of_mask = mask, None
        halves = np.ascontiguousarray(words).view(np.uint16).reshape(-1, 4, 8, 8)
        for i, put in enumerate(puts):
            matrix = halves[:, i].transpose(0, 2, 1) if transposed else halves[:, i]
            low = matrix[:, GROUP, 2 * IN_GROUP].astype(U32)
            high = matrix[:, GROUP, 2 * IN_GROUP + 1].astype(U32)
            put(t, (low | (high << U32(16))).ravel())

    return run


def halves(register, type_: str):
    """The two elements of a register of packed f16 or bf16, as f64."""
    low, high = (register & U32(0xFFFF)).astype(np.uint16), (register >> U32(16)).astype(np.uint16)
    if type_ == "bf16":
        return nx.bf16_to_f32(low).astype(F64), nx.bf16_to_f32(high).astype(F64)
    return low.view(np.float16).astype(F64), high.view(np.float16).astype(F64)


def fragment_a(registers, k: int, type_: str):
    """A, 16 x k, from the registers of a warp (ISA, mma fragments)."""
    a = np.zeros((len(registers[0]), 16, k), F64)
    for i, register in enumerate(registers):
        row = GROUP + 8 * (i & 1)
        if type_ == "tf32":
            a[:, row, IN_GROUP + 4 * (i >> 1)] = nx.tf32(register)
        else:
            column = 2 * IN_GROUP + 8 * (i >> 1)
            a[:, row, column], a[:, row, column + 1] = halves(register, type_)
    return a


def fragment_b(registers, k: int, type_: str):
    """B, k x 8."""
    b = np.zeros((len(registers[0]), k, 8), F64)
    for i, register in enumerate(registers):
        if type_ == "tf32":
            b[:, IN_GROUP + 4 * i, GROUP] = nx.tf32(register)
        else:
            row = 2 * IN_GROUP + 8 * i
            b[:, row, GROUP], b[:, row + 1, GROUP] = halves(register, type_)
    return b


# shape, input type -> registers of A and B
SHAPES = {
    ("m16n8k4", "tf32"): (4, 2, 1),
    ("m16n8k8", "tf32"): (8, 4, 2),
    ("m16n8k8", "f16"): (8, 2, 1),
    ("m16n8k16", "f16"): (16, 4, 2),
    ("m16n8k8", "bf16"): (8, 2, 1),
    ("m16n8k16", "bf16"): (16, 4, 2),
}


@op("mma")
def mma(c: Compiler, ins, mods):
    """D = A B + C with f32 accumulators; every other form is unsupported."""
    flags = [mods.flag(w) for w in ("sync", "aligned", "row", "col")]
    shape = mods.one("m16n8k4", "m16n8k8", "m16n8k16")
    types = list(mods.words)
    if not all(flags) or len(types) != 4 or types[0] != "f32" or types[3] != "f32":
        mods.unsupported()
    mods.words.clear()
    key = (shape, types[1])
    if types[1] != types[2] or key not in SHAPES:
        mods.unsupported()
    k, na, nb = SHAPES[key]
    vectors = [o.items if isinstance(o, Vec) else (o,) for o in ins.operands]
    if [len(v) for v in vectors] != [4, na, nb, 4]:
        raise PtxFault("type", f"fragments of {[len(v) for v in vectors]} registers")
    puts = [c.dst(o, "f32") for o in vectors[0]]
    get_a, get_b = [c.src(o, "b32") for o in vectors[1]], [c.src(o, "b32") for o in vectors[2]]
    get_c = [c.src(o, "f32") for o in vectors[3]]
    c.members = all_lanes

    def run(t):
        a = fragment_a([in_warp(t, g(t)) for g in get_a], k, types[1])
        b = fragment_b([in_warp(t, g(t)) for g in get_b], k, types[1])
        product = a @ b
        for i, (put, get) in enumerate(zip(puts, get_c, strict=True)):
            part = product[:, GROUP + 8 * (i >> 1), 2 * IN_GROUP + (i & 1)]
            put(t, (part + in_warp(t, get(t)).astype(F64)).astype(F32).ravel())

    return run


@op("activemask")
def activemask(c: Compiler, ins, mods):
    mods.unsupported()


__all__ = ["Imm", "mma", "shfl"]
