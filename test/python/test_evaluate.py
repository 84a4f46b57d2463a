"""Every op of the dialect on torch's functions, against torch itself: the reference semantics."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from pfcn import _C

SEED = 20


def run(text: str, inputs: list[torch.Tensor], tensors: dict | None = None) -> list[torch.Tensor]:
    """The results of `forward`, op by op on torch's functions."""
    model = _C.parse(text, tensors or {})
    compilation = _C.compile(model, use_kernels=False, fuse=False)
    return _C.BoundPlan(compilation.plan, tensors or {}, _C.Weights()).run(inputs)


def mlir(tensor: torch.Tensor) -> str:
    names = {torch.float32: "f32", torch.float64: "f64", torch.int64: "i64", torch.int32: "i32",
             torch.bool: "i1", torch.bfloat16: "bf16", torch.float16: "f16"}  # fmt: skip
    return "tensor<" + "".join(f"{size}x" for size in tensor.shape) + names[tensor.dtype] + ">"


def op_function(line: str, inputs: list[torch.Tensor], result: torch.Tensor) -> str:
    """`line`, with {0}, {1}, … for the types of the inputs and {r} for the result's."""
    types = [mlir(tensor) for tensor in inputs]
    arguments = ", ".join(f"%{i}: {type}" for i, type in enumerate(types))
    body = line.format(*types, r=mlir(result))
    return (
        f"func.func @forward({arguments}) -> {mlir(result)} {{\n"
        f"  %r = {body}\n  return %r : {mlir(result)}\n}}"
    )


UNARY = {
    "neg": torch.neg, "abs": torch.abs, "sign": torch.sign, "relu": torch.relu, "exp": torch.exp,
    "expm1": torch.expm1, "log": torch.log, "log1p": torch.log1p, "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt, "reciprocal": torch.reciprocal, "tanh": torch.tanh,
    "sigmoid": torch.sigmoid, "silu": F.silu, "mish": F.mish, "erf": torch.erf, "sin": torch.sin,
    "cos": torch.cos, "floor": torch.floor, "ceil": torch.ceil, "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid, "log_sigmoid": F.logsigmoid, "tan": torch.tan, "asin": torch.asin,
    "acos": torch.acos, "atan": torch.atan, "sinh": torch.sinh, "cosh": torch.cosh,
    "asinh": torch.asinh, "acosh": torch.acosh, "atanh": torch.atanh, "exp2": torch.exp2,
    "log2": torch.log2, "log10": torch.log10, "erfc": torch.erfc, "trunc": torch.trunc,
    "round": torch.round,
}  # fmt: skip
BINARY = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "pow": torch.pow,
    "maximum": torch.maximum, "minimum": torch.minimum, "atan2": torch.atan2, "fmod": torch.fmod,
    "remainder": torch.remainder, "copysign": torch.copysign,
}  # fmt: skip


def special(dtype: torch.dtype) -> torch.Tensor:
    """Ordinary values, zeros of both signs, infinities and NaN."""
    torch.manual_seed(SEED)
    values = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 30.0, -30.0, 0.5]
    return torch.cat([torch.randn(14) * 3, torch.tensor(values)]).reshape(4, 6).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", UNARY)
def test_unary(name, dtype):
    x = special(dtype)
    expected = UNARY[name](x)
    (actual,) = run(op_function(f"pfcn.{name} %0 : {{r}}", [x], expected), [x])
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("shapes", [((4, 6), (4, 6)), ((4, 1), (6,)), ((), (4, 6))])
@pytest.mark.parametrize("name", BINARY)
def test_binary(name, shapes):
    torch.manual_seed(SEED)
    inputs = [torch.rand(shape) + 0.5 for shape in shapes]
    expected = BINARY[name](*inputs)
    text = op_function(f"pfcn.{name} %0, %1 : {{0}}, {{1}} -> {{r}}", inputs, expected)
    torch.testing.assert_close(run(text, inputs)[0], expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["eq", "ne", "lt", "le", "gt", "ge"])
