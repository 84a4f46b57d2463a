"""What the pfcn dialect means, op by op, in torch: evaluates a model without compiling it."""

from __future__ import annotations

import re
import struct

import torch
import torch.nn.functional as F

DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32, "f64": torch.float64,
          "i1": torch.bool, "i8": torch.int8, "i16": torch.int16, "i32": torch.int32,
          "i64": torch.int64}  # fmt: skip
OPERATION = re.compile(
    r"\s*(?:(?P<results>%\w+)(?::\d+)? = )?\"(?P<name>[\w.]+)\"\((?P<operands>[^)]*)\)"
    r"(?: <\{(?P<attributes>.*)\}>)?(?: \{.*\})? : \((?P<inputs>.*?)\) -> (?P<outputs>.*)$"
)


def split(text: str) -> list[str]:
    """At the commas that stand in no bracket or string."""
    parts, depth, quoted, part = [], 0, False, ""
    for i, c in enumerate(text):
        quoted ^= c == '"'
        depth += 0 if quoted else (c in "[<({") - (c in "]>)}" and text[i - 1] != "-")
        if c == "," and not depth and not quoted:
            parts.append(part.strip())
            part = ""
        else:
            part += c
    return [*parts, part.strip()] if part.strip() else parts


def parse_type(text: str) -> tuple[list[int], torch.dtype]:
    *sizes, element = re.fullmatch(r"tensor<(.*)>", text).group(1).split("x")
    return [-1 if size == "?" else int(size) for size in sizes], DTYPES[element]


def parse_dense(text: str) -> torch.Tensor:
    value, type_ = re.fullmatch(r"dense<(.*)> : (tensor<.*>)", text).groups()
    sizes, dtype = parse_type(type_)
    if value.startswith('"0x'):
        return torch.frombuffer(bytearray.fromhex(value[3:-1]), dtype=dtype).reshape(sizes)
    value = re.sub(r"0x[0-9A-Fa-f]+", lambda m: repr(from_hex(m.group(), dtype)), value)
    names = {"true": True, "false": False, "inf": float("inf"), "nan": float("nan")}
    nest = eval(value, names)
    return torch.tensor(nest, dtype=dtype).expand(sizes)


def from_hex(text: str, dtype: torch.dtype) -> float:
    """NaN and the infinities."""
    bits = bytes.fromhex(text[2:])
    if dtype == torch.bfloat16:
        bits += b"\0\0"
    return struct.unpack({2: ">e", 4: ">f", 8: ">d"}[len(bits)], bits)[0]


def parse_attribute(text: str):
    if text.startswith("dense<"):
        return parse_dense(text)
    text = re.sub(r" : [if]\d+$", "", text)
    if text == "unit":
        return None
    if text.startswith('"'):
        return text[1:-1]
    if text.startswith("["):
        return [parse_attribute(part) for part in split(text[1:-1])]
    if array := re.fullmatch(r"array<i\d+(?:: (.*))?>", text):
        return [int(part) for part in (array.group(1) or "").split(",") if part]
    if operand := re.fullmatch(r"#pfcn.operand<(\d+)>", text):
        return Operand(int(operand.group(1)))
    if text in ("true", "false"):
        return text == "true"
    if enum := re.fullmatch(r"#pfcn<predicate (\w+)>", text):
        return enum.group(1)
    return float(text) if re.search(r"[.e]", text) else int(text)


class Operand(int):
    pass


def opaque(inputs: list[torch.Tensor], name: str, arguments: list, effect=None):
    namespace, rest = name.split("::")
    operator, _, overload = rest.partition(".")
    packet = getattr(getattr(torch.ops, namespace), operator)
    function = getattr(packet, overload or "default")

    def value(argument, type_: str):
        if isinstance(argument, Operand):
            return inputs[argument]
        if isinstance(argument, list):
            return [value(a, type_) for a in argument]
        if "ScalarType" in type_ and isinstance(argument, int):
            return {v: k for k, v in SCALAR_TYPES.items()}[argument]
        if "MemoryFormat" in type_ and isinstance(argument, int):
            return [torch.contiguous_format, torch.preserve_format, torch.channels_last][argument]
        if "Layout" in type_ and isinstance(argument, int):
            return torch.strided
        return argument

    args, kwargs = [], {}
    for argument, formal in zip(arguments, function._schema.arguments, strict=True):
        actual = value(argument, str(formal.real_type))
        if formal.kwarg_only:
            kwargs[formal.name] = actual
        else:
            args.append(actual)
    result = function(*args, **kwargs)
    return list(result) if isinstance(result, tuple | list) else [result]


