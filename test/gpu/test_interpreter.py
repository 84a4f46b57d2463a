"""The PTX interpreter against numpy, and each of its checks on a kernel that deserves it."""

from __future__ import annotations

import math
from fractions import Fraction

import cases
import numpy as np
import pytest
from ptx import Memory, Program, PtxFault, numerics

F32 = np.float32
HEAD = ".version 8.0\n.target sm_90\n.address_size 64\n"


@pytest.mark.parametrize("order", ["forward", "backward", "together"])
@pytest.mark.parametrize("kernel", cases.ALL)
def test_kernels_match_numpy(kernel, order):
    case = cases.ALL[kernel]()
    got, stats = case.run(Program(cases.source(kernel)), order)
    assert case.agrees(got)
    assert stats.instructions.total() > 0


@pytest.mark.parametrize("lanes", [32, 96, 4096])
def test_the_number_of_lanes_at_a_time_changes_nothing(lanes):
    case = cases.matmul()
    got, stats = case.run(Program(cases.text()), lanes=lanes)
    _, same = case.run(Program(cases.text()), "together")
    assert case.agrees(got)
    assert (stats.loads, stats.stores, stats.shared) == (same.loads, same.stores, same.shared)
    assert stats.instructions == same.instructions


# ---- small kernels ------------------------------------------------------------------------------


def entry(body: str, registers: str = "", variables: str = "") -> str:
    """A kernel k(out, x) in which %rd1 is out, %rd2 is x, %r1 is tid.x and %rd3 is 4 tid.x."""
    return f"""{HEAD}
{variables}
.visible .entry k(.param .u64 out, .param .u64 x) {{
  .reg .pred %p<8>; .reg .b16 %h<16>; .reg .b32 %r<32>; .reg .f32 %f<32>;
  .reg .b64 %rd<32>; .reg .f64 %d<16>; {registers}
  ld.param.u64 %rd1, [out]; ld.param.u64 %rd2, [x];
  mov.u32 %r1, %tid.x; mul.wide.u32 %rd3, %r1, 4;
  {body}
  ret;
}}"""


def run(text: str, x=None, out=None, threads=32, grid=1, order="forward", **options):
    """Runs k; returns out (default: 4 bytes a thread) as u32."""
    memory = Memory()
    size = 4 * threads * grid if out is None else out
    base = memory.alloc(size, name="out")
    x = np.arange(threads, dtype=np.uint32) if x is None else x
    args = [base, memory.alloc(x, name="x")]
    stats = Program(text).launch("k", grid, threads, args, memory, order=order, **options)
    return memory.buffers[base].data[:size].view(np.uint32).copy(), stats


def value_of(instructions: str, x, result="%r9", dtype=np.uint32, registers=""):
    """x[tid] is in %r2 and %f2 (x[tid + n] in %r3, %f3 and so on up to %r5); result is stored."""
    x = np.ascontiguousarray(x)
    n = len(x[0]) if x.ndim == 2 else len(x)
    rows = x.reshape(-1, n).view(np.uint32)
    loads = "".join(
        f"ld.global.b32 %r{i + 2}, [%rd4+{4 * n * i}]; mov.b32 %f{i + 2}, %r{i + 2};\n"
        for i in range(len(rows))
    )
    body = f"""add.s64 %rd4, %rd2, %rd3; add.s64 %rd5, %rd1, %rd3; {loads} {instructions}
    st.global.b32 [%rd5], {result};"""
    got, _ = run(entry(body, registers), rows, threads=n)
    return got.view(dtype)


def fault(text: str, kind: str, match: str = ".", **options):
    with pytest.raises(PtxFault, match=match) as caught:
        run(text, **options)
    assert caught.value.kind == kind, caught.value
    return caught.value


# ---- arithmetic ---------------------------------------------------------------------------------


def nasty(n: int, seed: int) -> np.ndarray:
    """Random bits (all exponents, subnormals, NaN) and small integers and midpoints."""
    r = np.random.default_rng(seed)
    bits = r.integers(0, 1 << 32, n, dtype=np.uint32).view(F32)
    near = (1 + r.integers(-4, 5, n) * 2.0**-12).astype(F32)
    return np.where(r.random(n) < 0.4, near, bits)


def exact_fma(a, b, c) -> float:
    """Rounded once, by rational arithmetic: f64 holds neither the sum nor the tie."""
    if not all(map(math.isfinite, (a, b, c))):
        return float("nan")
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    if exact == 0 or abs(exact) > 3e38:
        return float("nan") if exact else 0.0
    low = F32(float(exact))  # within one f32 of the right one
    choices = [np.nextafter(low, F32(-np.inf)), low, np.nextafter(low, F32(np.inf))]
    choices = [v for v in choices if np.isfinite(v)]
    best = min(choices, key=lambda v: (abs(Fraction(float(v)) - exact), v.view(np.uint32) & 1))
    return float(best)


