"""Floating-point arithmetic, comparison and conversion: f16, bf16, f16x2, bf16x2, f32, f64."""

from __future__ import annotations

import numpy as np

from . import numerics as nx
from .compiler import DTYPE, Compiler, Modifiers, op
from .faults import PtxFault
from .parse import Instruction

F16, F32, F64, U16, U32 = np.float16, np.float32, np.float64, np.uint16, np.uint32
FLOATS = ("f16", "f16x2", "bf16", "bf16x2", "f32", "f64")


def is_float(mods: Modifiers) -> bool:
    return any(w in FLOATS for w in mods.words)


def packed(f):
    """An operation on 16 bits, applied to both halves of 32."""

    def both(*xs):
        low = f(*((x & U32(0xFFFF)).astype(U16) for x in xs)).view(U16).astype(U32)
        high = f(*((x >> U32(16)).astype(U16) for x in xs)).view(U16).astype(U32)
        return low | (high << U32(16))

    return both


def on_f16_bits(f):
    return lambda *xs: f(*(x.view(F16) for x in xs)).view(U16)


def through_f64(f):
    """A bf16 operation: exact in f64 (or nearly: see numerics), rounded once."""
    return lambda *xs: nx.f64_to_bf16(f(*(nx.bf16_to_f32(x).astype(F64) for x in xs)))


def of_type(type_: str, f, bf16=None):
    """Lifts f on float arrays to any float type's register representation."""
    half = bf16 or through_f64(f)
    table = {
        "f16": f,
        "f16x2": packed(on_f16_bits(f)),
        "bf16": half,
        "bf16x2": packed(half),
    }
    return table.get(type_, f)


def emit(c: Compiler, ins: Instruction, mods: Modifiers, type_: str, f, ftz=False, sat=False):
    """d = f(sources), with subnormals flushed and the result clamped where the opcode says so."""
    sources = c.sources(ins.operands[1:], *[type_] * (len(ins.operands) - 1))
    if len(ins.operands) - 1 != f.arity:
        raise PtxFault("parse", f"`{ins.opcode}` with {len(ins.operands) - 1} sources")
    if (ftz or sat) and type_ != "f32":
        mods.unsupported()
    put = c.dst(ins.operands[0], type_)

    def run(t):
        xs = [s(t) for s in sources]
        if ftz:
            xs = [nx.flush(x) for x in xs]
        y = f(*xs)
        if sat:
            y = nx.saturate(y)
        put(t, nx.flush(y) if ftz else y)

    return run


def arity(n: int, f):
    def call(*xs):
        return f(*xs)

    call.arity = n
    return call


def exact_error(name: str, a, b):
    """The f64 result of an f32 operation with its error, for directed rounding."""
    a, b = a.astype(F64), b.astype(F64)
    if name == "mul":
        return a * b, F64(0)
    return nx.two_sum(a, b if name == "add" else -b)


NATIVE = {"add": np.add, "sub": np.subtract, "mul": np.multiply}


def float_add_sub_mul(c: Compiler, ins: Instruction, mods: Modifiers):
    name = mods.name
    mode = mods.one("rn", "rz", "rm", "rp", default="rn")
    ftz, sat = mods.flag("ftz"), mods.flag("sat")
    type_ = mods.type(*FLOATS)
    if mode == "rn":
        f = of_type(type_, NATIVE[name], through_bf16(name))
    elif type_ == "f32":
        f = lambda a, b: nx.round_f32(*exact_error(name, a, b), mode)
    else:
        mods.unsupported()
    return emit(c, ins, mods, type_, arity(2, f), ftz, sat)


def through_bf16(name: str):
    """add, sub and mul of bf16: mul is exact in f64, a sum has an error that the rounding sees."""

    def f(a, b):
        return nx.f64_to_bf16(*exact_error(name, nx.bf16_to_f32(a), nx.bf16_to_f32(b)))

    return f


@op("fma")
def fma(c, ins, mods):
    mode = mods.one("rn", "rz", "rm", "rp")
    ftz, sat = mods.flag("ftz"), mods.flag("sat")
    type_ = mods.type(*FLOATS)
    return emit(c, ins, mods, type_, arity(3, fma_of(type_, mode, mods)), ftz, sat)


def fma_of(type_: str, mode: str, mods: Modifiers):
    if type_ == "f32":
        return lambda a, b, x: nx.fma_f32(a, b, x, mode)
    if mode != "rn":
        mods.unsupported()
    if type_ == "f64":
        return nx.fma_f64
    return of_type(type_, nx.fma_f16, nx.fma_bf16)


@op("div")
def div(c, ins, mods):
    if not is_float(mods):
        from .ops_int import integer_div

        return integer_div(c, ins, mods)
    mode = mods.one("rn", "approx", "full")
    ftz = mods.flag("ftz")
    type_ = mods.type("f32", "f64")
    if type_ == "f64" and mode != "rn":
        mods.unsupported()
    return emit(c, ins, mods, type_, arity(2, np.divide), ftz)