SCALAR_TYPES = {torch.uint8: 0, torch.int8: 1, torch.int16: 2, torch.int32: 3, torch.int64: 4,
                torch.float16: 5, torch.float32: 6, torch.float64: 7, torch.bool: 11,
                torch.bfloat16: 15}  # fmt: skip


def layer_norm(x, rest, operandSegmentSizes, normalized_rank, eps):
    _, has_weight, has_bias = operandSegmentSizes
    weight = rest[0] if has_weight else None
    bias = rest[has_weight] if has_bias else None
    return F.layer_norm(x, x.shape[-normalized_rank:], weight, bias, eps)


def batch_norm(x, mean, variance, *rest, operandSegmentSizes, channel, eps):
    assert channel == 1
    *_, has_weight, has_bias = operandSegmentSizes
    weight = rest[0] if has_weight else None
    bias = rest[has_weight] if has_bias else None
    return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)


def conv(
    x,
    weight,
    bias=None,
    *,
    stride,
    padding,
    dilation,
    groups=1,
    transposed=False,
    output_padding=(),
):
    output_padding = output_padding or [0] * len(stride)
    return torch.convolution(
        x, weight, bias, stride, padding, dilation, transposed, output_padding, groups
    )


def max_pool(x, kernel, stride, padding, dilation, ceil_mode=False):
    function = [F.max_pool1d, F.max_pool2d, F.max_pool3d][len(kernel) - 1]
    return function(x, kernel, stride, padding, dilation, ceil_mode)


def avg_pool(x, kernel, stride, padding, ceil_mode=False, count_include_pad=True, divisor=None):
    function = [F.avg_pool1d, F.avg_pool2d, F.avg_pool3d][len(kernel) - 1]
    extra = [] if len(kernel) == 1 else [divisor]
    return function(x, kernel, stride, padding, ceil_mode, count_include_pad, *extra)


def scaled(beta: float, input: torch.Tensor) -> torch.Tensor | float:
    return 0.0 if beta == 0 else beta * input


UNARY = {"neg": torch.neg, "abs": torch.abs, "sign": torch.sign, "relu": torch.relu,
         "exp": torch.exp, "expm1": torch.expm1, "log": torch.log, "log1p": torch.log1p,
         "sqrt": torch.sqrt, "rsqrt": torch.rsqrt, "reciprocal": torch.reciprocal,
         "tanh": torch.tanh, "sigmoid": torch.sigmoid, "silu": F.silu, "mish": F.mish,
         "erf": torch.erf, "sin": torch.sin, "cos": torch.cos, "floor": torch.floor,
         "ceil": torch.ceil, "tan": torch.tan, "asin": torch.asin, "acos": torch.acos,
         "atan": torch.atan, "sinh": torch.sinh, "cosh": torch.cosh, "asinh": torch.asinh,
         "acosh": torch.acosh, "atanh": torch.atanh, "exp2": torch.exp2, "log2": torch.log2,
         "log10": torch.log10, "erfc": torch.erfc, "trunc": torch.trunc, "round": torch.round,
         "hardswish": F.hardswish, "hardsigmoid": F.hardsigmoid,
         "log_sigmoid": F.logsigmoid}  # fmt: skip
BINARY = {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "pow": torch.pow,
          "maximum": torch.maximum, "minimum": torch.minimum, "atan2": torch.atan2,
          "fmod": torch.fmod, "remainder": torch.remainder, "copysign": torch.copysign,
          "bitwise_and": torch.bitwise_and, "bitwise_or": torch.bitwise_or,
          "bitwise_xor": torch.bitwise_xor, "matmul": torch.matmul}  # fmt: skip
