"""Integer arithmetic, logic, selection, moves; and the opcodes that integers and floats share."""

from __future__ import annotations

import numpy as np

from . import ops_float as fl
from .compiler import DTYPE, RAW, Compiler, op
from .faults import PtxFault
from .parse import SINK, WIDTH, Imm, Pair, Vec

U8, U32, U64, I64 = np.uint8, np.uint32, np.uint64, np.int64
INTS = ("u16", "u32", "u64", "s16", "s32", "s64")
BITS = ("b16", "b32", "b64")


def unary_binary(c: Compiler, ins, type_: str, f, count: int, types=None):
    """d = f(sources), all of one type unless `types` names those of the sources."""
    sources = c.sources(ins.operands[1:], *(types or [type_] * count))
    put = c.dst(ins.operands[0], type_)
    return lambda t: put(t, f(*(s(t) for s in sources)))


def with_carry(c: Compiler, ins, type_: str, f, count: int, carry_in: bool, carry_out: bool):
    """Extended precision: `f(sources)` gives terms whose sum, with the carry, may carry out."""
    sources = c.sources(ins.operands[1:], *[type_] * count)
    put = c.dst(ins.operands[0], type_)
    dtype = RAW[WIDTH[type_]]

    def run(t):
        a, b = (x.view(dtype) for x in f(*(s(t) for s in sources)))
        total = a + b
        carry = total < a
        if carry_in:
            if t.carry is None:
                raise PtxFault("uninitialised", "the carry flag")
            more = total + t.carry.astype(dtype)
            carry, total = carry | (more < total), more
        if carry_out:
            old = np.zeros(1, bool) if t.carry is None else t.carry
            t.carry = carry if t.mask is None else np.where(t.mask, carry, old)
        put(t, total)

    return run


@op("addc", "madc")
def add_with_carry(c, ins, mods):
    return carrying(c, ins, mods, True)


def carrying(c, ins, mods, carry_in: bool):
    carry_out = mods.flag("cc")
    if not mods.name.startswith("mad"):
        type_ = mods.type("u32", "s32", "u64", "s64")
        return with_carry(c, ins, type_, lambda a, b: (a, b), 2, carry_in, carry_out)
    part = mods.one("lo", "hi")
    type_ = mods.type("u32", "s32", "u64", "s64")
    f = np.multiply if part == "lo" else multiply_high(type_)
    return with_carry(c, ins, type_, lambda a, b, x: (f(a, b), x), 3, carry_in, carry_out)


@op("add", "sub")
def add_sub(c, ins, mods):
    if fl.is_float(mods):
        return fl.float_add_sub_mul(c, ins, mods)
    if mods.name == "add" and "cc" in mods.words:
        return carrying(c, ins, mods, False)
    type_ = mods.type(*INTS)
    return unary_binary(c, ins, type_, np.add if mods.name == "add" else np.subtract, 2)


def multiply_high(type_: str):
    """The upper half of the product."""
    width = 8 * WIDTH[type_]
    if width < 64:
        wide = DTYPE[f"{type_[0]}{2 * width}"]
        return lambda a, b: ((a.astype(wide) * b.astype(wide)) >> wide(width)).astype(DTYPE[type_])

    def unsigned(a, b):
        mask, shift = U64(0xFFFFFFFF), U64(32)
        al, ah, bl, bh = a & mask, a >> shift, b & mask, b >> shift
        mid = ah * bl + ((al * bl) >> shift)
        low = al * bh + (mid & mask)
        return ah * bh + (mid >> shift) + (low >> shift)

    if type_ == "u64":
        return unsigned

    def signed(a, b):
        high = unsigned(a.view(U64), b.view(U64)).view(I64)
        return high - np.where(a < 0, b, 0) - np.where(b < 0, a, 0)

    return signed


def product(mods, type_: str):
    """(result type, function) of mul and mad by .lo, .hi or .wide."""
    part = mods.one("lo", "hi", "wide")
    if part == "lo":
        return type_, np.multiply
    if part == "hi":
        return type_, multiply_high(type_)
    if WIDTH[type_] == 8:
        mods.unsupported()
    wide = f"{type_[0]}{16 * WIDTH[type_]}"
    return wide, lambda a, b: a.astype(DTYPE[wide]) * b.astype(DTYPE[wide])


