"""Floating-point arithmetic as the hardware defines it, on numpy arrays.

f32 fma is rounded once: the product of two f32 is exact in f64, and where the f64 sum lies midway
between two f32 its rounding error decides. `.approx` functions give the correctly rounded value.
f16 is numpy's; bf16 travels as its 16 bits.
"""

from __future__ import annotations

import numpy as np

F32, F64, U16, U32, U64 = np.float32, np.float64, np.uint16, np.uint32, np.uint64


def two_sum(a, b):
    """s + e == a + b exactly, s being the rounded sum (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def to_odd(s, e):
    """The f64 sum s with error e, rounded to odd: a later rounding sees what was cut off."""
    bits = np.atleast_1d(s).view(U64)
    e = np.broadcast_to(np.atleast_1d(e), bits.shape)
    move = (e != 0) & np.isfinite(e) & ((bits & U64(1)) == 0)
    up = (e > 0) == (np.atleast_1d(s) > 0)
    step = np.where(up, U64(1), U64(0xFFFFFFFFFFFFFFFF))
    return np.where(move, bits + step, bits).view(F64)


def round_f32(s, e, mode="rn"):
    """The exact value s + e as f32 in a rounding mode; e is the error of the f64 value s."""
    if mode == "rn":
        bits = s.view(U64)
        if not ((bits & U64(0x0FFFFFFF)) == 0).any():  # nowhere midway between two f32
            return s.astype(F32)
        return to_odd(s, e).astype(F32)
    r = s.astype(F32)
    over = (r.astype(F64) - s) > e
    under = (r.astype(F64) - s) < e
    if mode == "rm":
        return np.where(over, np.nextafter(r, F32(-np.inf)), r)
    if mode == "rp":
        return np.where(under, np.nextafter(r, F32(np.inf)), r)
    assert mode == "rz"
    negative = s < 0
    return np.where(np.where(negative, under, over), np.nextafter(r, F32(0)), r)


def fma_f32(a, b, c, mode="rn"):
    p = a.astype(F64) * b.astype(F64)
    s, e = two_sum(p, c.astype(F64))
    return round_f32(s, e, mode)


def split(a):
    """Veltkamp: the upper 26 bits of an f64, and the rest."""
    c = a * F64(134217729.0)
    high = c - (c - a)
    return high, a - high


def two_prod(a, b):
    p = a * b
    (ah, al), (bh, bl) = split(a), split(b)
    return p, ((ah * bh - p) + ah * bl + al * bh) + al * bl


def fma_f64(a, b, c):
    """Boldo and Melquiond's emulation; exact unless intermediates over- or underflow."""
    uh, ul = two_prod(a, b)
    th, tl = two_sum(c, ul)
    vh, vl = two_sum(uh, th)
    w, e = two_sum(tl, vl)
    exact = vh + to_odd(w, e)
    return np.where(np.isfinite(exact) & np.isfinite(uh), exact, a * b + c)


def bf16_to_f32(bits):
    return (bits.astype(U32) << U32(16)).view(F32)


def f32_to_bf16(x, mode="rn"):
    """Rounds to nearest even, or towards zero; a NaN becomes the canonical 0x7FFF."""
    bits = np.ascontiguousarray(x).view(U32)
    bias = U32(0x7FFF) + ((bits >> U32(16)) & U32(1)) if mode == "rn" else U32(0)
    return np.where(np.isnan(x), U32(0x7FFF), (bits + bias) >> U32(16)).astype(U16)


def f64_to_f32_odd(x, e=0.0):
    """f64 (and its error) to f32, rounded to odd, so that rounding on to bf16 rounds once."""
    x = to_odd(x, e)
    r = x.astype(F32)
    r = np.where(np.abs(r.astype(F64)) > np.abs(x), np.nextafter(r, F32(0)), r)  # towards zero
    inexact = (r.astype(F64) != x) & np.isfinite(x)
    return (r.view(U32) | inexact.astype(U32)).view(F32)


def f64_to_bf16(x, e=0.0):
    return f32_to_bf16(f64_to_f32_odd(x, e))


def fma_f16(a, b, c):
    s, e = two_sum(a.astype(F64) * b.astype(F64), c.astype(F64))
    return to_odd(s, e).astype(np.float16)


def fma_bf16(a, b, c):
    """On bits: a*b + c rounded once."""
    p = bf16_to_f32(a).astype(F64) * bf16_to_f32(b).astype(F64)
    return f64_to_bf16(*two_sum(p, bf16_to_f32(c).astype(F64)))


def flush(x):
    """`.ftz`: subnormal f32 become zero of the same sign."""
    tiny = np.abs(x) < F32(1.1754943508222875e-38)
    return np.where(tiny, np.copysign(F32(0), x), x)


def gross(f):
    """rcp and rsqrt.approx.ftz.f64: upper 32 bits of the result for those of x."""
    upper = U64(0xFFFFFFFF00000000)

    def cut(x):
        x = (np.ascontiguousarray(x).view(U64) & upper).view(F64)
        return np.where(np.abs(x) < F64(2.0**-1022), np.copysign(F64(0), x), x)

    return lambda x: cut(f(cut(x)))


def saturate(x):
    """`.sat`: to [0, 1], NaN to +0."""
    return np.where(np.isnan(x), x.dtype.type(0), np.clip(x, 0, 1) + x.dtype.type(0))


def minimum(a, b, nan=False):
    """PTX min: the number of a number and a NaN (`.NaN`: the NaN), and -0 < +0."""
    r = np.where(a < b, a, b)
    r = np.where((a == 0) & (b == 0) & np.signbit(a), a, r)
    return np.where(np.isnan(a), a if nan else b, np.where(np.isnan(b), b if nan else a, r))


def maximum(a, b, nan=False):
    return -minimum(-a, -b, nan)


def tf32(bits):
    """What a tensor core sees of an f32: the low 13 bits of the mantissa are not read."""
    return (bits & U32(0xFFFFE000)).view(F32)


def round_tf32(x):
    """`cvt.rna.tf32`: to nearest, ties away from zero."""
    bits = np.ascontiguousarray(x).view(U32)
    rounded = (bits + U32(0x1000)) & U32(0xFFFFE000)
    return np.where(np.isfinite(x), rounded, bits)