def test_compare(name):
    a, b = torch.tensor([1.0, 2.0, math.nan, 3.0]), torch.tensor([[1.0, 1.5, 0.0, 4.0]])
    expected = getattr(torch, name)(a, b)
    text = op_function(f"pfcn.compare {name} %0, %1 : {{0}}, {{1}} -> {{r}}", [a, b], expected)
    assert torch.equal(run(text, [a, b])[0], expected)


T = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(SEED)) + 0.5
S = torch.rand(3, 4, generator=torch.Generator().manual_seed(SEED + 1))
W = torch.rand(5, 4, generator=torch.Generator().manual_seed(SEED + 2))
B = torch.rand(5, generator=torch.Generator().manual_seed(SEED + 3))
M = torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(SEED + 4))
A = torch.rand(2, 3, 5, generator=torch.Generator().manual_seed(SEED + 5))
I = torch.arange(24).reshape(2, 3, 4)  # noqa: E741

CASES = {
    "where": ("pfcn.where %0, %1, %2 : {0}, {1}, {2} -> {r}", [T > 1, T, S],
              torch.where(T > 1, T, S)),
    "leaky_relu": ("pfcn.leaky_relu %0 {{negative_slope = 0.1 : f64}} : {r}", [T - 1],
                   F.leaky_relu(T - 1, 0.1)),
    "elu": ("pfcn.elu %0 {{alpha = 0.5 : f64, scale = 2.0 : f64, input_scale = 3.0 : f64}} : {r}",
            [T - 1], torch.ops.aten.elu(T - 1, 0.5, 2.0, 3.0)),
    "softplus": ("pfcn.softplus %0 {{beta = 2.0 : f64, threshold = 1.5 : f64}} : {r}", [T],
                 F.softplus(T, 2.0, 1.5)),
    "gelu": ("pfcn.gelu %0 : {r}", [T], F.gelu(T)),
    "gelu_tanh": ("pfcn.gelu %0 {{tanh_approximation = true}} : {r}", [T],
                  F.gelu(T, approximate="tanh")),
    "clamp": ("pfcn.clamp %0 {{min = 0.7 : f64, max = 1.0 : f64}} : {r}", [T], T.clamp(0.7, 1.0)),
    "clamp_min": ("pfcn.clamp %0 {{min = 0.7 : f64}} : {r}", [T], T.clamp(min=0.7)),
    "cast_down": ("pfcn.cast %0 : {0} to {r}", [T], T.to(torch.bfloat16)),
    "cast_int": ("pfcn.cast %0 : {0} to {r}", [T * 3], (T * 3).to(torch.int32)),
    "linear": ("pfcn.linear %0, %1, %2 : {0}, {1}, {2} -> {r}", [T, W, B], F.linear(T, W, B)),
    "linear_no_bias": ("pfcn.linear %0, %1 : {0}, {1} -> {r}", [T, W], F.linear(T, W)),
    "matmul": ("pfcn.matmul %0, %1 : {0}, {1} -> {r}", [T, M], T @ M),
    "matmul_broadcast": ("pfcn.matmul %0, %1 : {0}, {1} -> {r}", [S, M], S @ M),
    "addmm": ("pfcn.addmm %0, %1, %2 {{beta = 0.5 : f64, alpha = 2.0 : f64}}"
              " : {0}, {1}, {2} -> {r}", [B, S, M[0]],
              torch.addmm(B, S, M[0], beta=0.5, alpha=2)),
    "baddbmm": ("pfcn.addmm %0, %1, %2 : {0}, {1}, {2} -> {r}", [A, T, M],
                torch.baddbmm(A, T, M)),
    "batch_matmul": ("pfcn.batch_matmul %0, %1 : {0}, {1} -> {r}", [T, M], T @ M),
    "batch_matmul_transposed": ("pfcn.batch_matmul %0, %1 {{transpose_rhs}} : {0}, {1} -> {r}",
                                [T, M.mT.contiguous()], T @ M),
    "batch_matmul_shared": ("pfcn.batch_matmul %0, %1 : {0}, {1} -> {r}", [S, M], S @ M),
    "sum": ("pfcn.sum %0 dims [0, 2] : {0} -> {r}", [T], T.sum((0, 2))),
    "sum_keep": ("pfcn.sum %0 dims [1] {{keepdim = true}} : {0} -> {r}", [T],
                 T.sum(1, keepdim=True)),
    "sum_int": ("pfcn.sum %0 dims [0] : {0} -> {r}", [I.int()], I.int().sum(0).int()),
    "sum_of_none": ("pfcn.sum %0 dims [] : {0} -> {r}", [T], T),
    "mean": ("pfcn.mean %0 dims [1] : {0} -> {r}", [T], T.mean(1)),
    "amax": ("pfcn.amax %0 dims [0, 1] : {0} -> {r}", [T], T.amax((0, 1))),
    "amax_of_none": ("pfcn.amax %0 dims [] : {0} -> {r}", [T], T),
    "amin": ("pfcn.amin %0 dims [2] {{keepdim = true}} : {0} -> {r}", [T],
             T.amin(2, keepdim=True)),
    "prod": ("pfcn.prod %0 dims [0, 2] : {0} -> {r}", [T], T.prod(2).prod(0)),
    "prod_keep": ("pfcn.prod %0 dims [0, 1] {{keepdim = true}} : {0} -> {r}", [T],
                  T.prod(1, keepdim=True).prod(0, keepdim=True)),
    "softmax": ("pfcn.softmax %0 dim 1 : {r}", [T], T.softmax(1)),
    "log_softmax": ("pfcn.log_softmax %0 dim 2 : {r}", [T], T.log_softmax(2)),
    "layer_norm": ("pfcn.layer_norm %0 weight %1 : {1} bias %2 : {2}"
                   " {{normalized_rank = 2 : i64, eps = 1.0e-3 : f64}} : {r}", [T, S, S + 1],
                   F.layer_norm(T, (3, 4), S, S + 1, 1e-3)),
    "layer_norm_plain": ("pfcn.layer_norm %0 {{normalized_rank = 1 : i64, eps = 1.0e-3 : f64}}"
                         " : {r}", [T], F.layer_norm(T, (4,), eps=1e-3)),
    "layer_norm_bias": ("pfcn.layer_norm %0 bias %1 : {1}"
                        " {{normalized_rank = 1 : i64, eps = 1.0e-3 : f64}} : {r}", [T, S[0]],
                        F.layer_norm(T, (4,), None, S[0], 1e-3)),
    "layer_norm_batched": ("pfcn.layer_norm %0 weight %1 : {1}"
                           " {{normalized_rank = 1 : i64, eps = 1.0e-3 : f64}} : {r}",
                           [T, M.mT[:, :1].contiguous()],
                           F.layer_norm(T, (4,), eps=1e-3) * M.mT[:, :1]),
    "reshape": ("pfcn.reshape %0 : {0} to {r}", [T], T.reshape(6, 4)),
    "permute": ("pfcn.permute %0 dims [2, 0, 1] : {0} -> {r}", [T], T.permute(2, 0, 1)),
    "slice": ("pfcn.slice %0 dim 2 from 1 to 4 {{step = 2 : i64}} : {0} -> {r}", [T],
              T[:, :, 1:4:2]),
    "slice_to_end": ("pfcn.slice %0 dim 1 from 1 to 9223372036854775807 : {0} -> {r}", [T],
                     T[:, 1:]),
    "select": ("pfcn.select %0 dim 1 at 2 : {0} -> {r}", [T], T[:, 2]),
    "unsqueeze": ("pfcn.unsqueeze %0 dim 1 : {0} -> {r}", [T], T.unsqueeze(1)),
    "squeeze": ("pfcn.squeeze %0 dims [0, 2] : {0} -> {r}", [T[:1, :, :1]],
                T[:1, :, :1].squeeze(0).squeeze(1)),
    "expand": ("pfcn.expand %0 : {0} to {r}", [S], S.expand(2, 3, 4)),
    "cat": ("pfcn.cat %0, %1 dim 1 : ({0}, {1}) -> {r}", [T, A[:, :1, :4]],
            torch.cat([T, A[:, :1, :4]], 1)),
    "stack": ("pfcn.stack %0, %0 dim 3 : ({0}, {0}) -> {r}", [T], torch.stack([T, T], 3)),
    "opaque_int": ('pfcn.opaque "aten::cumsum"(%0) [#pfcn.operand<0>, 1, unit] : ({0}) -> {r}',
                   [T], T.cumsum(1)),
    "opaque_overload": ('pfcn.opaque "aten::add.Tensor"(%0, %1)'
                        ' [#pfcn.operand<0>, #pfcn.operand<1>, 2] : ({0}, {1}) -> {r}', [T, S],
                        torch.add(T, S, alpha=2)),
    "opaque_lists": ('pfcn.opaque "aten::roll"(%0) [#pfcn.operand<0>, [1, 2], [0, 1]]'
                     " : ({0}) -> {r}", [T], T.roll((1, 2), (0, 1))),
    "opaque_tensors": ('pfcn.opaque "aten::cat"(%0, %1)'
                       " [[#pfcn.operand<0>, #pfcn.operand<1>], 0] : ({0}, {1}) -> {r}",
                       [S, S + 1], torch.cat([S, S + 1])),
    "opaque_optional": ('pfcn.opaque "aten::index.Tensor"(%0, %1)'
                        " [#pfcn.operand<0>, [unit, #pfcn.operand<1>]] : ({0}, {1}) -> {r}",
                        [S, torch.tensor([3, 0])], S[:, [3, 0]]),
    "opaque_float": ('pfcn.opaque "aten::hardtanh"(%0) [#pfcn.operand<0>, 0.6, 1.0]'
                     " : ({0}) -> {r}", [T], F.hardtanh(T, 0.6, 1.0)),
    "opaque_string": ('pfcn.opaque "aten::div.Tensor_mode"(%0, %1)'
                      ' [#pfcn.operand<0>, #pfcn.operand<1>, "floor"] : ({0}, {1}) -> {r}',
                      [T, S + 0.1], torch.div(T, S + 0.1, rounding_mode="floor")),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_op(name):
    line, inputs, expected = CASES[name]
    (actual,) = run(op_function(line, inputs, expected), inputs)
    assert actual.dtype == expected.dtype
    torch.testing.assert_close(actual, expected)
    given = {tensor.untyped_storage().data_ptr() for tensor in inputs}
    assert actual.untyped_storage().data_ptr() not in given


def test_opaque_with_two_results():
    text = """func.func @forward(%x: tensor<2x3xf32>) -> (tensor<2xf32>, tensor<2xi64>) {
      %v, %i = pfcn.opaque "aten::max.dim"(%x) [#pfcn.operand<0>, 1, false]
          : (tensor<2x3xf32>) -> (tensor<2xf32>, tensor<2xi64>)
      return %v, %i : tensor<2xf32>, tensor<2xi64>
    }"""
    values, indices = run(text, [S[:2, :3].contiguous()])
    expected = S[:2, :3].max(1)
    assert torch.equal(values, expected.values)
    assert torch.equal(indices, expected.indices)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ('"aten::nowhere"(%x) [#pfcn.operand<0>]', "torch has no operator aten::nowhere"),
        ('"aten::relu"(%x) [#pfcn.operand<0>, 1]', "takes 1 arguments"),
    ],
)
def test_opaque_errors(call, message):
    text = f"""func.func @forward(%x: tensor<2xf32>) -> tensor<2xf32> {{
      %y = pfcn.opaque {call} : (tensor<2xf32>) -> tensor<2xf32>
      return %y : tensor<2xf32>
    }}"""
    with pytest.raises(Exception, match=message):
        run(text, [torch.zeros(2)])