@op("mul")
def mul(c, ins, mods):
    if fl.is_float(mods):
        return fl.float_add_sub_mul(c, ins, mods)
    type_ = mods.type(*INTS)
    to, f = product(mods, type_)
    return unary_binary(c, ins, to, f, 2, [type_, type_])


@op("mad")
def mad(c, ins, mods):
    if fl.is_float(mods):
        return fl.fma(c, ins, mods)
    if "cc" in mods.words:
        return carrying(c, ins, mods, False)
    type_ = mods.type(*INTS)
    to, f = product(mods, type_)
    return unary_binary(c, ins, to, lambda a, b, x: f(a, b) + x, 3, [type_, type_, to])


def checked_division(c, ins, mods, f):
    type_ = mods.type(*INTS)
    a, b = c.sources(ins.operands[1:], type_, type_)
    put = c.dst(ins.operands[0], type_)

    def run(t):
        y = b(t)
        zero = y == 0
        if zero.any():
            if t.spread(zero).any():
                lane = int(t.active()[np.flatnonzero(t.spread(zero))[0]])
                raise t.fault("arithmetic", "integer division by zero", lane)
            y = np.where(zero, y.dtype.type(1), y)
        put(t, f(a(t), y))

    return run


def integer_div(c, ins, mods):
    """Towards zero, as in C."""
    return checked_division(c, ins, mods, lambda a, b: (a - np.fmod(a, b)) // b)


@op("rem")
def rem(c, ins, mods):
    return checked_division(c, ins, mods, np.fmod)


@op("min", "max")
def min_max(c, ins, mods):
    if fl.is_float(mods):
        return fl.float_min_max(c, ins, mods)
    type_ = mods.type(*INTS)
    return unary_binary(c, ins, type_, np.minimum if mods.name == "min" else np.maximum, 2)


@op("abs", "neg")
def abs_neg(c, ins, mods):
    if fl.is_float(mods):
        return fl.float_abs_neg(c, ins, mods)
    type_ = mods.type("s16", "s32", "s64")
    return unary_binary(c, ins, type_, np.abs if mods.name == "abs" else np.negative, 1)


LOGIC = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}


@op(*LOGIC)
def logic(c, ins, mods):
    return unary_binary(c, ins, mods.type("pred", *BITS), LOGIC[mods.name], 2)


@op("not")
def invert(c, ins, mods):
    return unary_binary(c, ins, mods.type("pred", *BITS), np.invert, 1)


@op("shl", "shr")
def shift(c, ins, mods):
    """An amount of the width or more shifts everything out (shr.s: leaves the sign)."""
    left = mods.name == "shl"
    type_ = mods.type(*BITS, *(() if left else INTS))
    width, dtype = 8 * WIDTH[type_], DTYPE[type_]
    signed = type_[0] == "s"

    def f(a, n):
        amount = np.minimum(n, U32(width - 1)).astype(dtype)
        y = a << amount if left else a >> amount
        return y if signed else np.where(n >= width, dtype(0), y)

    return unary_binary(c, ins, type_, f, 2, [type_, "u32"])


@op("shf")
def funnel(c, ins, mods):
    left = mods.one("l", "r") == "l"
    wrap = mods.one("wrap", "clamp") == "wrap"
    mods.type("b32")

    def f(a, b, n):
        n = (n & U32(31) if wrap else np.minimum(n, U32(32))).astype(U64)
        both = (b.astype(U64) << U64(32)) | a.astype(U64)
        return ((both << n) >> U64(32) if left else both >> n).astype(U32)

    return unary_binary(c, ins, "b32", f, 3, ["b32", "b32", "u32"])


