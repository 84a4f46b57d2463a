"""mma.sync in the interpreter against numpy: where every element of a fragment lies, by the
formulas of the PTX ISA ("Matrix Fragments for mma"), and that other forms are refused."""

from __future__ import annotations

import numpy as np
import pytest
from ptx import Memory, Program, PtxFault
from ptx.numerics import bf16_to_f32, f32_to_bf16, round_tf32

LANE = np.arange(32)
GROUP, MEMBER = LANE >> 2, LANE & 3  # the ISA's groupID and threadID_in_group

# Of each shape: how deep it is, and (row, column) of element i of A, and of B, in each lane.
SHAPES = {
    ("m16n8k16", "f16"): (
        16,
        lambda i: (GROUP + (8 if i & 2 else 0), 2 * MEMBER + (i & 1) + (8 if i >= 4 else 0)),
        lambda i: (2 * MEMBER + (i & 1) + (8 if i >= 2 else 0), GROUP),
    ),
    ("m16n8k8", "f16"): (
        8,
        lambda i: (GROUP + (8 if i >= 2 else 0), 2 * MEMBER + (i & 1)),
        lambda i: (2 * MEMBER + i, GROUP),
    ),
    ("m16n8k8", "tf32"): (
        8,
        lambda i: (GROUP + (8 if i & 1 else 0), MEMBER + (4 if i >= 2 else 0)),
        lambda i: (MEMBER + 4 * i, GROUP),
    ),
    ("m16n8k4", "tf32"): (
        4,
        lambda i: (GROUP + 8 * i, MEMBER),
        lambda i: (MEMBER, GROUP),
    ),
}
for shape in ("m16n8k16", "m16n8k8"):
    SHAPES[shape, "bf16"] = SHAPES[shape, "f16"]


def bits(x: np.ndarray, type_: str) -> np.ndarray:
    if type_ == "f16":
        return x.astype(np.float16).view(np.uint16)
    return f32_to_bf16(x) if type_ == "bf16" else round_tf32(x)


def value(raw: np.ndarray, type_: str) -> np.ndarray:
    if type_ == "f16":
        return raw.view(np.float16).astype(np.float64)
    return (bf16_to_f32(raw) if type_ == "bf16" else raw.view(np.float32)).astype(np.float64)


def registers(matrix: np.ndarray, place, count: int, type_: str) -> np.ndarray:
    """A matrix as the registers of 32 lanes, [register, lane]."""
    elements = np.stack([matrix[place(i)] for i in range(count)])
    if type_ == "tf32":
        return elements
    return (elements[1::2].astype(np.uint32) << np.uint32(16)) | elements[::2]


def kernel(instruction: str, na: int, nb: int) -> str:
    """k(out, x): registers of A, B and C lie one after the other in x, 32 lanes each."""
    total = na + nb + 4
    loads = "".join(f"ld.global.b32 %r{i + 1}, [%rd3+{128 * i}];\n" for i in range(total))
    names = [f"%r{i + 1}" for i in range(na + nb)]
    c = "".join(f"mov.b32 %f{i}, %r{na + nb + 1 + i};\n" for i in range(4))
    stores = "".join(f"st.global.f32 [%rd4+{128 * i}], %f{4 + i};\n" for i in range(4))
    a, b = ", ".join(names[:na]), ", ".join(names[na:])
    return f""".version 8.0
.target sm_90
.address_size 64
.visible .entry k(.param .u64 out, .param .u64 x) {{
  .reg .b32 %r<16>; .reg .f32 %f<8>; .reg .b64 %rd<8>;
  ld.param.u64 %rd1, [out]; ld.param.u64 %rd2, [x];
  mov.u32 %r0, %tid.x; mul.wide.u32 %rd5, %r0, 4;
  add.s64 %rd3, %rd2, %rd5; add.s64 %rd4, %rd1, %rd5;
  {loads} {c}
  {instruction} {{%f4, %f5, %f6, %f7}}, {{{a}}}, {{{b}}}, {{%f0, %f1, %f2, %f3}};
  {stores} ret;
}}"""