def test_f32_fma_rounds_once():
    n = 3000
    a, b, c = (nasty(n, s) for s in (1, 2, 3))
    with np.errstate(all="ignore"):
        tie = -(a.astype(float) * b.astype(float)).astype(F32)  # a*b + c cancels to the low bits
    c = np.where(np.arange(n) % 3 == 0, tie, c)
    with np.errstate(all="ignore"):
        got = numerics.fma_f32(a, b, c)
        limit = np.abs(a.astype(float) * b + c)
    ordinary = np.isfinite(a) & np.isfinite(b) & np.isfinite(c) & (limit < 2.9e38)
    want = np.array([exact_fma(*v) for v in zip(a, b, c, strict=True)], F32)
    assert ordinary.sum() > 1000
    np.testing.assert_array_equal(got[ordinary], want[ordinary])


def test_f32_fma_where_f64_would_round_twice():
    a = np.array([1 + 2.0**-12], F32)
    c = np.array([2.0**-60], F32)
    got = numerics.fma_f32(a, a, c)  # (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24: just a tie without c
    assert got[0] == F32(1 + 2.0**-11 + 2.0**-23)
    assert numerics.fma_f32(a, a, -c)[0] == F32(1 + 2.0**-11)


@pytest.mark.parametrize(("mode", "sign"), [("rm", -1), ("rp", 1), ("rz", 0)])
def test_directed_rounding(mode, sign):
    a, b, c = (np.random.default_rng(s).standard_normal(500).astype(F32) for s in (1, 2, 3))
    got = numerics.fma_f32(a, b, c, mode)
    for g, *v in zip(got, a, b, c, strict=True):
        exact = Fraction(float(v[0])) * Fraction(float(v[1])) + Fraction(float(v[2]))
        toward = F32(np.inf) * sign if sign else F32(0)
        error = exact - Fraction(float(g))
        if sign:
            assert error * sign <= 0
            inner = np.nextafter(g, -toward)
            assert (exact - Fraction(float(inner))) * sign > 0 or error == 0
        else:
            assert abs(Fraction(float(g))) <= abs(exact)
            assert abs(Fraction(float(np.nextafter(g, F32(np.inf) * np.sign(g) or F32(1))))) > abs(
                exact
            )


def test_f64_fma_is_exact():
    r = np.random.default_rng(0)
    a, b = r.standard_normal(500), r.standard_normal(500)
    c = -a * b + r.standard_normal(500) * 2.0 ** r.integers(-70, 1, 500)
    got = numerics.fma_f64(a, b, c)
    want = [float(Fraction(x) * Fraction(y) + Fraction(z)) for x, y, z in zip(a, b, c, strict=True)]
    np.testing.assert_array_equal(got, want)


def test_bf16_rounds_to_nearest_even():
    torch = pytest.importorskip("torch")
    x = np.concatenate(
        [nasty(5000, 5), np.arange(1 << 16, dtype=np.uint32).astype(np.uint32).view(F32)]
    )
    want = torch.from_numpy(x).to(torch.bfloat16)
    got = numerics.bf16_to_f32(numerics.f32_to_bf16(x))
    np.testing.assert_array_equal(got, want.to(torch.float32).numpy())
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(
            numerics.bf16_to_f32(numerics.f64_to_bf16(x.astype(float))), got
        )


FLOAT_CASES = {
    "add.rn.f32 %f9, %f2, %f3;": lambda a, b: a + b,
    "sub.f32 %f9, %f2, %f3;": lambda a, b: a - b,
    "mul.rn.f32 %f9, %f2, %f3;": lambda a, b: a * b,
    "div.rn.f32 %f9, %f2, %f3;": lambda a, b: a / b,
    "sqrt.rn.f32 %f9, %f2;": lambda a, b: np.sqrt(a),
    "rcp.rn.f32 %f9, %f2;": lambda a, b: F32(1) / a,
    "min.f32 %f9, %f2, %f3;": lambda a, b: np.fmin(a, b),
    "max.f32 %f9, %f2, %f3;": lambda a, b: np.fmax(a, b),
    "max.NaN.f32 %f9, %f2, %f3;": lambda a, b: np.maximum(a, b),
    "neg.f32 %f9, %f2;": lambda a, b: -a,
    "abs.f32 %f9, %f2;": lambda a, b: np.abs(a),
    "copysign.f32 %f9, %f2, %f3;": lambda a, b: np.copysign(b, a),
    "cvt.rzi.f32.f32 %f9, %f2;": lambda a, b: np.trunc(a),
    "cvt.rmi.f32.f32 %f9, %f2;": lambda a, b: np.floor(a),
    "cvt.rni.f32.f32 %f9, %f2;": lambda a, b: np.rint(a),
    "setp.ltu.f32 %p1, %f2, %f3; selp.f32 %f9, %f2, %f3, %p1;": lambda a, b: np.where(
        ~(a >= b), a, b
    ),
    "setp.gt.f32 %p1|%p2, %f2, %f3; selp.f32 %f9, %f2, %f3, %p2;": (
        lambda a, b: np.where(~(a > b), a, b)
    ),
    "ex2.approx.ftz.f32 %f9, 0f40400000;": lambda a, b: np.full_like(a, 8),
    "cvt.rn.f16.f32 %h1, %f2; cvt.f32.f16 %f9, %h1;": lambda a, b: a.astype(np.float16).astype(F32),
    "cvt.rn.f16x2.f32 %r9, %f2, %f3; mov.b32 {%h1, %h2}, %r9; cvt.f32.f16 %f9, %h2;": (
        lambda a, b: a.astype(np.float16).astype(F32)
    ),
    "cvt.f64.f32 %d1, %f2; cvt.f64.f32 %d2, %f3; fma.rn.f64 %d3, %d1, %d2, %d1;"
    "cvt.rn.f32.f64 %f9, %d3;": (
        lambda a, b: (a.astype(float) * b.astype(float) + a.astype(float)).astype(F32)
    ),
}