@pytest.mark.parametrize(
    ("literal", "expected"),
    [
        ("dense<[[1.0, 2.0]]> : tensor<1x2xf32>", torch.tensor([[1.0, 2.0]])),
        ("dense<0.5> : tensor<2x3xf64>", torch.full((2, 3), 0.5, dtype=torch.float64)),
        ("dense<[true, false, true]> : tensor<3xi1>", torch.tensor([True, False, True])),
        ("dense<true> : tensor<2xi1>", torch.tensor([True, True])),
        ("dense<7> : tensor<i64>", torch.tensor(7)),
        ("dense<1.5> : tensor<2xbf16>", torch.tensor([1.5, 1.5], dtype=torch.bfloat16)),
    ],
)
def test_constant(literal, expected):
    kind = literal.rsplit(" : ", 1)[1]
    text = f"""func.func @forward() -> {kind} {{
      %c = pfcn.constant {literal}
      return %c : {kind}
    }}"""
    model = _C.parse(text, {})
    bound = _C.BoundPlan(_C.compile(model, fuse=False).plan, {}, _C.Weights())
    first, second = bound.run([])[0], bound.run([])[0]
    assert torch.equal(first, expected)
    assert first.dtype == expected.dtype
    assert first.data_ptr() != second.data_ptr()  # a caller may write into its result


