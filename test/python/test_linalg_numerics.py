"""What --convert-pfcn-to-linalg makes of each op computes what torch computes.

Every case is one function of one module, which is lowered by upstream passes (plain loops, libm)
and compiled once; each function then runs on seeded inputs with odd sizes, NaN, Inf and signed
zeros.
A size such as `5?` is 5 at run time and dynamic in the compiler.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from kernel_cases import DTYPES

ROOT = Path(__file__).resolve().parents[2]
PFCN_OPT = ROOT / "build" / "bin" / "pfcn-opt"
SEED = 20240


LOWER_TO_LLVM = [
    "--convert-pfcn-to-linalg=everywhere=true",
    "--one-shot-bufferize=bufferize-function-boundaries"
    " function-boundary-type-conversion=identity-layout-map",
    "--convert-linalg-to-loops",
    "--convert-scf-to-cf",
    "--expand-strided-metadata",
    "--lower-affine",
    "--arith-expand=include-bf16=true",
    "--convert-math-to-llvm",
    "--convert-math-to-libm",
    "--finalize-memref-to-llvm",
    "--convert-arith-to-llvm",
    "--convert-index-to-llvm",
    "--convert-cf-to-llvm",
    "--convert-func-to-llvm",
    "--reconcile-unrealized-casts",
]


def mlir_type(spec: str) -> str:
    *sizes, element = spec.split("x")
    return "x".join(["?" if size.endswith("?") else size for size in sizes] + [element])


@dataclass
class Case:
    """An op as text; `{0}` is the type of operand `%0`, and `{r}` that of the result."""

    name: str
    op: str
    inputs: list[str]
    result: str
    reference: Callable
    special: bool = False
    tolerance: float | None = None

    def function(self) -> str:
        types = [f"tensor<{mlir_type(spec)}>" for spec in self.inputs]
        result = f"tensor<{mlir_type(self.result)}>"
        arguments = ", ".join(f"%a{i}: {t}" for i, t in enumerate(types))
        body = self.op.replace("%", "%a").replace("%aconst", "%const").format(*types, r=result)
        lines = body.split("\n")
        lines[-1] = "%r = " + lines[-1]
        return (
            f"func.func @{self.name}({arguments}) -> {result} "
            "attributes {llvm.emit_c_interface} {\n  "
            + "\n  ".join(lines)
            + f"\n  return %r : {result}\n}}\n"
        )

    def arguments(self) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(SEED)
        tensors = []
        for i, spec in enumerate(self.inputs):
            *sizes, element = spec.split("x")
            shape = [int(size.rstrip("?")) for size in sizes]
            dtype = DTYPES[element]
            if dtype == torch.bool:
                tensors.append(torch.rand(shape, generator=generator) > 0.5)
            elif not dtype.is_floating_point:
                tensors.append(torch.randint(-9, 10, shape, generator=generator).to(dtype))
            else:
                tensor = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
                tensors.append(self.with_specials(tensor, 3 * i) if self.special else tensor)
        return tensors

    @staticmethod
    def with_specials(tensor: torch.Tensor, shift: int) -> torch.Tensor:
        """Operands differ in `shift`, so that NaN and Inf meet numbers too."""
        inf = float("inf")
        values = [float("nan"), inf, -inf, 0.0, -0.0, 1.0, -1.0, 30.0, -30.0, 1e-6]
        values = values[shift:] + values[:shift]
        flat = tensor.flatten()
        count = min(len(values), flat.numel())
        flat[:count] = torch.tensor(values[:count], dtype=tensor.dtype)
        return flat.reshape(tensor.shape)

    def expected(self, arguments: list[torch.Tensor]) -> torch.Tensor:
        """Of 16-bit floats: what f32 gives, rounded once."""
        narrow = (torch.float16, torch.bfloat16)
        wide = [a.float() if a.dtype in narrow else a for a in arguments]
        result = self.reference(*wide)
        dtype = DTYPES[self.result.split("x")[-1]]
        return result.to(dtype) if dtype in narrow else result


CASES: list[Case] = []
FLOATS = ("f32", "f64", "f16", "bf16")


def add(name, op, inputs, result, reference, *, dtypes=FLOATS, special=False, tolerance=None):
    """One case per element type, which stands for `@`."""
    for dtype in dtypes:

        def typed(spec, dtype=dtype):
            return spec.replace("@", dtype)

        CASES.append(
            Case(
                f"{name}_{dtype}",
                op.replace("@", dtype),
                [typed(spec) for spec in inputs],
                typed(result),
                reference,
                special,
                tolerance,
            )
        )


def unary(name, reference, attributes="", case=None, dtypes=FLOATS):
    for suffix, shape in (("", "3x7x@"), ("_dynamic", "3?x7x@"), ("_scalar", "@")):
        op = f"pfcn.{name} %0 " + attributes.replace("{", "{{").replace("}", "}}") + " : {0}"
        add((case or name) + suffix, op, [shape], shape, reference, dtypes=dtypes, special=True)


def binary(name, reference, dtypes=FLOATS, special=True, **shapes):
    pairs = {
        "same": ("3x5x@", "3x5x@", "3x5x@"),
        "row": ("3x5x@", "5x@", "3x5x@"),
        "column": ("3x1x@", "3x5x@", "3x5x@"),
        "cross": ("3x1x5x@", "1x4x1x@", "3x4x5x@"),
        "unit": ("1x5x@", "1x5x@", "1x5x@"),
        "units": ("1x@", "1x1x@", "1x1x@"),
        "scalar": ("3x5x@", "@", "3x5x@"),
        "dynamic": ("3?x5x@", "1x5x@", "3?x5x@"),
        "dynamic_static": ("3?x5?x@", "3x1x@", "3x5?x@"),
        "dynamic_rank": ("5?x@", "2?x5?x@", "2?x5?x@"),
    }
    for suffix, (lhs, rhs, result) in (shapes or pairs).items():
        op = f"pfcn.{name} %0, %1 : {{0}}, {{1}} -> {{r}}"
        add(
            f"{name.replace(' ', '_')}_{suffix}",
            op,
            [lhs, rhs],
            result,
            reference,
            dtypes=dtypes,
            special=special,
        )


# ---- pointwise ----------------------------------------------------------------------------------

INTEGERS = ("i8", "i32", "i64")
unary("neg", torch.neg, dtypes=FLOATS + INTEGERS)
unary("abs", torch.abs, dtypes=FLOATS + INTEGERS)
unary("sign", torch.sign, dtypes=FLOATS + INTEGERS + ("i1",))
unary("relu", torch.relu, dtypes=FLOATS + INTEGERS)
unary("exp", torch.exp)
unary("expm1", torch.expm1)
unary("log", torch.log)
unary("log1p", torch.log1p)
unary("sqrt", torch.sqrt)
unary("rsqrt", torch.rsqrt)
unary("reciprocal", torch.reciprocal)
unary("tanh", torch.tanh)
unary("sigmoid", torch.sigmoid)
unary("silu", F.silu)
unary("mish", F.mish)
unary("erf", torch.erf)
unary("sin", torch.sin)
unary("cos", torch.cos)
unary("floor", torch.floor, dtypes=FLOATS + INTEGERS)
unary("ceil", torch.ceil, dtypes=FLOATS + INTEGERS)
unary("tan", torch.tan)
unary("asin", torch.asin)
unary("acos", torch.acos)
unary("atan", torch.atan)
unary("sinh", torch.sinh)
unary("cosh", torch.cosh)
unary("asinh", torch.asinh)
unary("acosh", torch.acosh)
unary("atanh", torch.atanh)
unary("exp2", torch.exp2)
unary("log2", torch.log2)
unary("log10", torch.log10)
unary("erfc", torch.erfc)
unary("trunc", torch.trunc, dtypes=FLOATS + INTEGERS)
unary("round", torch.round, dtypes=FLOATS + INTEGERS)
unary("hardswish", F.hardswish)
unary("hardsigmoid", F.hardsigmoid)
unary("log_sigmoid", F.logsigmoid)
unary("leaky_relu", lambda x: F.leaky_relu(x, 0.1), "{negative_slope = 0.1 : f64}")
unary(
    "leaky_relu",
    lambda x: F.leaky_relu(x, -2.0),
    "{negative_slope = -2.0 : f64}",
    case="leaky_relu_steep",
)
unary("elu", lambda x: F.elu(x, 1.5), "{alpha = 1.5 : f64}")
unary(
    "elu",
    F.selu,
    "{alpha = 1.6732632423543772 : f64, scale = 1.0507009873554805 : f64}",
    case="selu",
)
unary(
    "elu",
    lambda x: F.celu(x, 0.5),
    "{alpha = 0.5 : f64, input_scale = 2.0 : f64}",
    case="celu",
)
unary("softplus", F.softplus)
unary(
    "softplus",
    lambda x: F.softplus(x, 3.0, 1.0),
    "{beta = 3.0 : f64, threshold = 1.0 : f64}",
    case="softplus_beta",
)
# In f32, torch's vectorized erf makes gelu(inf) NaN; in f64 it is inf.
unary("gelu", lambda x: F.gelu(x.double()).to(x.dtype))
unary(
    "gelu", lambda x: F.gelu(x, approximate="tanh"), "{tanh_approximation = true}", case="gelu_tanh"
)
unary("clamp", lambda x: torch.clamp(x, -0.5, 0.25), "{min = -0.5 : f64, max = 0.25 : f64}")
unary("clamp", lambda x: torch.clamp(x, min=0.5), "{min = 0.5 : f64}", case="clamp_min")
unary("clamp", lambda x: torch.clamp(x, max=0.5), "{max = 0.5 : f64}", case="clamp_max")
unary(
    "clamp",
    lambda x: torch.clamp(x, 1.0, -1.0),
    "{min = 1.0 : f64, max = -1.0 : f64}",
    case="clamp_crossed",
)

binary("add", torch.add, dtypes=FLOATS + INTEGERS + ("i1",))
binary("sub", torch.sub, dtypes=FLOATS + INTEGERS)
binary("mul", torch.mul, dtypes=FLOATS + INTEGERS + ("i1",))
binary("div", torch.div)
binary("pow", torch.pow)
binary("maximum", torch.maximum, dtypes=FLOATS + INTEGERS + ("i1",))
binary("minimum", torch.minimum, dtypes=FLOATS + INTEGERS + ("i1",))

binary("atan2", torch.atan2)
binary("fmod", torch.fmod)
binary("remainder", torch.remainder)
binary("copysign", torch.copysign)
for logic in ("bitwise_and", "bitwise_or", "bitwise_xor"):
    binary(logic, getattr(torch, logic), dtypes=INTEGERS + ("i1",))

for predicate in ("eq", "ne", "lt", "le", "gt", "ge"):
    reference = getattr(torch, predicate)
    for suffix, shapes in {
        "same": ("3x5x@", "3x5x@", "3x5xi1"),
        "column": ("3?x1x@", "3?x5x@", "3?x5xi1"),
    }.items():
        add(
            f"compare_{predicate}_{suffix}",
            f"pfcn.compare {predicate} %0, %1 : {{0}}, {{1}} -> {{r}}",
            list(shapes[:2]),
            shapes[2],
            reference,
            dtypes=FLOATS + INTEGERS + ("i1",),
            special=True,
        )

for suffix, shapes in {
    "same": ("3x5xi1", "3x5x@", "3x5x@", "3x5x@"),
    "broadcast": ("3x1xi1", "5x@", "2x1x1x@", "2x3x5x@"),
    "dynamic": ("3?x1xi1", "5x@", "@", "3?x5x@"),
}.items():
    add(
        f"where_{suffix}",
        "pfcn.where %0, %1, %2 : {0}, {1}, {2} -> {r}",
        list(shapes[:3]),
        shapes[3],
        torch.where,
        dtypes=FLOATS + INTEGERS + ("i1",),
        special=True,
    )


def scalar_operand(name, op, reference, dtypes=FLOATS):
    """`%const` is a rank-0 constant, which goes into the payload."""
    add(name, op, ["3?x7x@"], "3?x7x@", reference, dtypes=dtypes, special=True)


def with_constant(value: str, op: str) -> str:
    return f"%const = pfcn.constant dense<{value}> : tensor<@>\npfcn.{op}"


for exponent in (0.0, 1.0, 2.0, 3.0, 0.5, -0.5, -1.0, -2.0, 2.5, -3.0):
    scalar_operand(
        f"pow_constant_{str(exponent).replace('.', '_').replace('-', 'm')}",
        with_constant(f"{exponent:.6f}", "pow %0, %const : {0}, tensor<@> -> {r}"),
        lambda x, e=exponent: torch.pow(x, e),
    )
scalar_operand(
    "pow_base",
    with_constant("2.0", "pow %const, %0 : tensor<@>, {0} -> {r}"),
    lambda x: torch.pow(2.0, x),
)
scalar_operand(
    "add_constant",
    with_constant("2.0", "add %0, %const : {0}, tensor<@> -> {r}"),
    lambda x: x + 2.0,
)
scalar_operand(
    "rsub_constant",
    with_constant("2.0", "sub %const, %0 : tensor<@>, {0} -> {r}"),
    lambda x: 2.0 - x,
)
scalar_operand(
    "mul_integer_constant",
    with_constant("3", "mul %0, %const : {0}, tensor<@> -> {r}"),
    lambda x: x * 3,
    dtypes=INTEGERS,
)
add(
    "add_dense_constant",
    "%const = pfcn.constant dense<[1.0, 2.0, 3.0]> : tensor<3x@>\n"
    "pfcn.add %0, %const : {0}, tensor<3x@> -> {r}",
    ["2x3x@"],
    "2x3x@",
    lambda x: x + torch.tensor([1.0, 2.0, 3.0], dtype=x.dtype),
)
add(
    "add_constants",
    "%const = pfcn.constant dense<1.5> : tensor<@>\n"
    "pfcn.add %const, %const : tensor<@>, tensor<@> -> {r}",
    ["2x3x@"],
    "@",
    lambda x: torch.tensor(3.0, dtype=x.dtype),
)

for source in DTYPES:
    for target in DTYPES:
        if source == target:
            continue
        # 16-bit sources are not widened here: the reference sees what the op sees.
        CASES.append(
            Case(
                f"cast_{source}_{target}",
                "pfcn.cast %0 : {0} to {r}",
                [f"3?x7x{source}"],
                f"3?x7x{target}",
                lambda x, dtype=DTYPES[target]: x.to(dtype),
                special=DTYPES[target].is_floating_point or target == "i1",
            )
        )

# ---- contractions -------------------------------------------------------------------------------


def contraction(name, op, inputs, result, reference):
    add(name, op, inputs, result, reference)


LINEAR = "pfcn.linear %0, %1, %2 : {0}, {1}, {2} -> {r}"
contraction("linear", LINEAR, ["3x7x@", "5x7x@", "5x@"], "3x5x@", F.linear)
contraction("linear_vector", LINEAR, ["7x@", "5x7x@", "5x@"], "5x@", F.linear)
contraction("linear_rank4", LINEAR, ["2x1x3?x7x@", "5x7x@", "5x@"], "2x1x3?x5x@", F.linear)
contraction("linear_unit", LINEAR, ["1x7x@", "1x7x@", "1x@"], "1x1x@", F.linear)
contraction("linear_long", LINEAR, ["2x900x@", "3x900x@", "3x@"], "2x3x@", F.linear)
contraction(
    "linear_no_bias",
    "pfcn.linear %0, %1 : {0}, {1} -> {r}",
    ["3?x7x@", "5x7x@"],
    "3?x5x@",
    F.linear,
)
contraction(
    "linear_dynamic_depth",
    "pfcn.linear %0, %1 : {0}, {1} -> {r}",
    ["3x7?x@", "5x7?x@"],
    "3x5x@",
    F.linear,
)

MATMUL = "pfcn.matmul %0, %1 : {0}, {1} -> {r}"
contraction("matmul", MATMUL, ["3x7x@", "7x5x@"], "3x5x@", torch.matmul)
contraction("matmul_broadcast", MATMUL, ["2x1x3x7x@", "4x7x5x@"], "2x4x3x5x@", torch.matmul)
contraction("matmul_shared_rhs", MATMUL, ["2x3?x7x@", "7x5x@"], "2x3?x5x@", torch.matmul)
contraction("matmul_dynamic", MATMUL, ["2?x3?x7?x@", "2?x7?x5?x@"], "2?x3?x5?x@", torch.matmul)
contraction("matmul_units", MATMUL, ["1x1x1x@", "1x1x1x@"], "1x1x1x@", torch.matmul)

BATCH_MATMUL = "pfcn.batch_matmul %0, %1 : {0}, {1} -> {r}"
BATCH_MATMUL_T = "pfcn.batch_matmul %0, %1 {{transpose_rhs}} : {0}, {1} -> {r}"


def matmul_t(x, w):
    return x @ w.transpose(-1, -2)


contraction("batch_matmul", BATCH_MATMUL, ["9x3x7x@", "9x7x5x@"], "9x3x5x@", torch.matmul)
contraction("batch_matmul_t", BATCH_MATMUL_T, ["9x3?x7x@", "9x5x7x@"], "9x3?x5x@", matmul_t)
contraction("batch_matmul_t_shared_lhs", BATCH_MATMUL_T, ["3x7x@", "9x5x7x@"], "9x3x5x@", matmul_t)
contraction("batch_matmul_t_shared_rhs", BATCH_MATMUL_T, ["9x3x7x@", "5x7x@"], "9x3x5x@", matmul_t)
contraction("batch_matmul_t_one", BATCH_MATMUL_T, ["1x3x7x@", "9x5x7x@"], "9x3x5x@", matmul_t)
contraction(
    "batch_matmul_t_rank4", BATCH_MATMUL_T, ["9x2x3x7x@", "9x1x5x7x@"], "9x2x3x5x@", matmul_t
)

for alpha, beta in ((1.0, 1.0), (0.5, 1.0), (1.0, -2.0), (1.0, 0.0), (3.0, 0.0)):
    attributes = f"{{{{alpha = {alpha} : f64, beta = {beta} : f64}}}}"
    label = f"{alpha}_{beta}".replace(".", "_").replace("-", "m")
    add(
        f"addmm_{label}",
        f"pfcn.addmm %0, %1, %2 {attributes} : {{0}}, {{1}}, {{2}} -> {{r}}",
        ["5x@", "3?x7x@", "7x5x@"],
        "3?x5x@",
        lambda i, a, b, al=alpha, be=beta: torch.addmm(i, a, b, alpha=al, beta=be),
    )
    add(
        f"baddbmm_{label}",
        f"pfcn.addmm %0, %1, %2 {attributes} : {{0}}, {{1}}, {{2}} -> {{r}}",
        ["2x1x5x@", "2x3x7x@", "2x7x5x@"],
        "2x3x5x@",
        lambda i, a, b, al=alpha, be=beta: torch.baddbmm(i, a, b, alpha=al, beta=be),
    )

# ---- reductions ---------------------------------------------------------------------------------


def reductions(name, reference, dtypes=FLOATS, special=False):
    for suffix, shape, dims, keepdim, result in (
        ("last", "3x5x7x@", [2], False, "3x5x@"),
        ("first", "3x5x7x@", [0], False, "5x7x@"),
        ("middle", "3x5x7x@", [1], True, "3x1x7x@"),
        ("outer", "3x5x7x@", [2, 0], False, "5x@"),
        ("outer_keep", "3x5x7x@", [2, 0], True, "1x5x1x@"),
        ("all", "3x5x@", [0, 1], False, "@"),
        ("all_keep", "3x5x@", [0, 1], True, "1x1x@"),
        ("unit", "3x1x@", [1], False, "3x@"),
        ("dynamic", "3?x5?x7x@", [1], False, "3?x7x@"),
        ("dynamic_keep", "3?x5?x7x@", [1, 2], True, "3?x1x1x@"),
        ("long", "2x3000x@", [1], False, "2x@"),
    ):
        keep = f"{{{{keepdim = {str(keepdim).lower()}}}}}"
        add(
            f"{name}_{suffix}",
            f"pfcn.{name} %0 dims {dims} {keep} : {{0}} -> {{r}}",
            [shape],
            result,
            lambda x, d=dims, k=keepdim: reference(x, d, k),
            dtypes=dtypes,
            special=special,
        )


def same_type(reduction):
    return lambda x, dims, keepdim: reduction(x, dims, keepdim).to(x.dtype)


def product(x, dims, keepdim):
    for dim in sorted(dims, reverse=True):
        x = x.prod(dim, keepdim=keepdim, dtype=x.dtype)
    return x


reductions("sum", same_type(lambda x, d, k: x.sum(d, keepdim=k)), dtypes=FLOATS + INTEGERS)
reductions("mean", lambda x, d, k: x.mean(d, keepdim=k))
reductions(
    "amax", lambda x, d, k: x.amax(d, keepdim=k), dtypes=FLOATS + INTEGERS + ("i1",), special=True
)
reductions(
    "amin", lambda x, d, k: x.amin(d, keepdim=k), dtypes=FLOATS + INTEGERS + ("i1",), special=True
)
reductions("prod", product, dtypes=FLOATS + INTEGERS)

for name, reference in (("softmax", torch.softmax), ("log_softmax", torch.log_softmax)):
    for suffix, shape, dim in (
        ("last", "3x7x@", 1),
        ("first", "3x7x@", 0),
        ("middle", "2?x5x3x@", 1),
        ("dynamic", "2x5?x@", 1),
        ("unit", "3x1x@", 1),
    ):
        op = f"pfcn.{name} %0 dim {dim} : {{0}}"
        add(f"{name}_{suffix}", op, [shape], shape, lambda x, f=reference, d=dim: f(x, d))
        add(
            f"{name}_{suffix}_special",
            op,
            [shape],
            shape,
            lambda x, f=reference, d=dim: f(x, d),
            special=True,
        )
    # Without the maximum subtracted, these overflow.
    add(
        f"{name}_large",
        f"%const = pfcn.constant dense<1000.0> : tensor<@>\n"
        f"%1 = pfcn.add %0, %const : {{0}}, tensor<@> -> {{0}}\npfcn.{name} %1 dim 1 : {{0}}",
        ["3x7x@"],
        "3x7x@",
        lambda x, f=reference: f(x + 1000.0, 1),
        dtypes=("f32", "f64"),
    )

NORM = "{{normalized_rank = %d : i64, eps = 1.0e-5 : f64}} : {r}"
add(
    "layer_norm_plain",
    "pfcn.layer_norm %0 " + NORM.replace("%d", "1"),
    ["3x7x@"],
    "3x7x@",
    lambda x: F.layer_norm(x, x.shape[1:]),
)
add(
    "layer_norm_affine",
    "pfcn.layer_norm %0 weight %1 : {1} bias %2 : {2} " + NORM.replace("%d", "1"),
    ["3?x7x@", "7x@", "7x@"],
    "3?x7x@",
    lambda x, w, b: F.layer_norm(x, x.shape[1:], w, b),
)
add(
    "layer_norm_bias",
    "pfcn.layer_norm %0 bias %1 : {1} " + NORM.replace("%d", "1"),
    ["3x7x@", "7x@"],
    "3x7x@",
    lambda x, b: F.layer_norm(x, x.shape[1:], None, b),
)
add(
    "layer_norm_two",
    "pfcn.layer_norm %0 weight %1 : {1} bias %2 : {2} " + NORM.replace("%d", "2"),
    ["2x3x7x@", "3x7x@", "3x7x@"],
    "2x3x7x@",
    lambda x, w, b: F.layer_norm(x, x.shape[1:], w, b),
)
add(
    "layer_norm_dynamic",
    "pfcn.layer_norm %0 " + NORM.replace("%d", "2"),
    ["2?x3?x7x@"],
    "2?x3?x7x@",
    lambda x: F.layer_norm(x, x.shape[1:]),
)
add(
    "layer_norm_instances",
    "pfcn.layer_norm %0 weight %1 : {1} bias %2 : {2} " + NORM.replace("%d", "1"),
    ["4x3?x7x@", "4x1x7x@", "4x1x7x@"],
    "4x3?x7x@",
    lambda x, w, b: F.layer_norm(x, x.shape[2:]) * w + b,
)
# A one-pass variance cancels here; eager's own error against f64 is 8e-5.
add(
    "layer_norm_offset",
    "%const = pfcn.constant dense<1000.0> : tensor<@>\n"
    "%1 = pfcn.add %0, %const : {0}, tensor<@> -> {0}\npfcn.layer_norm %1 "
    + NORM.replace("%d", "1"),
    ["3x7x@"],
    "3x7x@",
    lambda x: F.layer_norm((x + 1000.0).double(), x.shape[1:]).to(x.dtype),
    dtypes=("f32",),
    tolerance=5e-4,
)

# ---- windows ------------------------------------------------------------------------------------


def conv_case(name, inputs, result, *, stride, padding, dilation, reference, extra=""):
    arrays = [
        f"{key} = array<i64: {', '.join(map(str, value))}>"
        for key, value in (("stride", stride), ("padding", padding), ("dilation", dilation))
    ]
    attributes = ", ".join(arrays + ([extra] if extra else []))
    operands = ", ".join(f"%{i}" for i in range(len(inputs)))
    types = ", ".join(f"{{{i}}}" for i in range(len(inputs)))
    add(
        name,
        f"pfcn.conv {operands} {{{{{attributes}}}}} : {types} -> {{r}}",
        inputs,
        result,
        reference,
    )


conv_case(
    "conv1d",
    ["2x3x9x@", "4x3x2x@", "4x@"],
    "2x4x8x@",
    stride=[1],
    padding=[0],
    dilation=[1],
    reference=F.conv1d,
)
conv_case(
    "conv1d_dynamic",
    ["2?x3x9x@", "4x3x3x@"],
    "2?x4x5x@",
    stride=[2],
    padding=[2],
    dilation=[2],
    reference=lambda x, w: F.conv1d(x, w, None, 2, 2, 2),
)
conv_case(
    "conv1d_groups",
    ["2x6x7x@", "4x3x3x@", "4x@"],
    "2x4x7x@",
    stride=[1],
    padding=[1],
    dilation=[1],
    extra="groups = 2 : i64",
    reference=lambda x, w, b: F.conv1d(x, w, b, padding=1, groups=2),
)
conv_case(
    "conv2d",
    ["3x2x5x6x@", "3x2x3x2x@"],
    "3x3x3x6x@",
    stride=[2, 1],
    padding=[1, 1],
    dilation=[1, 2],
    reference=lambda x, w: F.conv2d(x, w, None, (2, 1), 1, (1, 2)),
)
conv_case(
    "conv3d",
    ["1x2x3x4x5x@", "2x2x2x1x3x@"],
    "1x2x2x4x3x@",
    stride=[1, 1, 1],
    padding=[0, 0, 0],
    dilation=[1, 1, 1],
    reference=F.conv3d,
)
conv_case(
    "conv_transposed",
    ["2x3x5x@", "3x4x3x@", "4x@"],
    "2x4x11x@",
    stride=[2],
    padding=[0],
    dilation=[1],
    extra="transposed",
    reference=lambda x, w, b: F.conv_transpose1d(x, w, b, 2),
)
conv_case(
    "conv_transposed_groups",
    ["2x4x4x3x@", "4x2x3x2x@"],
    "2x4x8x5x@",
    stride=[2, 2],
    padding=[1, 1],
    dilation=[1, 2],
    extra="transposed, groups = 2 : i64, output_padding = array<i64: 1, 0>",
    reference=lambda x, w: F.conv_transpose2d(x, w, None, 2, 1, (1, 0), 2, (1, 2)),
)

for suffix, attributes, result, reference in (
    (
        "",
        "kernel = array<i64: 2, 3>, stride = array<i64: 2, 1>, padding = array<i64: 1, 1>, "
        "dilation = array<i64: 1, 2>",
        "2x3x4x3x@",
        lambda x: F.max_pool2d(x, (2, 3), (2, 1), 1, (1, 2)),
    ),
    (
        "_ceil",
        "kernel = array<i64: 3, 2>, stride = array<i64: 2, 2>, padding = array<i64: 0, 0>, "
        "dilation = array<i64: 1, 1>, ceil_mode = true",
        "2x3x3x3x@",
        lambda x: F.max_pool2d(x, (3, 2), 2, ceil_mode=True),
    ),
):
    add(
        f"max_pool{suffix}",
        f"pfcn.max_pool %0 {{{{{attributes}}}}} : {{0}} -> {{r}}",
        ["2x3x6x5x@"],
        result,
        reference,
        special=True,
    )
for suffix, attributes, result, reference in (
    (
        "",
        "kernel = array<i64: 3>, stride = array<i64: 2>, padding = array<i64: 1>",
        "2?x3x4x@",
        lambda x: F.avg_pool1d(x, 3, 2, 1),
    ),
    (
        "_inside",
        "kernel = array<i64: 3>, stride = array<i64: 2>, padding = array<i64: 1>, "
        "count_include_pad = false",
        "2?x3x4x@",
        lambda x: F.avg_pool1d(x, 3, 2, 1, False, False),
    ),
    (
        "_ceil",
        "kernel = array<i64: 4>, stride = array<i64: 2>, padding = array<i64: 1>, ceil_mode = true",
        "2?x3x4x@",
        lambda x: F.avg_pool1d(x, 4, 2, 1, True),
    ),
    (
        "_divisor",
        "kernel = array<i64: 2>, stride = array<i64: 2>, padding = array<i64: 0>, "
        "divisor = 3 : i64",
        "2?x3x3x@",
        lambda x: F.avg_pool1d(x, 2) * 2 / 3,
    ),
):
    add(
        f"avg_pool{suffix}",
        f"pfcn.avg_pool %0 {{{{{attributes}}}}} : {{0}} -> {{r}}",
        ["2?x3x7x@"],
        result,
        reference,
    )
add(
    "pad",
    "pfcn.pad %0 low [1, 0] high [0, 2] {{value = 3.0 : f64}} : {0} -> {r}",
    ["2?x3x4x@"],
    "2?x4x6x@",
    lambda x: F.pad(x, (0, 2, 1, 0), value=3.0),
    dtypes=FLOATS + INTEGERS,
)
add(
    "flip",
    "pfcn.flip %0 dims [0, 2] : {0}",
    ["2x3x4x@"],
    "2x3x4x@",
    lambda x: x.flip(0, 2),
    dtypes=FLOATS + INTEGERS,
)
add(
    "batch_norm",
    "pfcn.batch_norm %0, %1, %2 weight %3 : {3} bias %4 : {4} "
    "{{channel = 1 : i64, eps = 0.5 : f64}} : {0}, {1}, {2}",
    ["2?x3x4x@", "3x@", "3x@", "3x@", "3x@"],
    "2?x3x4x@",
    lambda x, m, v, w, b: F.batch_norm(x, m, v, w, b, eps=0.5),
)
add(
    "batch_norm_plain",
    "pfcn.batch_norm %0, %1, %2 {{channel = 1 : i64, eps = 9.0 : f64}} : {0}, {1}, {2}",
    ["2x3x@", "3x@", "3x@"],
    "2x3x@",
    lambda x, m, v: F.batch_norm(x, m, v, eps=9.0),
)

# ---- views and joins ----------------------------------------------------------------------------

VIEWS = ("f32", "f16", "i64", "i1")


def view(name, op, inputs, result, reference):
    add(name, op, inputs, result, reference, dtypes=VIEWS)


def numbers(spec: str) -> list[int]:
    return [int(size.rstrip("?")) for size in spec.split("x")[:-1]]


for i, (source, target) in enumerate(
    (
        ("6x4x@", "24x@"),
        ("24x@", "2x3x4x@"),
        ("6x4x@", "4x6x@"),
        ("2x3x4x@", "6x4x@"),
        ("2x3x4x@", "2x12x@"),
        ("2x3x4x5x@", "6x20x@"),
        ("2x6x5x@", "4x3x5x@"),
        ("3x1x4x@", "3x4x@"),
        ("3x4x@", "1x3x1x4x1x@"),
        ("1x1x@", "@"),
        ("@", "1x1x@"),
        ("1x@", "1x1x@"),
        ("3x4x@", "3x4x1x@"),
        ("3x1x1x4x@", "3x1x4x@"),
        ("5?x4x@", "20?x@"),
        ("20?x@", "5?x4x@"),
        ("5?x20x@", "5?x4x5x@"),
        ("5?x4x5x@", "5?x20x@"),
        ("5?x6x@", "10?x3x@"),
        ("4x5?x@", "5?x4x@"),
        ("2x3x5?x@", "6x5?x@"),
        ("2x6?x@", "4x3?x@"),
        ("3?x2?x4x@", "6?x4x@"),
        ("3?x2?x4x@", "3?x8?x@"),
        ("3?x2?x4x@", "24?x@"),
        ("7x3?x6x@", "7x3?x2x3x@"),
        ("7x3?x1x@", "7x3?x@"),
        ("7x3?x@", "7x3?x1x@"),
        ("1x5?x@", "5?x@"),
        ("5?x@", "1x5?x1x@"),
        ("2x5?x4x1x@", "2x1x5?x4x@"),
        ("1x5?x1x4x@", "5?x1x4x1x@"),
        ("1x5?x1x@", "5?x1x1x@"),
    )
):
    view(
        f"reshape_{i}",
        "pfcn.reshape %0 : {0} to {r}",
        [source],
        target,
        lambda x, s=target: x.reshape(numbers(s)),
    )

for i, (source, target) in enumerate(
    (
        ("3x1x@", "3x5x@"),
        ("5x@", "2x3x5x@"),
        ("@", "2x3x@"),
        ("3?x1x@", "2x3?x5x@"),
        ("1x1x@", "1x5x@"),
        ("5?x@", "3x5?x@"),
    )
):
    view(
        f"expand_{i}",
        "pfcn.expand %0 : {0} to {r}",
        [source],
        target,
        lambda x, s=target: x.expand(numbers(s)),
    )

view(
    "permute",
    "pfcn.permute %0 dims [2, 0, 1] : {0} -> {r}",
    ["2x3x5x@"],
    "5x2x3x@",
    lambda x: x.permute(2, 0, 1),
)
view(
    "permute_dynamic",
    "pfcn.permute %0 dims [1, 0, 2] : {0} -> {r}",
    ["2?x1x5?x@"],
    "1x2?x5?x@",
    lambda x: x.permute(1, 0, 2),
)
view(
    "slice", "pfcn.slice %0 dim 1 from 2 to 5 : {0} -> {r}", ["3x7x@"], "3x3x@", lambda x: x[:, 2:5]
)
view(
    "slice_step",
    "pfcn.slice %0 dim 1 from 1 to 7 {{step = 4 : i64}} : {0} -> {r}",
    ["3x7x@"],
    "3x2x@",
    lambda x: x[:, 1:7:4],
)
view(
    "slice_dynamic",
    "pfcn.slice %0 dim 0 from 2 to 9223372036854775807 : {0} -> {r}",
    ["5?x7x@"],
    "3?x7x@",
    lambda x: x[2:],
)
view(
    "slice_dynamic_step",
    "pfcn.slice %0 dim 0 from 1 to 9223372036854775807 {{step = 3 : i64}} : {0} -> {r}",
    ["6?x7?x@"],
    "2?x7?x@",
    lambda x: x[1::3],
)
view(
    "slice_dynamic_known",
    "pfcn.slice %0 dim 0 from 1 to 3 : {0} -> {r}",
    ["6?x7x@"],
    "2x7x@",
    lambda x: x[1:3],
)
view("select", "pfcn.select %0 dim 1 at 2 : {0} -> {r}", ["3x7x5x@"], "3x5x@", lambda x: x[:, 2])
view(
    "select_dynamic",
    "pfcn.select %0 dim 1 at 2 : {0} -> {r}",
    ["3?x7?x5?x@"],
    "3?x5?x@",
    lambda x: x[:, 2],
)
view("select_vector", "pfcn.select %0 dim 0 at 6 : {0} -> {r}", ["7x@"], "@", lambda x: x[6])
view(
    "unsqueeze",
    "pfcn.unsqueeze %0 dim 1 : {0} -> {r}",
    ["3?x5x@"],
    "3?x1x5x@",
    lambda x: x.unsqueeze(1),
)
view(
    "unsqueeze_end",
    "pfcn.unsqueeze %0 dim 2 : {0} -> {r}",
    ["3x5?x@"],
    "3x5?x1x@",
    lambda x: x.unsqueeze(2),
)
view(
    "unsqueeze_scalar",
    "pfcn.unsqueeze %0 dim 0 : {0} -> {r}",
    ["@"],
    "1x@",
    lambda x: x.unsqueeze(0),
)
view(
    "squeeze",
    "pfcn.squeeze %0 dims [0, 2] : {0} -> {r}",
    ["1x3?x1x5x@"],
    "3?x5x@",
    lambda x: x.squeeze((0, 2)),
)
view(
    "squeeze_all",
    "pfcn.squeeze %0 dims [1, 0] : {0} -> {r}",
    ["1x1x@"],
    "@",
    lambda x: x.squeeze((0, 1)),
)
view(
    "squeeze_some",
    "pfcn.squeeze %0 dims [1] : {0} -> {r}",
    ["1x1x3x@"],
    "1x3x@",
    lambda x: x.squeeze(1),
)
JOIN = "({0}, {1}, {2}) -> {r}"
view(
    "cat",
    "pfcn.cat %0, %1, %2 dim 1 : " + JOIN,
    ["3x2x@", "3x1x@", "3x4x@"],
    "3x7x@",
    lambda *x: torch.cat(x, 1),
)
view(
    "cat_dynamic",
    "pfcn.cat %0, %1, %2 dim 0 : " + JOIN,
    ["2?x3x@", "1x3x@", "4?x3x@"],
    "7?x3x@",
    lambda *x: torch.cat(x, 0),
)
view(
    "cat_dynamic_rows",
    "pfcn.cat %0, %1, %2 dim 1 : " + JOIN,
    ["5?x3x@", "5?x1x@", "5?x2x@"],
    "5?x6x@",
    lambda *x: torch.cat(x, 1),
)
view(
    "cat_mixed_rows",
    "pfcn.cat %0, %1, %2 dim 1 : " + JOIN,
    ["5?x3x@", "5x1x@", "5?x2x@"],
    "5x6x@",
    lambda *x: torch.cat(x, 1),
)
view(
    "stack",
    "pfcn.stack %0, %1, %2 dim 1 : " + JOIN,
    ["3x2x@"] * 3,
    "3x3x2x@",
    lambda *x: torch.stack(x, 1),
)
view(
    "stack_dynamic",
    "pfcn.stack %0, %1, %2 dim 2 : " + JOIN,
    ["3?x2x@"] * 3,
    "3?x2x3x@",
    lambda *x: torch.stack(x, 2),
)
view(
    "stack_scalars",
    "pfcn.stack %0, %1, %2 dim 0 : " + JOIN,
    ["@"] * 3,
    "3x@",
    lambda *x: torch.stack(x, 0),
)


# ---- running ------------------------------------------------------------------------------------


def run(*command: str | Path, text: str) -> str:
    done = subprocess.run(
        [str(c) for c in command], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command[0]}: {done.stderr[:4000]}"
    return done.stdout


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("linalg")
    module = "".join(case.function() for case in CASES)
    lowered = run(PFCN_OPT, LOWER_TO_LLVM[0], text=module)
    assert "pfcn." not in lowered, "an op was left without a lowering"
    bindir = run("llvm-config-22", "--bindir", text="").strip()
    libdir = run("llvm-config-22", "--libdir", text="").strip()
    llvm_dialect = run(PFCN_OPT, *LOWER_TO_LLVM[1:], text=lowered)
    (folder / "cases.ll").write_text(
        run(f"{bindir}/mlir-translate", "--mlir-to-llvmir", text=llvm_dialect)
    )
    output = folder / "cases.so"
    flags = ["-O1", "-march=native", "-shared", "-fPIC", "-Wno-override-module"]
    libraries = [
        "-lm",
        f"-L{libdir}",
        f"-Wl,-rpath,{libdir}",
        "-lmlir_c_runner_utils",
    ]  # memrefCopy
    run("clang-22", *flags, folder / "cases.ll", *libraries, "-o", output, text="")
    return ctypes.CDLL(str(output))


def descriptor(rank: int) -> type[ctypes.Structure]:
    fields = [
        ("allocated", ctypes.c_void_p),
        ("aligned", ctypes.c_void_p),
        ("offset", ctypes.c_int64),
    ]
    if rank:
        fields += [("sizes", ctypes.c_int64 * rank), ("strides", ctypes.c_int64 * rank)]

    class Descriptor(ctypes.Structure):
        _fields_ = fields

    return Descriptor


def to_descriptor(tensor: torch.Tensor) -> ctypes.Structure:
    result = descriptor(tensor.dim())(tensor.data_ptr(), tensor.data_ptr(), 0)
    for dim in range(tensor.dim()):
        result.sizes[dim] = tensor.size(dim)
        result.strides[dim] = tensor.stride(dim)
    return result


def from_descriptor(memref: ctypes.Structure, rank: int, dtype: torch.dtype) -> torch.Tensor:
    shape = list(memref.sizes) if rank else []
    strides = list(memref.strides) if rank else []
    span = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    start = memref.aligned + memref.offset * dtype.itemsize
    data = bytearray((ctypes.c_char * (span * dtype.itemsize)).from_address(start))
    return torch.frombuffer(data, dtype=dtype).as_strided(shape, strides)


def test_every_op_has_a_case():
    """An op that joins the dialect without a lowering, or without a case here, fails here."""
    ops = (ROOT / "include" / "pfcn" / "Dialect" / "PfcnOps.td").read_text()
    kinds = "Unary|Binary|Pointwise|Reduction|SoftmaxLike|Pool|Compute|Inferred"
    defined = set(re.findall(rf'^def Pfcn_\w+ : Pfcn_(?:{kinds})Op<"(\w+)"', ops, re.MULTILINE))
    assert len(defined) > 50
    tested = {name for case in CASES for name in re.findall(r"pfcn\.(\w+)", case.op)}
    # Recurrences have a loop around their ops; detach is no op of a kernel.
    assert defined - tested == {"recurrence", "recurrence_adjoint", "detach"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_matches_torch(library, case):
    arguments = case.arguments()
    expected = case.expected(arguments)
    rank = len(case.result.split("x")) - 1
    memref = descriptor(rank)()
    inputs = [to_descriptor(argument) for argument in arguments]
    getattr(library, f"_mlir_ciface_{case.name}")(ctypes.byref(memref), *map(ctypes.byref, inputs))
    actual = from_descriptor(memref, rank, DTYPES[case.result.split("x")[-1]])
    torch.testing.assert_close(
        actual, expected, rtol=case.tolerance, atol=case.tolerance, equal_nan=True
    )