@pytest.mark.parametrize("code", FLOAT_CASES)
def test_float_instructions(code):
    a, b = nasty(900, 7), nasty(900, 8)
    got = value_of(code, np.stack([a, b]), "%f9", F32)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(got, FLOAT_CASES[code](a, b).astype(F32))


def trunc_div(a, b):
    return -(-a // b) if (a < 0) != (b < 0) and a % b else a // b


# a, b unsigned; s, t the same as signed. b is never 0 (below).
INT_CASES = {
    "add.s32 %r9, %r2, %r3;": lambda a, b, s, t: a + b,
    "sub.s32 %r9, %r2, %r3;": lambda a, b, s, t: a - b,
    "mul.lo.s32 %r9, %r2, %r3;": lambda a, b, s, t: a * b,
    "mul.hi.u32 %r9, %r2, %r3;": lambda a, b, s, t: (a * b) >> 32,
    "mul.hi.s32 %r9, %r2, %r3;": lambda a, b, s, t: (s * t) >> 32,
    "mad.lo.s32 %r9, %r2, %r3, %r2;": lambda a, b, s, t: a * b + a,
    "mul.wide.s32 %rd9, %r2, %r3; shr.u64 %rd10, %rd9, 16; cvt.u32.u64 %r9, %rd10;": (
        lambda a, b, s, t: (s * t) >> 16
    ),
    "mul.wide.u32 %rd9, %r2, %r3; mul.hi.s64 %rd10, %rd9, %rd9; cvt.u32.u64 %r9, %rd10;": (
        lambda a, b, s, t: (((a * b) ^ (1 << 63)) - (1 << 63)) ** 2 >> 64
    ),
    "div.u32 %r9, %r2, %r3;": lambda a, b, s, t: a // b,
    "div.s32 %r9, %r2, %r3;": lambda a, b, s, t: trunc_div(s, t),
    "rem.s32 %r9, %r2, %r3;": lambda a, b, s, t: s - t * trunc_div(s, t),
    "rem.u32 %r9, %r2, %r3;": lambda a, b, s, t: a % b,
    "min.s32 %r9, %r2, %r3;": lambda a, b, s, t: min(s, t),
    "max.u32 %r9, %r2, %r3;": lambda a, b, s, t: max(a, b),
    "abs.s32 %r9, %r2;": lambda a, b, s, t: abs(s),
    "and.b32 %r8, %r2, %r3; not.b32 %r9, %r8;": lambda a, b, s, t: ~(a & b),
    "xor.b32 %r8, %r2, %r3; or.b32 %r9, %r8, 5;": lambda a, b, s, t: (a ^ b) | 5,
    "and.b32 %r8, %r3, 63; shl.b32 %r9, %r2, %r8;": lambda a, b, s, t: a << (b & 63),
    "and.b32 %r8, %r3, 63; shr.u32 %r9, %r2, %r8;": lambda a, b, s, t: a >> (b & 63),
    "and.b32 %r8, %r3, 63; shr.s32 %r9, %r2, %r8;": lambda a, b, s, t: s >> (b & 63),
    "shf.l.wrap.b32 %r9, %r2, %r3, 9;": lambda a, b, s, t: ((b << 32 | a) << 9) >> 32,
    "shf.r.clamp.b32 %r9, %r2, %r3, 9;": lambda a, b, s, t: (b << 32 | a) >> 9,
    "bfe.u32 %r9, %r2, 5, 11;": lambda a, b, s, t: (a >> 5) & 2047,
    "bfe.s32 %r9, %r2, 5, 11;": lambda a, b, s, t: (((a >> 5) & 2047) ^ 1024) - 1024,
    "bfe.s32 %r9, %r2, 24, 11;": lambda a, b, s, t: s >> 24,
    "bfi.b32 %r9, %r2, %r3, 4, 8;": lambda a, b, s, t: (b & ~0xFF0) | ((a & 255) << 4),
    "prmt.b32 %r9, %r2, %r3, 0x5410;": lambda a, b, s, t: (a & 0xFFFF) | ((b & 0xFFFF) << 16),
    "prmt.b32 %r9, %r2, %r3, 0x7632;": lambda a, b, s, t: (a >> 16) | ((b >> 16) << 16),
    "popc.b32 %r9, %r2;": lambda a, b, s, t: a.bit_count(),
    "clz.b32 %r9, %r2;": lambda a, b, s, t: 32 - a.bit_length(),
    "brev.b32 %r9, %r2;": lambda a, b, s, t: int(f"{a:032b}"[::-1], 2),
    "lop3.b32 %r9, %r2, %r3, 12345, 0xE8;": (
        lambda a, b, s, t: (a & b) | (a & 12345) | (b & 12345)
    ),
    "add.cc.u32 %r8, %r2, %r3; addc.u32 %r9, 0, 0;": lambda a, b, s, t: (a + b) >> 32,
    "mad.lo.cc.u32 %r8, %r2, %r3, %r2; madc.hi.u32 %r9, %r2, %r3, %r3;": (
        lambda a, b, s, t: (a * b + (b << 32) + a) >> 32
    ),
    "cvt.s16.s32 %h1, %r2; cvt.s32.s16 %r9, %h1;": lambda a, b, s, t: ((a & 65535) ^ 32768) - 32768,
    "cvt.u16.u32 %h1, %r2; mul.wide.u16 %r9, %h1, 3;": lambda a, b, s, t: 3 * (a & 65535),
    "cvt.sat.u8.s32 %r9, %r2;": lambda a, b, s, t: min(max(s, 0), 255),
    "setp.lo.u32 %p1, %r2, %r3; selp.b32 %r9, %r2, %r3, %p1;": lambda a, b, s, t: min(a, b),
    "setp.gt.s32 %p1, %r2, 0; setp.gt.and.s32 %p2, %r3, 0, %p1; selp.u32 %r9, 1, 0, %p2;": (
        lambda a, b, s, t: int(s > 0 and t > 0)
    ),
    "setp.gt.s32 %p1, %r2, 0; @!%p1 mov.u32 %r2, %r3; mov.u32 %r9, %r2;": (
        lambda a, b, s, t: a if s > 0 else b
    ),
    "slct.s32.s32 %r9, %r2, %r3, %r3;": lambda a, b, s, t: a if t >= 0 else b,
    "mov.b64 %rd9, {%r2, %r3}; mov.b64 {%r8, %r9}, %rd9;": lambda a, b, s, t: b,
}


@pytest.mark.parametrize("code", INT_CASES)
def test_integer_instructions(code):
    r = np.random.default_rng(3)
    x = r.integers(0, 1 << 32, (2, 400), dtype=np.uint32)
    x[:, :40] &= 7
    x[1] |= 1
    expected = []
    for a, b in x.T.tolist():
        signed = [(v ^ (1 << 31)) - (1 << 31) for v in (a, b)]
        expected.append(INT_CASES[code](a, b, *signed) & 0xFFFFFFFF)
    np.testing.assert_array_equal(value_of(code, x), np.array(expected, np.uint32))


def test_float_to_integer_clamps():
    x = np.array([1.5, -1.5, 3e9, -3e9, np.nan, np.inf, 2147483520, -0.0], F32)
    got = value_of("cvt.rzi.s32.f32 %r9, %f2;", x, dtype=np.int32)
    top = 2**31 - 1
    assert got.tolist() == [1, -1, top, -top - 1, 0, top, 2147483520, 0]
    got = value_of("cvt.rni.u32.f32 %r9, %f2;", x)
    assert got.tolist() == [2, 0, 3000000000, 0, 0, 2**32 - 1, 2147483520, 0]


def test_gross_f64_reciprocal_has_an_upper_half_only():
    x = np.array([3.0, -0.7, np.inf, 0.0, 1e-310])
    with np.errstate(all="ignore"):
        got = numerics.gross(lambda v: 1 / v)(x)
    assert not (got.view(np.uint64) & np.uint64(0xFFFFFFFF)).any()
    np.testing.assert_allclose(got[:2], 1 / x[:2], rtol=2**-19)
    assert got[2:].tolist() == [0, np.inf, np.inf]


def test_packed_half_precision():
    a, b = (np.random.default_rng(s).standard_normal(64).astype(np.float16) for s in (1, 2))
    x = np.stack([a.view(np.uint32), b.view(np.uint32)])
    got = value_of("fma.rn.f16x2 %r9, %r2, %r3, %r2;", x).view(np.float16)
    exact = a.astype(float) * b.astype(float) + a.astype(float)
    np.testing.assert_array_equal(got, exact.astype(np.float16))


# ---- warps --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "source"),
    [
        ("shfl.sync.bfly.b32 %r9, %r2, 5, 31, -1;", lambda i: i ^ 5),
        ("shfl.sync.down.b32 %r9, %r2, 3, 31, -1;", lambda i: i + 3 if i + 3 < 32 else i),
        ("shfl.sync.up.b32 %r9, %r2, 3, 0, -1;", lambda i: i - 3 if i >= 3 else i),
        ("shfl.sync.idx.b32 %r9, %r2, 7, 31, -1;", lambda i: 7),
        ("shfl.sync.idx.b32 %r9, %r2, 2, 6175, -1;", lambda i: i // 8 * 8 + 2),
        ("shfl.sync.down.b32 %r9, %r2, 2, 6175, -1;", lambda i: i + 2 if i % 8 < 6 else i),
    ],
)
def test_shuffles(code, source):
    x = np.random.default_rng(0).integers(0, 1 << 32, 64, dtype=np.uint32)
    got = value_of(code, x)
    want = [x[i // 32 * 32 + source(i % 32)] for i in range(64)]
    np.testing.assert_array_equal(got, want)


def test_vote():
    x = np.arange(64, dtype=np.uint32)
    got = value_of("setp.lt.u32 %p1, %r2, 40; vote.sync.ballot.b32 %r9, %p1, -1;", x)
    assert got.tolist() == [0xFFFFFFFF] * 32 + [0xFF] * 32


def test_lanes_reconverge_before_a_shuffle():
    """The even lanes go round a loop, the odd ones wait for them at the shuffle."""
    code = """and.b32 %r6, %r1, 1; setp.eq.u32 %p1, %r6, 1; mov.u32 %r7, 0; @%p1 bra DONE;
    LOOP: add.u32 %r7, %r7, 1; setp.lt.u32 %p2, %r7, %r1; @%p2 bra LOOP;
    DONE: shfl.sync.bfly.b32 %r9, %r7, 1, 31, -1;"""
    got = value_of(code, np.zeros(32, np.uint32))
    want = [0 if i % 2 == 0 else max(1, i - 1) for i in range(32)]
    assert got.tolist() == want


def test_a_shuffle_that_not_all_reach():
    code = "setp.lt.u32 %p1, %r1, 4; @%p1 ret; shfl.sync.bfly.b32 %r9, %r1, 1, 31, -1;"
    fault(entry(code), "deadlock", "waits for lanes")


def test_a_shuffle_from_outside_its_mask():
    code = """setp.ge.u32 %p1, %r1, 16; @%p1 ret;
    shfl.sync.bfly.b32 %r9, %r1, 16, 31, 0xFFFF;"""
    fault(entry(code), "uninitialised", "inactive lane")


# ---- memory checks ------------------------------------------------------------------------------

STORE = "add.s64 %rd5, %rd1, %rd3; st.global.b32 [%rd5], %r1;"


def test_out_of_bounds_names_the_buffer_and_the_thread():
    error = fault(entry("add.s64 %rd5, %rd1, %rd3; st.global.b32 [%rd5+4], %r1;"), "bounds")
    assert "offset 128 of out, which has 128 bytes" in str(error)
    assert "block 0, thread 31" in str(error)
    assert error.line > 5


def test_an_address_in_no_buffer():
    fault(entry("mov.u64 %rd5, 64; st.global.b32 [%rd5], %r1;"), "bounds", "0x40")


def test_misaligned_vectors():
    body = "st.global.v2.b32 [%rd1+4], {%r1, %r1};"
    fault(entry(body), "alignment", threads=1, out=16)


def test_uninitialised_register():
    fault(entry("add.u32 %r3, %r2, 1;"), "uninitialised", "register %r2")


def test_register_that_one_path_leaves_uninitialised():
    body = "setp.lt.u32 %p1, %r1, 31; @%p1 mov.u32 %r2, 1; add.u32 %r3, %r2, 1;"
    error = fault(entry(body), "uninitialised", "register %r2")
    assert "thread 31" in str(error)
    run(entry(body.replace("31", "32")))


def test_uninitialised_global_and_shared_memory():
    fault(entry("ld.global.b32 %r2, [%rd1];"), "uninitialised", "out")
    shared = ".shared .align 4 .b8 s[128];"
    body = "mov.u32 %r4, s; ld.shared.b32 %r2, [%r4];"
    fault(entry(body, variables=shared), "uninitialised", "shared memory")


@pytest.mark.parametrize(
    ("space", "access"),
    [
        ("shared", "mov.u32 %r4, s; st.shared.v4.b32 [%r4], {%r1, %r1, %r1, %r1};"),
        ("global", "mov.u64 %rd4, s; ld.global.v4.b32 {%r5, %r6, %r7, %r8}, [%rd4];"),
    ],
)
def test_variables_are_aligned_no_better_than_they_say(space, access):
    def text(alignment):
        body = f"setp.eq.u32 %p1, %r1, 0; @!%p1 bra L; {access} L: add.s64 %rd5, %rd1, %rd3;"
        variables = f".{space} .align {alignment} .b8 s[64];"
        return entry(body + "st.global.b32 [%rd5], %r1;", variables=variables)

    run(text(16))
    for alignment in (4, 8):
        fault(text(alignment), "alignment", "16 bytes")


def test_what_fills_a_gap_of_a_wide_load_may_be_anything_and_what_is_read_may_not():
    """LLVM's loads of 3 elements are of 4; of halves too."""
    shared = ".shared .align 16 .b8 s[16];"
    fill = "mov.u32 %r4, s; setp.eq.u32 %p1, %r1, 0; @!%p1 bra L;"
    fill += "st.shared.b32 [%r4], %r1; st.shared.b16 [%r4+4], 1; L: bar.sync 0;"
    fill += "add.s64 %rd5, %rd1, %rd3; ld.shared.v4.b32 {{%r5, %r6, %r7, %r8}}, [%r4];"
    body = fill + "mov.b32 {{%h1, %h2}}, %r6; cvt.u32.u16 %r9, {}; add.u32 %r9, %r9, {};"
    body += "st.global.b32 [%rd5], %r9;"
    run(entry(body.format("%h1", "%r5"), variables=shared))
    for half, word in (("%h2", "%r5"), ("%h1", "%r6"), ("%h1", "%r7"), ("%h1", "%r8")):
        fault(entry(body.format(half, word), variables=shared), "uninitialised", "shared memory")
    outside = fill.format().replace("[%r4];", "[%r4+16];") + "st.global.b32 [%rd5], %r5;"
    fault(entry(outside, variables=shared), "bounds", "shared")


def test_shared_variables_do_not_run_into_each_other():
    shared = ".shared .align 4 .b8 s[64]; .shared .align 4 .b8 s2[64];"
    body = "mov.u32 %r4, s; mov.u32 %r5, s2; cvt.u32.u64 %r6, %rd3; add.u32 %r7, %r4, %r6;"
    fault(entry(body + "st.shared.b32 [%r7], %r1;", variables=shared), "bounds", "shared")


def test_parameters_have_their_size():
    fault(entry("ld.param.u64 %rd4, [x+4];"), "bounds", "of x")
    fault(entry("ld.param.u32 %r4, [x];"), "type", "8 bytes")


@pytest.mark.parametrize("order", ["forward", "backward", "together"])
def test_races_in_shared_memory(order):
    shared = ".shared .align 4 .b8 s[512];"
    prologue = "mov.u32 %r4, s; shl.b32 %r5, %r1, 2; add.u32 %r6, %r4, %r5; xor.b32 %r7, %r5, {};"
    body = prologue + "add.u32 %r8, %r4, %r7; st.shared.b32 [%r6], 0; bar.sync 0;"
    body += "st.shared.b32 [%r6], %r1; {}"
    body += "ld.shared.b32 %r9, [%r8]; add.s64 %rd5, %rd1, %rd3; st.global.b32 [%rd5], %r9;"
    options = {"threads": 128, "order": order}

    def kernel(distance, barrier):
        return entry(body.format(distance, barrier), variables=shared)

    got, _ = run(kernel(128, "bar.sync 0;"), **options)
    assert got.tolist() == [i ^ 32 for i in range(128)]
    got, _ = run(kernel(4, "bar.warp.sync -1;"), **options)
    assert got.tolist() == [i ^ 1 for i in range(128)]
    fault(kernel(128, ""), "race", "between warps", **options)
    fault(kernel(4, ""), "race", "within a warp", **options)
    fault(kernel(128, "bar.warp.sync -1;"), "race", "between warps", **options)


def test_several_lanes_write_one_place():
    shared = ".shared .align 4 .b8 s[4];"
    body = "mov.u32 %r4, s; st.shared.b32 [%r4], %r1;"
    fault(entry(body, variables=shared), "race", "within a warp")
    fault(entry("st.global.b32 [%rd1], %r1;"), "race", "within a warp")
    body = "setp.ne.u32 %p1, %r1, 0; @%p1 ret; st.global.b32 [%rd1], %r1;"
    fault(entry(body), "race", "between blocks", grid=2)


def test_blocks_that_read_what_another_writes():
    body = "mov.u32 %r2, %ctaid.x; mul.wide.u32 %rd5, %r2, 4; add.s64 %rd6, %rd2, %rd5;"
    body += "ld.global.b32 %r3, [%rd6]; xor.b32 %r4, %r2, 1; mul.wide.u32 %rd7, %r4, 4;"
    body += "add.s64 %rd8, %rd2, %rd7; st.global.b32 [%rd8], %r3;"
    for order in ("forward", "backward", "together"):
        fault(
            entry(body),
            "race",
            "between blocks",
            threads=1,
            grid=2,
            order=order,
            x=np.zeros(2, F32),
        )


def test_nc_loads_of_what_the_kernel_writes():
    body = "add.s64 %rd5, %rd2, %rd3; ld.global.nc.b32 %r2, [%rd5]; st.global.b32 [%rd5], %r2;"
    fault(entry(body), "race", "ld.global.nc")
    run(entry(body.replace(".nc", "")))


def test_divergent_barriers():
    body = "setp.lt.u32 %p1, %r1, 40; {} bar.sync 0;"
    fault(
        entry(body.format("@%p1 ret;")),
        "divergence",
        "40 threads have exited|24 threads",
        threads=64,
    )
    fault(entry(body.format("@%p1")), "divergence", "wait at line|have exited", threads=64)
    both = "@%p1 bra A; bar.sync 0; bra.uni B; A: bar.sync 0; B:"
    fault(entry(body.format(both).replace("B: bar", "B: bar")), "divergence", threads=64)


def test_an_endless_loop_ends():
    fault(entry("L: bra.uni L;"), "timeout", max_steps=1000)


def test_integer_division_by_zero():
    fault(entry("div.u32 %r2, %r1, %r1;"), "arithmetic", "by zero")


# ---- what is not known --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("frobnicate.b32 %r2, %r1;", "unsupported"),
        ("add.rn.ftz.sat.zz.f32 %f2, %f2, %f2;", "unsupported"),
        ("ld.global.v3.b32 %r2, [%rd1];", "unsupported"),
        ("ld.acquire.gpu.global.b32 %r2, [%rd1];", "unsupported"),
        ("mma.sync.aligned.m16n8k16.row.row.f32.f16.f16.f32 %f1, %f2, %f3, %f4;", "unsupported"),
        ("mov.u32 %r2, %clock;", "unsupported"),
        ("add.f32 %f2, %d1, %f1;", "type"),
        ("add.u32 %r2, %r1, %rd1;", "type"),
        ("add.f32 %f2, %f1, 1;", "type"),
        ("add.u32 %r2, %r1, %p1;", "type"),
        ("mov.b32 {%h1, %h2}, %rd1;", "type"),
        ("st.global.b64 [%rd1], %r1;", "type"),
        ("bra NOWHERE;", "parse"),
        ("mov.u64 %rd4, nothing;", "parse"),
        ("add.u32 %r2, %r1 %r1;", "parse"),
        ("add.u32 %q, %r1, %r1;", "parse"),
    ],
)
def test_what_is_not_known_is_an_error(code, kind):
    fault(entry(code), kind)


def test_an_unresolved_function_is_an_error():
    with pytest.raises(PtxFault, match="__nv_expf"):
        Program(
            HEAD + ".extern .func (.param .b32 r) __nv_expf (.param .b32 x) ;\n" + entry("")[50:]
        )


@pytest.mark.parametrize(
    ("grid", "block", "message"),
    [
        ((0,), (32,), "grid"),
        ((1, 65536), (32,), "grid"),
        ((1,), (1025,), "block"),
        ((1,), (32, 32, 2), "1024"),
        ((1,), (1, 1, 65), "block"),
    ],
)
def test_launch_limits(grid, block, message):
    with pytest.raises(PtxFault, match=message) as caught:
        Program(entry("")).launch("k", grid, block, [0, 0], Memory())
    assert caught.value.kind == "launch"


def test_launch_arguments():
    program = Program(entry(""))
    for args in ([0], [0, 0, 0], b"1234567"):
        with pytest.raises(PtxFault, match=r"argument|parameter"):
            program.launch("k", 1, 1, args, Memory())
    with pytest.raises(PtxFault, match="no kernel"):
        program.launch("j", 1, 1, [0, 0], Memory())
    with pytest.raises(PtxFault, match="shared"):
        program.launch("k", 1, 1, [0, 0], Memory(), dynamic_shared=49 << 10)


# ---- counts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stride", "sectors"), [(4, 4), (8, 8), (32, 32), (64, 32), (0, 1), (12, 12)]
)
def test_sectors_of_a_strided_load(stride, sectors):
    body = f"mul.wide.u32 %rd5, %r1, {stride}; add.s64 %rd6, %rd2, %rd5; ld.global.b32 %r2, [%rd6];"
    _, stats = run(entry(body), np.zeros(1024, np.uint32))
    assert (stats.loads.requests, stats.loads.sectors, stats.loads.bytes) == (1, sectors, 128)
    assert stats.unique_sectors["ld"] == sectors
    assert stats.unique_bytes["ld"] == (128 if stride else 4)