def test_dynamic_reshape_and_sizes():
    text = """func.func @forward(%x: tensor<?x4xf32>) -> tensor<?x2x2xf32> {
      %y = pfcn.reshape %x : tensor<?x4xf32> to tensor<?x2x2xf32>
      return %y : tensor<?x2x2xf32>
    }"""
    for batch in (0, 1, 3):
        x = torch.rand(batch, 4)
        assert torch.equal(run(text, [x])[0], x.reshape(batch, 2, 2))


def test_wrong_inputs_are_told():
    text = op_function("pfcn.relu %0 : {r}", [S], S)
    with pytest.raises(
        ValueError, match=r"input 0 is Float\[3, 4\] on the CPU, and got Float\[4\]"
    ):
        run(text, [S[0]])
    with pytest.raises(ValueError, match="takes 1 tensors, and got 2"):
        run(text, [S, S])


# --- Groups --------------------------------------------------------------------------------------

GROUP = """func.func @forward(%x: tensor<3x12xf32>) -> tensor<3x{width}xf32> {{
  %w = pfcn.parameter_stack ["a", "b", "c"] : tensor<3x2x4xf32>
  %init = pfcn.empty : tensor<3x{width}xf32>
  %y = pfcn.{kind} "g" count 3 ins(%x, %w : tensor<3x12xf32>, tensor<3x2x4xf32>)
      [#pfcn.access<slice dim 1 size 4 {read}>, #pfcn.access<select dim 0>]
      outs(%init : tensor<3x{width}xf32>) [#pfcn.access<slice dim 1 size 2 {write}>] {{
{body}
  }} -> tensor<3x{width}xf32>
  return %y : tensor<3x{width}xf32>
}}"""
BODIES = {
    "instances": """  ^bb0(%a: tensor<3x4xf32>, %b: tensor<2x4xf32>):
    %0 = pfcn.linear %a, %b : tensor<3x4xf32>, tensor<2x4xf32> -> tensor<3x2xf32>
    pfcn.yield %0 : tensor<3x2xf32>""",
    "kernel": """  ^bb0(%a: tensor<3x3x4xf32>, %b: tensor<3x2x4xf32>):
    %0 = pfcn.batch_matmul %a, %b {transpose_rhs}
        : tensor<3x3x4xf32>, tensor<3x2x4xf32> -> tensor<3x3x2xf32>
    pfcn.yield %0 : tensor<3x3x2xf32>""",
}