def run(text: str, x: np.ndarray) -> np.ndarray:
    memory = Memory()
    out = memory.alloc(4 * 4 * 32, name="out")
    Program(text).launch("k", 1, 32, [out, memory.alloc(x, name="x")], memory)
    return memory.read(out, np.float32, (4, 32))


@pytest.mark.parametrize(("shape", "type_"), SHAPES, ids="-".join)
def test_fragments_lie_where_the_isa_says(shape, type_):
    depth, place_a, place_b = SHAPES[shape, type_]
    rng = np.random.default_rng(depth)
    a, b = (
        bits(rng.standard_normal(s).astype(np.float32), type_) for s in [(16, depth), (depth, 8)]
    )
    c = rng.standard_normal((16, 8)).astype(np.float32)
    in_a, in_b = 16 * depth // 32, depth * 8 // 32  # elements of a lane
    fragments = [registers(a, place_a, in_a, type_), registers(b, place_b, in_b, type_)]
    at = [(GROUP + (8 if i >= 2 else 0), 2 * MEMBER + (i & 1)) for i in range(4)]
    x = np.concatenate([*fragments, np.stack([c[p] for p in at]).view(np.uint32)])
    instruction = f"mma.sync.aligned.{shape}.row.col.f32.{type_}.{type_}.f32"
    got = run(kernel(instruction, *map(len, fragments)), x)
    d = np.full((16, 8), np.nan, np.float32)
    for i, p in enumerate(at):
        d[p] = got[i]
    np.testing.assert_allclose(d, value(a, type_) @ value(b, type_) + c, rtol=3e-7, atol=1e-7)


def test_tensor_cores_do_not_read_the_low_bits_of_tf32():
    ones = np.ones((10, 32), np.float32)
    ones[:6] = np.float32(1 + 2**-12)  # rounds to 1 in 10 bits
    ones[6:] = 0
    instruction = "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"
    assert (run(kernel(instruction, 4, 2), ones.view(np.uint32)) == 8).all()


def test_the_sum_is_accumulated_in_f32():
    """2049 does not fit f16, and 8 times 2^-24 would be lost beside 1 one by one."""
    x = np.zeros((10, 32), np.uint32)
    x[:4] = np.uint32(0x3C003C00)  # 1 and 1 of f16
    x[4:6] = np.uint32(0x3C003C00)
    x[6:] = np.float32(2049).view(np.uint32)
    instruction = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
    assert (run(kernel(instruction, 4, 2), x) == 2065).all()


@pytest.mark.parametrize(
    ("instruction", "registers_of_a", "kind"),
    [
        ("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16", 4, "unsupported"),
        ("mma.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32", 4, "unsupported"),
        ("mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32", 4, "unsupported"),
        ("mma.sync.aligned.m16n8k16.col.col.f32.f16.f16.f32", 4, "unsupported"),
        ("mma.sync.aligned.m16n8k16.row.col.f32.f16.bf16.f32", 4, "unsupported"),
        ("mma.sync.aligned.m16n8k16.row.col.f32.tf32.tf32.f32", 4, "unsupported"),
        ("mma.sync.aligned.m16n8k16.row.col.satfinite.f32.f16.f16.f32", 4, "unsupported"),
        ("mma.sync.m16n8k16.row.col.f32.f16.f16.f32", 4, "unsupported"),
        ("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", 2, "type"),
        ("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32", 4, "type"),
    ],
)
def test_other_forms_are_refused(instruction, registers_of_a, kind):
    with pytest.raises(PtxFault) as caught:
        Program(kernel(instruction, registers_of_a, 2))
    assert caught.value.kind == kind


def test_a_part_of_a_warp_may_not_multiply():
    text = kernel("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", 4, 2)
    memory = Memory()
    args = [memory.alloc(512, name="out"), memory.alloc(np.zeros(320, np.uint32), name="x")]
    with pytest.raises(PtxFault, match="fewer than 32") as caught:
        Program(text).launch("k", 1, 16, args, memory)
    assert caught.value.kind == "divergence"