def test_vector_loads_touch_each_sector_once():
    body = "shl.b64 %rd5, %rd3, 2; add.s64 %rd6, %rd2, %rd5;"
    body += "ld.global.v4.b32 {%r2, %r3, %r4, %r5}, [%rd6];"
    _, stats = run(entry(body), np.zeros(256, np.uint32), threads=64)
    assert (stats.loads.requests, stats.loads.sectors) == (2, 32)


@pytest.mark.parametrize(
    ("stride", "waves"), [(4, 1), (8, 2), (128, 32), (132, 1), (0, 1), (64, 16)]
)
def test_bank_conflicts(stride, waves):
    """Reads at a stride, after every word was written at stride 4 (one wave for 32 words)."""
    shared = ".shared .align 4 .b8 s[8192];"
    fill = "mov.u32 %r4, s; shl.b32 %r5, %r1, 2; add.u32 %r6, %r4, %r5; mov.u32 %r7, 0;"
    fill += "L: st.shared.b32 [%r6], %r1; add.u32 %r6, %r6, 128; add.u32 %r7, %r7, 1;"
    fill += "setp.lt.u32 %p1, %r7, 64; @%p1 bra L; bar.sync 0;"
    body = fill + f"mul.lo.u32 %r8, %r1, {stride}; add.u32 %r9, %r4, %r8; ld.shared.b32 %r2, [%r9];"
    _, stats = run(entry(body, variables=shared))
    assert stats.shared.sectors == 64 + waves
    assert stats.bank_conflicts == waves - 1