@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize(
    ("read", "reads", "write", "writes"),
    [
        ("stride 4", [0, 4, 8], "stride 2", [0, 2, 4]),
        ("stride 3 offset 1", [1, 4, 7], "stride 2", [0, 2, 4]),  # overlapping reads
        ("stride -4 offset 8", [8, 4, 0], "stride -2 offset 4", [4, 2, 0]),
        ("at [8, 0, 3]", [8, 0, 3], "at [2, 4, 0]", [2, 4, 0]),
    ],
)
def test_group(kind, read, reads, write, writes, freeze):
    torch.manual_seed(SEED)
    text = GROUP.format(kind=kind, read=read, write=write, width=6, body=BODIES[kind])
    tensors = {name: torch.rand(2, 4) for name in "abc"}
    x = torch.rand(3, 12)
    expected = torch.empty(3, 6)
    for start, to, weight in zip(reads, writes, tensors.values(), strict=True):
        expected[:, to : to + 2] = x[:, start : start + 4] @ weight.T
    compilation = _C.compile(_C.parse(text, tensors), use_kernels=False, freeze=freeze)
    bound = _C.BoundPlan(compilation.plan, tensors, _C.Weights(), freeze=freeze)
    for given in (x, x.T.contiguous().T, torch.rand(3, 24)[:, ::2].copy_(x)):
        torch.testing.assert_close(bound.run([given])[0], expected)