def f32_of(f):
    """A function as its correctly rounded f32 value (up to f64's own error)."""
    return lambda x: f(x.astype(F64)).astype(F32) if x.dtype == F32 else f(x.astype(F64))


UNARY = {
    "rcp": lambda x: 1 / x,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sqrt": np.sqrt,
    "ex2": np.exp2,
    "lg2": np.log2,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
}
ROUNDED = ("rcp", "sqrt")  # those that exist with .rn


@op(*UNARY)
def special_function(c, ins, mods):
    name = mods.name
    mode = mods.one("approx", "rn") if name in ROUNDED else mods.one("approx")
    ftz = mods.flag("ftz")
    type_ = mods.type("f16", "bf16", "f16x2", "bf16x2", "f32", "f64")
    f = f32_of(UNARY[name])
    if type_ == "f64":
        if ftz != (mode == "approx") or (ftz and name not in ("rcp", "rsqrt")):
            mods.unsupported()
        f = nx.gross(UNARY[name]) if mode == "approx" else UNARY[name]
        ftz = False
    elif type_ != "f32":
        if name not in ("ex2", "tanh") or ftz != (name == "ex2" and type_.startswith("bf16")):
            mods.unsupported()
        ftz = False
        f = of_type(
            type_, lambda x: UNARY[name](x.astype(F64)).astype(F16), through_f64(UNARY[name])
        )
    return emit(c, ins, mods, type_, arity(1, f), ftz)


def float_min_max(c, ins, mods):
    f = nx.minimum if mods.name == "min" else nx.maximum
    ftz, nan = mods.flag("ftz"), mods.flag("NaN")
    type_ = mods.type(*FLOATS)
    pick = lambda a, b: f(a, b, nan)
    return emit(c, ins, mods, type_, arity(2, of_type(type_, pick)), ftz)


def float_abs_neg(c, ins, mods):
    """On the sign bit, so that NaN keeps its payload."""
    ftz = mods.flag("ftz")
    type_ = mods.type(*FLOATS)
    raw = DTYPE["b" + {"f32": "32", "f64": "64", "f16": "16", "bf16": "16"}.get(type_, "32")]
    sign = raw(0x80008000) if type_.endswith("x2") else raw(1 << 8 * np.dtype(raw).itemsize - 1)
    if mods.name == "abs":
        f = lambda x: (x.view(raw) & ~sign).view(x.dtype)
    else:
        f = lambda x: (x.view(raw) ^ sign).view(x.dtype)
    return emit(c, ins, mods, type_, arity(1, f), ftz)


@op("copysign")
def copysign(c, ins, mods):
    type_ = mods.type("f32", "f64")
    return emit(c, ins, mods, type_, arity(2, lambda a, b: np.copysign(b, a)))


@op("testp")
def testp(c, ins, mods):
    tests = {
        "finite": np.isfinite,
        "infinite": np.isinf,
        "number": lambda x: ~np.isnan(x),
        "notanumber": np.isnan,
        "normal": lambda x: np.isfinite(x) & (np.abs(x) >= np.finfo(x.dtype).tiny),
        "subnormal": lambda x: (x != 0) & (np.abs(x) < np.finfo(x.dtype).tiny),
    }
    test = tests[mods.one(*tests)]
    (a,) = c.sources(ins.operands[1:], mods.type("f32", "f64"))
    put = c.dst(ins.operands[0], "pred")
    return lambda t: put(t, test(a(t)))


# ---- comparison ---------------------------------------------------------------------------------

ORDERED = {
    "eq": np.equal,
    "ne": lambda a, b: (a != b) & ~(np.isnan(a) | np.isnan(b)),
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}


def or_unordered(f):
    return lambda a, b: f(a, b) | np.isnan(a) | np.isnan(b)


FLOAT_COMPARE = {
    **ORDERED,
    **{name + "u": or_unordered(f) for name, f in ORDERED.items()},
    "num": lambda a, b: ~(np.isnan(a) | np.isnan(b)),
    "nan": lambda a, b: np.isnan(a) | np.isnan(b),
}


def float_compare(c: Compiler, ins: Instruction, mods: Modifiers, name: str):
    """(type, function) of a float comparison; bf16 compares as f32."""
    f, ftz = FLOAT_COMPARE[name], mods.flag("ftz")
    type_ = mods.type("f16", "bf16", "f32", "f64")
    if type_ == "bf16":
        return type_, lambda a, b: f(nx.bf16_to_f32(a), nx.bf16_to_f32(b))
    if ftz:
        if type_ != "f32":
            mods.unsupported()
        return type_, lambda a, b: f(nx.flush(a), nx.flush(b))
    return type_, f


# ---- conversion ---------------------------------------------------------------------------------

INTEGRAL = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


def widen(type_: str):
    """Register representation of a float type to f64, which holds each of them exactly."""
    if type_ == "bf16":
        return lambda x: nx.bf16_to_f32(x).astype(F64)
    return lambda x: x.astype(F64)