def test_instruction_counts_are_per_warp():
    _, stats = run(entry("fma.rn.f32 %f2, 0f3F800000, 0f3F800000, 0f3F800000;"), threads=96, grid=2)
    assert stats.instructions["fma"] == 6


def test_cp_async_arrives_when_waited_for():
    shared = ".shared .align 16 .b8 s[512];"
    body = "shl.b32 %r4, %r1, 4; mov.u32 %r5, s; add.u32 %r6, %r5, %r4; cvt.u64.u32 %rd5, %r4;"
    body += "add.s64 %rd6, %rd2, %rd5; cp.async.cg.shared.global [%r6], [%rd6], 16;"
    body += "cp.async.commit_group; {} bar.sync 0; shl.b32 %r7, %r1, 2; add.u32 %r8, %r5, %r7;"
    body += "ld.shared.b32 %r9, [%r8]; add.s64 %rd7, %rd1, %rd3; st.global.b32 [%rd7], %r9;"
    x = np.arange(128, dtype=np.uint32)
    got, _ = run(entry(body.format("cp.async.wait_group 0;"), variables=shared), x)
    assert got.tolist() == list(range(32))
    for wait in ("", "cp.async.wait_group 1;"):
        fault(entry(body.format(wait), variables=shared), "uninitialised", x=x)