@op("bfe")
def bit_field(c, ins, mods):
    type_ = mods.type("u32", "s32", "u64", "s64")
    width, dtype = 8 * WIDTH[type_], DTYPE[type_]

    def f(a, start, count):
        start, count = (start & U32(255)).astype(I64), (count & U32(255)).astype(I64)
        raw = a.view(RAW[width // 8]).astype(U64)
        shifted = np.where(start < width, raw >> np.minimum(start, 63).astype(U64), U64(0))
        mask = np.where(count < 64, (U64(1) << np.minimum(count, 63).astype(U64)) - U64(1), ~U64(0))
        field = shifted & mask
        if type_[0] == "s":
            top = np.minimum(start + count - 1, width - 1)
            negative = ((raw >> np.maximum(top, 0).astype(U64)) & U64(1)) != 0
            field = np.where(negative & (count > 0), field | ~mask, field)
            beyond = np.maximum(width - start, 0)  # bits past the end are the sign
            fill = ~((U64(1) << np.minimum(beyond, 63).astype(U64)) - U64(1))
            field = np.where(negative & (count > beyond), field | fill, field)
        return field.astype(RAW[width // 8]).view(dtype)

    return unary_binary(c, ins, type_, f, 3, [type_, "u32", "u32"])


@op("bfi")
def insert_field(c, ins, mods):
    type_ = mods.type("b32", "b64")
    width, dtype = 8 * WIDTH[type_], DTYPE[type_]

    def f(a, b, start, count):
        start, count = (start & U32(255)).astype(U64), (count & U32(255)).astype(U64)
        mask = np.where(count >= 64, ~U64(0), (U64(1) << np.minimum(count, U64(63))) - U64(1))
        mask = np.where(start >= width, U64(0), mask << np.minimum(start, U64(63)))
        value = np.where(start >= width, U64(0), a.astype(U64) << np.minimum(start, U64(63)))
        return ((b.astype(U64) & ~mask) | (value & mask)).astype(dtype)

    return unary_binary(c, ins, type_, f, 4, [type_, type_, "u32", "u32"])


@op("popc", "clz")
def count_bits(c, ins, mods):
    type_ = mods.type("b32", "b64")
    width = 8 * WIDTH[type_]
    if mods.name == "popc":
        f = lambda a: np.bitwise_count(a).astype(U32)
    else:

        def f(a):
            for s in (1, 2, 4, 8, 16, 32)[: 5 + (width == 64)]:
                a = a | (a >> a.dtype.type(s))
            return (width - np.bitwise_count(a)).astype(U32)

    return unary_binary(c, ins, "b32", f, 1, [type_])


@op("brev")
def reverse_bits(c, ins, mods):
    mods.type("b32")

    def f(a):
        for s, m in ((1, 0x55555555), (2, 0x33333333), (4, 0x0F0F0F0F), (8, 0x00FF00FF)):
            a = ((a >> U32(s)) & U32(m)) | ((a & U32(m)) << U32(s))
        return (a >> U32(16)) | (a << U32(16))

    return unary_binary(c, ins, "b32", f, 1)


@op("prmt")
def permute(c, ins, mods):
    """Each nibble of the selector picks a byte of {b, a}; its top bit spreads that byte's sign."""
    mods.type("b32")

    def f(a, b, selector):
        both = (b.astype(U64) << U64(32)) | a.astype(U64)
        result = U32(0)
        for i in range(4):
            nibble = (selector >> U32(4 * i)) & U32(15)
            byte = (both >> (U64(8) * (nibble & U32(7)).astype(U64))) & U64(255)
            sign = np.where(byte & U64(128), U64(255), U64(0))
            byte = np.where(nibble & U32(8), sign, byte)
            result = result | (byte.astype(U32) << U32(8 * i))
        return result

    return unary_binary(c, ins, "b32", f, 3)


@op("lop3")
def lop3(c, ins, mods):
    mods.type("b32")
    if len(ins.operands) != 5 or not isinstance(ins.operands[4], Imm):
        mods.unsupported()
    table = ins.operands[4].value

    def f(a, b, x):
        r = np.zeros(1, U32)
        for row in range(8):
            if table >> row & 1:
                r = r | ((a if row & 4 else ~a) & (b if row & 2 else ~b) & (x if row & 1 else ~x))
        return r

    sources = c.sources(ins.operands[1:4], "b32", "b32", "b32")
    put = c.dst(ins.operands[0], "b32")
    return lambda t: put(t, f(*(s(t) for s in sources)))


# ---- comparison and selection -------------------------------------------------------------------

INT_COMPARE = {
    **{"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal},
    **{"gt": np.greater, "ge": np.greater_equal},
    **{"lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal},
}


def comparison(c, ins, mods):
    """(operand type, function) of setp and set."""
    if fl.is_float(mods):
        return fl.float_compare(c, ins, mods, mods.one(*fl.FLOAT_COMPARE))
    name = mods.one(*INT_COMPARE)
    type_ = mods.type(*INTS, *BITS)
    if (type_[0] == "b" and name not in ("eq", "ne")) or (
        type_[0] == "s" and name in ("lo", "ls", "hi", "hs")
    ):
        mods.unsupported()
    return type_, INT_COMPARE[name]


@op("setp")
def setp(c, ins, mods):
    """p = a ⊕ b, or (a ⊕ b) combined with a third predicate; `p|q`: q gets the opposite of ⊕."""
    combine = mods.one(*LOGIC, default="none")
    type_, compare = comparison(c, ins, mods)
    d = ins.operands[0]
    d, e = (d.first, d.second) if isinstance(d, Pair) else (d, SINK)
    put, put_other = c.dst(d, "pred"), c.dst(e, "pred")
    types = [type_, type_] + (["pred"] if combine != "none" else [])
    a, b, *third = c.sources(ins.operands[1:], *types)

    def run(t):
        p = compare(a(t), b(t))
        q = ~p
        if third:
            x = third[0](t)
            p, q = LOGIC[combine](p, x), LOGIC[combine](q, x)
        put(t, p)
        put_other(t, q)

    return run


@op("selp")
def selp(c, ins, mods):
    type_ = mods.type(*INTS, *BITS, "f32", "f64")
    return unary_binary(c, ins, type_, lambda a, b, p: np.where(p, a, b), 3, [type_, type_, "pred"])


@op("slct")
def slct(c, ins, mods):
    type_ = mods.type(*INTS, *BITS, "f32", "f64")
    by = mods.type("s32", "f32")
    return unary_binary(
        c, ins, type_, lambda a, b, x: np.where(x >= 0, a, b), 3, [type_, type_, by]
    )


# ---- moves and conversions ----------------------------------------------------------------------


@op("mov")
def mov(c, ins, mods):
    type_ = mods.type("pred", *INTS, *BITS, "f32", "f64")
    d, a = ins.operands
    if isinstance(d, Vec):
        return unpack(c, type_, d, a)
    if isinstance(a, Vec):
        return pack_vector(c, type_, d, a)
    get, put = c.src(a, type_), c.dst(d, type_)
    return lambda t: put(t, get(t))


def part_type(type_: str, vector: Vec) -> str:
    width = WIDTH[type_] // len(vector.items)
    if width * len(vector.items) != WIDTH[type_] or width not in (2, 4):
        raise PtxFault("type", f".{type_} from {len(vector.items)} parts")
    return f"b{8 * width}"


def unpack(c, type_, d, a):
    part = part_type(type_, d)
    raw, step, get = RAW[WIDTH[type_]], 8 * WIDTH[part], c.src(a, f"b{8 * WIDTH[type_]}")
    puts = [c.dst(item, part) for item in d.items]

    def run(t):
        value = get(t)
        for i, put in enumerate(puts):
            put(t, (value >> raw(step * i)).astype(RAW[WIDTH[part]]))

    return run


def pack_vector(c, type_, d, a):
    part = part_type(type_, a)
    raw, step, put = RAW[WIDTH[type_]], 8 * WIDTH[part], c.dst(d, f"b{8 * WIDTH[type_]}")
    gets = [c.src(item, part) for item in a.items]

    def run(t):
        value = raw(0)
        for i, get in enumerate(gets):
            value = value | (get(t).astype(raw) << raw(step * i))
        put(t, value)

    return run


@op("cvt")
def cvt(c, ins, mods):
    kinds = (*INTS, "u8", "s8", "f16", "bf16", "f16x2", "bf16x2", "f32", "f64", "tf32")
    to, of = mods.type(*kinds), mods.type(*kinds)
    if to[0] not in "us" or of[0] not in "us":
        return fl.float_convert(c, ins, mods, to, of)
    sat = mods.flag("sat")
    get, put = c.src(ins.operands[1], of, wider=True), c.dst(ins.operands[0], to, wider=True)
    dtype, info = DTYPE[to], np.iinfo(DTYPE[to])
    if not sat:
        return lambda t: put(t, get(t).astype(dtype))
    if "u64" in (to, of):
        mods.unsupported()
    return lambda t: put(t, np.clip(get(t).astype(I64), info.min, info.max).astype(dtype))


@op("cvta")
def cvta(c, ins, mods):
    """Between a state space and generic addresses; global ones are the same."""
    from .memory import LOCAL_WINDOW, SHARED_WINDOW

    to = mods.flag("to")
    window = {
        "global": 0,
        "const": 0,
        "param": None,
        "shared": SHARED_WINDOW,
        "local": LOCAL_WINDOW,
    }
    base = window[mods.one(*window)]
    if base is None:
        mods.unsupported()
    mods.type("u64")
    f = (lambda a: a - U64(base)) if to else (lambda a: a + U64(base))
    return unary_binary(c, ins, "u64", f, 1)