def float_to_int(type_: str):
    """Clamps to the integer's range; NaN gives 0 (as .s32 and .u32 do; ISA, cvt)."""
    dtype = DTYPE[type_]
    info = np.iinfo(dtype)

    def f(x):
        inside = (x >= F64(info.min)) & (x < -F64(info.min) if info.min else x < F64(info.max) + 1)
        if info.bits == 64:
            inside = (x >= F64(info.min)) & (x < F64(2.0 ** (64 if info.min == 0 else 63)))
        clamped = np.where(x > 0, dtype(info.max), dtype(info.min))
        value = np.where(inside, x, 0).astype(dtype)
        return np.where(inside, value, np.where(np.isnan(x), dtype(0), clamped))

    return f


def narrow_f32(mode: str):
    return lambda x: nx.round_f32(x, F64(0) * x, mode)


def float_convert(c: Compiler, ins: Instruction, mods: Modifiers, to: str, of: str):
    """cvt where a float takes part: every source is exact in f64 but 64-bit integers."""
    mode = mods.one("rn", "rz", "rm", "rp", "rni", "rzi", "rmi", "rpi", "rna", default="none")
    ftz, sat = mods.flag("ftz"), mods.flag("sat")
    if to in ("f16x2", "bf16x2"):
        return convert_pair(c, ins, mods, to, mode)
    (a,) = c.sources(ins.operands[1:], of)
    put = c.dst(ins.operands[0], to, wider=True)
    f = conversion(mods, to, of, mode)

    def run(t):
        x = a(t)
        if ftz and of == "f32":
            x = nx.flush(x)
        y = f(x)
        if sat and to in ("f32", "f64", "f16"):
            y = nx.saturate(y)
        put(t, nx.flush(y) if ftz and to == "f32" else y)

    if sat and to in ("bf16", "tf32"):
        mods.unsupported()
    return run


def conversion(mods: Modifiers, to: str, of: str, mode: str):
    if to == "tf32":
        if mode != "rna" or of != "f32":
            mods.unsupported()
        return nx.round_tf32
    if of in ("f16", "bf16", "f32", "f64"):
        wide = widen(of)
        if to[0] in "su":
            if mode not in INTEGRAL:
                mods.unsupported()
            to_int = float_to_int(to)
            return lambda x: to_int(INTEGRAL[mode](wide(x)))
        if mode in INTEGRAL:
            if to != of or to == "bf16":
                mods.unsupported()
            return lambda x: INTEGRAL[mode](x)
        order = ("f16", "bf16", "f32", "f64")
        widening = of == to or (order.index(of) < 2 and to in ("f32", "f64")) or to == "f64"
        if widening != (mode == "none"):
            mods.unsupported()
        if of == to:
            return lambda x: x
        return narrowing(mods, to, mode, wide)
    if mode not in ("rn", "rz", "rm", "rp"):
        mods.unsupported()
    return from_int(mods, to, of, mode)


def narrowing(mods: Modifiers, to: str, mode: str, wide):
    if to == "f64":
        return wide
    if to == "f32":
        return lambda x: narrow_f32("rn" if mode == "none" else mode)(wide(x))
    if to == "f16" and mode == "rn":
        return lambda x: wide(x).astype(F16)
    if to == "bf16" and mode == "rn":
        return lambda x: nx.f64_to_bf16(wide(x))
    if to == "bf16" and mode == "rz":
        return lambda x: nx.f32_to_bf16(wide(x).astype(F32), "rz")
    mods.unsupported()


def from_int(mods: Modifiers, to: str, of: str, mode: str):
    if to == "f16" and mode == "rn":
        if of in ("s64", "u64"):
            mods.unsupported()
        return lambda x: x.astype(F64).astype(F16)
    if to == "bf16" and mode == "rn" and of not in ("s64", "u64"):
        return lambda x: nx.f64_to_bf16(x.astype(F64))
    if to == "f32" and of in ("s64", "u64"):
        if mode != "rn":
            mods.unsupported()
        return lambda x: x.astype(F32)
    if to == "f32":
        return lambda x: narrow_f32(mode)(x.astype(F64))
    if to == "f64" and (mode == "rn" or of not in ("s64", "u64")):
        return lambda x: x.astype(F64)
    mods.unsupported()


def convert_pair(c, ins, mods, to: str, mode: str):
    """cvt.rn.{b}f16x2.f32 d, a, b: a is the upper half."""
    if mode != "rn":
        mods.unsupported()
    a, b = c.sources(ins.operands[1:], "f32", "f32")
    put = c.dst(ins.operands[0], to)
    half = (lambda x: x.astype(F16).view(U16)) if to == "f16x2" else nx.f32_to_bf16

    def run(t):
        put(t, (half(a(t)).astype(U32) << U32(16)) | half(b(t)).astype(U32))

    return run