def test_atomics():
    body = "cvt.rn.f32.u32 %f2, %r1; red.global.add.f32 [%rd2], %f2;"
    body += "atom.global.add.u32 %r2, [%rd2+4], 2;"
    memory = Memory()
    x = memory.alloc(np.array([1, 0], F32))
    Program(entry(body)).launch("k", 3, 64, [x, x], memory)
    assert memory.read(x, F32, 1)[0] == 1 + 3 * 2016
    assert memory.read(x, np.uint32, 2)[1] == 3 * 64 * 2


def test_local_memory_and_tables():
    variables = ".global .align 4 .b32 t[4] = {10, 20, 30, 0x28};"
    body = """.local .align 8 .b8 depot[16]; mov.b64 %rd5, depot; cvta.local.u64 %rd6, %rd5;
    st.u32 [%rd6+8], %r1; and.b32 %r2, %r1, 3; mul.wide.u32 %rd7, %r2, 4; mov.b64 %rd8, t;
    add.s64 %rd9, %rd8, %rd7; ld.global.b32 %r3, [%rd9]; ld.local.u32 %r4, [%rd5+8];
    add.u32 %r5, %r3, %r4; add.s64 %rd10, %rd1, %rd3; st.global.b32 [%rd10], %r5;"""
    got, _ = run(entry(body, variables=variables))
    assert got.tolist() == [i + 10 * (i % 4 + 1) for i in range(32)]
    fault(
        entry(
            body.replace("ld.local.u32 %r4, [%rd5+8]", "ld.local.u32 %r4, [%rd5+4]"),
            variables=variables,
        ),
        "uninitialised",
    )