def test_groups_that_share_a_destination():
    """Equal `pfcn.empty` are merged by CSE: each group must still write a tensor of its own."""
    body = BODIES["instances"]
    text = f"""func.func @forward(%x: tensor<3x12xf32>) -> (tensor<3x6xf32>, tensor<3x6xf32>) {{
      %v = pfcn.parameter_stack ["a", "b", "c"] : tensor<3x2x4xf32>
      %w = pfcn.parameter_stack ["c", "b", "a"] : tensor<3x2x4xf32>
      %init = pfcn.empty : tensor<3x6xf32>
      %y = pfcn.instances "g" count 3 ins(%x, %v : tensor<3x12xf32>, tensor<3x2x4xf32>)
          [#pfcn.access<slice dim 1 size 4 stride 4>, #pfcn.access<select dim 0>]
          outs(%init : tensor<3x6xf32>) [#pfcn.access<slice dim 1 size 2 stride 2>] {{ {body}
      }} -> tensor<3x6xf32>
      %z = pfcn.instances "g" count 3 ins(%x, %w : tensor<3x12xf32>, tensor<3x2x4xf32>)
          [#pfcn.access<slice dim 1 size 4 stride 4>, #pfcn.access<select dim 0>]
          outs(%init : tensor<3x6xf32>) [#pfcn.access<slice dim 1 size 2 stride 2>] {{ {body}
      }} -> tensor<3x6xf32>
      return %y, %z : tensor<3x6xf32>, tensor<3x6xf32>
    }}"""
    torch.manual_seed(SEED)
    tensors = {name: torch.rand(2, 4) for name in "abc"}
    x = torch.rand(3, 12)
    y, z = run(text, [x], tensors)
    blocks = x.split(4, dim=1)
    for result, names in ((y, "abc"), (z, "cba")):
        parts = [part @ tensors[name].T for part, name in zip(blocks, names, strict=True)]
        torch.testing.assert_close(result, torch.cat(parts, 1))
    assert y.data_ptr() != z.data_ptr()


def test_results_are_no_views():
    text = """func.func @forward(%x: tensor<2x3xf32>) ->
        (tensor<3x2xf32>, tensor<3xf32>, tensor<3xf32>, tensor<2x3xf32>) {
      %p = pfcn.parameter "p" : tensor<2x3xf32>
      %t = pfcn.permute %x dims [1, 0] : tensor<2x3xf32> -> tensor<3x2xf32>
      %y = pfcn.relu %x : tensor<2x3xf32>
      %a = pfcn.select %y dim 0 at 0 : tensor<2x3xf32> -> tensor<3xf32>
      %b = pfcn.select %y dim 0 at 1 : tensor<2x3xf32> -> tensor<3xf32>
      return %t, %a, %b, %p : tensor<3x2xf32>, tensor<3xf32>, tensor<3xf32>, tensor<2x3xf32>
    }"""
    x, p = torch.randn(2, 3), torch.randn(2, 3)
    t, a, b, q = run(text, [x], {"p": p})
    assert torch.equal(t, x.T)
    assert torch.equal(torch.stack([a, b]), x.relu())
    storages = {tensor.untyped_storage().data_ptr() for tensor in (x, t, a, b)}
    assert len(storages) == 4
    assert q is p  # a parameter that the model returns as it is