OPS = {
    "leaky_relu": lambda x, negative_slope: F.leaky_relu(x, negative_slope),
    "elu": lambda x, alpha, scale=1.0, input_scale=1.0: scale
    * torch.where(x > 0, x, alpha * torch.expm1(input_scale * x)),
    "softplus": lambda x, beta=1.0, threshold=20.0: F.softplus(x, beta, threshold),
    "gelu": lambda x, tanh_approximation=False: F.gelu(
        x, approximate="tanh" if tanh_approximation else "none"
    ),
    "clamp": lambda x, min=None, max=None: torch.clamp(x, min, max),
    "compare": lambda a, b, predicate: getattr(torch, predicate)(a, b),
    "where": torch.where,
    "linear": F.linear,
    "addmm": lambda c, a, b, beta=1.0, alpha=1.0: scaled(beta, c) + alpha * (a @ b),
    "amax": lambda x, dims, keepdim=False: torch.amax(x, dims, keepdim),
    "amin": lambda x, dims, keepdim=False: torch.amin(x, dims, keepdim),
    "conv": conv,
    "max_pool": max_pool,
    "avg_pool": avg_pool,
    "pad": lambda x, low, high, value=0.0: F.pad(
        x, [by for pair in zip(low[::-1], high[::-1], strict=True) for by in pair], value=value
    ),
    "flip": lambda x, dims: x.flip(dims),
    "batch_norm": batch_norm,
    "batch_matmul": lambda a, b, transpose_rhs=False: a @ (b.mT if transpose_rhs else b),
    "softmax": torch.softmax,
    "log_softmax": torch.log_softmax,
    "layer_norm": lambda x, *rest, **attributes: layer_norm(x, rest, **attributes),
    "permute": lambda x, permutation: x.permute(permutation),
    "slice": lambda x, dim, start, end, step=1: torch.ops.aten.slice(x, dim, start, end, step),
    "select": lambda x, dim, index: x.select(dim, index),
    "unsqueeze": lambda x, dim: x.unsqueeze(dim),
    "detach": torch.detach,
    "squeeze": lambda x, dims: x.squeeze(tuple(dims)),
    "cat": lambda *xs, dim: torch.cat(xs, dim),
    "stack": lambda *xs, dim: torch.stack(xs, dim),
} | UNARY | BINARY  # fmt: skip


def reduce(name: str, x: torch.Tensor, dims: list[int], keepdim: bool = False) -> torch.Tensor:
    if name != "prod":
        # No dimensions at all, in the dialect: nothing to sum over.
        return getattr(torch, name)(x, dims, keepdim, dtype=x.dtype) if dims else x
    for dim in sorted(dims, reverse=True):
        x = torch.prod(x, dim, keepdim, dtype=x.dtype)
    return x


def evaluate(operation: re.Match, inputs: list[torch.Tensor], tensors: dict) -> list[torch.Tensor]:
    name = operation["name"].removeprefix("pfcn.")
    attributes = {}
    for part in split(operation["attributes"] or ""):
        key, _, value = part.partition(" = ")
        attributes[key] = parse_attribute(value) if value else True
    if name == "opaque":
        return opaque(inputs, **attributes)
    sizes, dtype = parse_type(operation["outputs"])
    match name:
        case "parameter":
            result = tensors[attributes["path"]].detach()
        case "constant":
            result = attributes["value"]
        case "cast":
            result = inputs[0].to(dtype)
        case "reshape":
            lead = 0
            given = parse_type(operation["inputs"])[0]
            while lead < min(len(given), len(sizes)) and given[lead] == sizes[lead]:
                sizes[lead] = inputs[0].shape[lead]
                lead += 1
            result = inputs[0].reshape(sizes)
        case "expand":
            result = inputs[0].expand(sizes)
        case "sum" | "mean" | "prod":
            result = reduce(name, inputs[0], **attributes)
        case _:
            result = OPS[name](*inputs, **attributes)
    assert result.dtype == dtype, (operation.group(), result.dtype)
    assert len(sizes) == result.dim(), (operation.group(), result.shape)
    for said, size in zip(sizes, result.shape, strict=True):
        assert said in (-1, size), (operation.group(), result.shape)
    return [result]


COMPOSED = re.compile(r"\s*(%\w+) = \"pfcn.composed\"\(([^)]*)\)")


def run(model, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """The results of `forward`; of composed operators, those of what they are composed of."""
    values = {f"%arg{i}": tensor.detach() for i, tensor in enumerate(inputs)}
    tensors = model.tensors
    composed = None  # the result and the operands of the op whose body this is
    for line in model.text(generic=True).splitlines():
        if begin := COMPOSED.match(line):
            composed = begin.group(1), [name.strip() for name in begin.group(2).split(",") if name]
            continue
        if composed and line.strip().startswith("^bb0"):
            arguments = re.findall(r"(%\w+): tensor", line)
            outer = [values[name] for name in composed[1]]
            values |= dict(zip(arguments, outer, strict=True))
            continue
        if composed and (end := re.match(r"\s*\"pfcn.yield\"\((%\w+)\)", line)):
            values[composed[0]] = values[end.group(1)]
            composed = None
            continue
        operation = OPERATION.match(line)
        if not operation:
            continue
        operands = [values[name.strip()] for name in operation["operands"].split(",") if name]
        if operation["name"] == "func.return":
            return operands
        results = evaluate(operation, operands, tensors)
        name = operation["results"]
        values[name] = results[0]
        values |= {f"{name}#{i}": result for i, result in enumerate(results)}
    raise AssertionError("forward returns nothing")
