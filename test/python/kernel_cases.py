"""Kernels as text, with what torch computes in their place.

`from_case` puts one op of test_linalg_numerics.py into a group of instances; `random_kernel` draws
a small body, how its operands and results vary with the instance, and where they lie in memory.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

DTYPES = {
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "f32": torch.float32,
    "f64": torch.float64,
    "i1": torch.bool,
    "i8": torch.int8,
    "i32": torch.int32,
    "i64": torch.int64,
}
COUNTS = [1, 2, 3, 5, 8, 15, 16, 17, 33, 100]
BATCHES = [1, 2, 15, 16, 17, 33]
WIDTHS = [1, 2, 3, 4, 5, 7, 8, 16, 20, 33]


@dataclass
class Access:
    kind: str  # shared, slice, select
    dim: int = 0
    size: int = 0
    stride: int = 1
    offset: int = 0

    def __str__(self) -> str:
        if self.kind == "shared":
            return "#pfcn.access<shared>"
        size = f" size {self.size}" if self.kind == "slice" else ""
        return (
            f"#pfcn.access<{self.kind} dim {self.dim}{size} stride {self.stride}"
            f" offset {self.offset}>"
        )

    def get(self, whole: torch.Tensor, i: int) -> torch.Tensor:
        start = self.offset + i * self.stride
        match self.kind:
            case "shared":
                return whole
            case "select":
                return whole.select(self.dim, start)
        return whole.narrow(self.dim, start, self.size)


@dataclass
class Operand:
    """A tensor of the caller: its values, its type in the text, and the strides it shall have."""

    values: torch.Tensor
    type: str
    access: Access
    strides: tuple[int, ...]
    is_stack: bool = False


@dataclass
class Kernel:
    name: str
    count: int
    inputs: list[Operand]
    outputs: list[Operand]
    arguments: list[str]  # type of each block argument
    lines: list[str]  # the body, without yield
    yielded: list[tuple[str, str]]  # name and type
    # For one instance: the values of the block arguments to those yielded.
    compute: Callable[[list[torch.Tensor]], list[torch.Tensor]]
    about: str = ""
    specials: bool = False  # NaN and Inf among the inputs
    tolerance: float | None = None

    def text(self) -> str:
        wholes = [(f"%x{i}", x) for i, x in enumerate(self.inputs)]
        inits = [(f"%i{i}", x) for i, x in enumerate(self.outputs)]
        given = [(name, x) for name, x in wholes + inits if not x.is_stack]
        lines = [
            f"func.func @f_{self.name}({', '.join(f'{n}: {x.type}' for n, x in given)})"
            f" -> ({', '.join(x.type for _, x in inits)}) {{"
        ]
        for name, x in wholes:
            if x.is_stack:
                paths = ", ".join(f'"{name[1:]}.{i}"' for i in range(self.count))
                lines.append(f"  {name} = pfcn.parameter_stack [{paths}] : {x.type}")

        def side(operands):
            return (
                f"({', '.join(n for n, _ in operands)} : {', '.join(x.type for _, x in operands)})"
                f" [{', '.join(str(x.access) for _, x in operands)}]"
            )

        results = "%r" if len(inits) == 1 else f"%r:{len(inits)}"
        lines.append(
            f'  {results} = pfcn.instances "{self.name}" count {self.count}'
            f" ins{side(wholes)} outs{side(inits)} {{"
        )
        arguments = ", ".join(f"%a{i}: {t}" for i, t in enumerate(self.arguments))
        lines.append(f"  ^bb0({arguments}):" if arguments else "  ^bb0:")
        lines += ["    " + line for line in self.lines]
        names, types = zip(*self.yielded, strict=True)
        lines.append(f"    pfcn.yield {', '.join(names)} : {', '.join(types)}")
        init_types = ", ".join(x.type for _, x in inits)
        lines.append(f"  }} -> {init_types}")
        parts = "%r" if len(inits) == 1 else ", ".join(f"%r#{i}" for i in range(len(inits)))
        lines.append(f"  return {parts} : {init_types}\n}}\n")
        return "\n".join(lines)

    def expected(self, convert: Callable = lambda t: t) -> list[torch.Tensor]:
        """The wholes of the results; what no instance writes is left as it is."""
        wholes = [convert(x.values.clone()) for x in self.outputs]
        for i in range(self.count):
            arguments = [convert(x.access.get(x.values, i)) for x in self.inputs]
            for whole, output, value in zip(
                wholes, self.outputs, self.compute(arguments), strict=True
            ):
                part = output.access.get(whole, i)
                assert part.shape == value.shape, (part.shape, value.shape)
                part.copy_(value)
        return wholes


def draw_values(shape, dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    if dtype == torch.bool:
        return torch.rand(shape, generator=generator) > 0.5
    if not dtype.is_floating_point:
        return torch.randint(-9, 10, shape, generator=generator).to(dtype)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def type_of(shape, element: str) -> str:
    return f"tensor<{''.join(f'{size}x' for size in shape)}{element}>"


def contiguous_strides(shape) -> tuple[int, ...]:
    strides, stride = [], 1
    for size in reversed(shape):
        strides.insert(0, stride)
        stride *= max(size, 1)
    return tuple(strides)


def draw_strides(shape, rng: random.Random) -> tuple[int, ...]:
    """What a caller may bring: the innermost dimension is contiguous, the others lie anyhow."""
    if len(shape) < 2 or rng.random() < 0.4:
        return contiguous_strides(shape)
    order = list(range(len(shape) - 1))
    rng.shuffle(order)
    strides = [0] * len(shape)
    strides[-1] = 1
    stride = shape[-1] + rng.choice([0, 0, 1, 7])
    for dim in order:
        strides[dim] = stride
        stride = stride * shape[dim] + rng.choice([0, 0, 3])
    return tuple(strides)


# ---- one op in a group --------------------------------------------------------------------------


def from_case(case, name: str, count: int, rng: random.Random) -> Kernel:
    """`case`: a Case of test_linalg_numerics.py."""
    shared = [rng.random() < 0.25 and len(case.inputs) > 1 for _ in case.inputs]
    if all(shared):
        shared[0] = False
    generator = torch.Generator().manual_seed(rng.randrange(1 << 30))

    def stacked(spec: str) -> tuple[str, list[int]]:
        *sizes, element = spec.split("x")
        printed = ["?" if size.endswith("?") else size for size in sizes]
        return type_of(printed, element), [int(size.rstrip("?")) for size in sizes]

    inputs, arguments = [], []
    for i, spec in enumerate(case.inputs):
        element = spec.split("x")[-1]
        type_, shape = stacked(spec)
        arguments.append(type_)
        whole_shape = shape if shared[i] else [count, *shape]
        values = draw_values(whole_shape, DTYPES[element], generator)
        if case.special and values.is_floating_point():
            values = case.with_specials(values, 3 * i)
        is_stack = not shared[i] and "?" not in type_ and rng.random() < 0.5
        inputs.append(
            Operand(
                values,
                type_ if shared[i] else type_.replace("tensor<", f"tensor<{count}x"),
                Access("shared") if shared[i] else Access("select"),
                contiguous_strides(whole_shape) if is_stack else draw_strides(whole_shape, rng),
                is_stack,
            )
        )
    element = case.result.split("x")[-1]
    type_, shape = stacked(case.result)
    whole = torch.zeros([count, *shape], dtype=DTYPES[element])
    output = Operand(
        whole,
        type_.replace("tensor<", f"tensor<{count}x"),
        Access("select"),
        draw_strides(whole.shape, rng),
    )
    body = case.op.replace("%", "%a").replace("%aconst", "%const").format(*arguments, r=type_)
    lines = body.split("\n")
    lines[-1] = "%r = " + lines[-1]
    return Kernel(
        name,
        count,
        inputs,
        [output],
        arguments,
        lines,
        [("%r", type_)],
        lambda values: [case.expected(list(values))],
        about=f"{case.name}, {count} instances",
        specials=case.special,
        tolerance=case.tolerance,
    )


# ---- random bodies ------------------------------------------------------------------------------

UNARY = {
    "neg": torch.neg,
    "abs": torch.abs,
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "mish": F.mish,
    "erf": torch.erf,
    "sin": torch.sin,
    "cos": torch.cos,
    "hardswish": F.hardswish,
    "log_sigmoid": F.logsigmoid,
    "gelu": F.gelu,
    "softplus": F.softplus,
}
BINARY = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
}
# Of what is not squashed, so that values stay small.
SQUASH = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "sin": torch.sin}


@dataclass
class Value:
    name: str
    shape: list  # ints, and "?" for the dynamic batch
    element: str

    @property
    def type(self) -> str:
        return type_of(self.shape, self.element)


@dataclass
class Generator:
    rng: random.Random
    name: str
    element: str
    count: int
    batch: int
    dynamic: bool
    inputs: list[Operand] = field(default_factory=list)
    arguments: list[Value] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    steps: list = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    constants: int = 0

    def __post_init__(self):
        self.torch_generator = torch.Generator().manual_seed(self.rng.randrange(1 << 30))

    def size(self, size) -> int:
        return self.batch if size == "?" else size

    def sizes(self, shape) -> list[int]:
        return [self.size(size) for size in shape]

    # -- operands

    def place(self, shape, is_output: bool) -> tuple[Access, list]:
        """An access under which each instance sees `shape`, and the shape of the whole."""
        rng, n = self.rng, self.count
        static = [d for d, size in enumerate(shape) if size != "?"]
        kind = rng.choice(["slice", "slice", "select"])
        if kind == "slice" and static:
            dim = rng.choice(static)
            size = shape[dim]
            strides = [size, size, size + rng.choice([1, 3])]
            if not is_output:
                strides.append(rng.randint(1, size))
            stride, offset = rng.choice(strides), rng.choice([0, 0, 1, 5])
            whole = list(shape)
            whole[dim] = offset + (n - 1) * stride + size + rng.choice([0, 0, 2])
            return Access("slice", dim, size, stride, offset), whole
        dim = rng.choice([0, 1, len(shape)])
        dim = min(dim, len(shape))
        stride, offset = rng.choice([1, 1, 2]), rng.choice([0, 0, 2])
        whole = list(shape)
        whole.insert(dim, offset + (n - 1) * stride + 1 + rng.choice([0, 1]))
        return Access("select", dim, 0, stride, offset), whole

    def operand(self, access: Access, whole: list, element: str, is_stack=False, scale=1.0):
        sizes = self.sizes(whole)
        values = draw_values(sizes, DTYPES[element], self.torch_generator)
        if values.is_floating_point():
            values *= scale
        strides = contiguous_strides(sizes) if is_stack else draw_strides(sizes, self.rng)
        return Operand(values, type_of(whole, element), access, strides, is_stack)

    def argument(self, shape, element=None, is_parameter=False, scale=1.0) -> Value:
        element = element or self.element
        if is_parameter:
            is_shared = self.rng.random() < 0.15
            access = Access("shared") if is_shared else Access("select")
            whole = list(shape) if is_shared else [self.count, *shape]
            operand = self.operand(access, whole, element, is_stack=not is_shared, scale=scale)
        else:
            if self.rng.random() < 0.15 and self.arguments:
                access, whole = Access("shared"), list(shape)
            else:
                access, whole = self.place(shape, is_output=False)
            operand = self.operand(access, whole, element)
        self.inputs.append(operand)
        value = Value(f"%a{len(self.arguments)}", list(shape), element)
        self.arguments.append(value)
        return value

    # -- ops

    def op(self, text: str, operands: list[Value], shape, compute, element=None) -> Value:
        result = Value(f"%v{len(self.steps)}", list(shape), element or operands[0].element)
        names = {f"n{i}": x.name for i, x in enumerate(operands)}
        types = {f"t{i}": x.type for i, x in enumerate(operands)}
        self.lines.append(f"{result.name} = " + text.format(**names, **types, t=result.type))
        self.steps.append((result.name, compute, [x.name for x in operands], result))
        self.values.append(result)
        return result

    def pick(self) -> Value:
        return self.values[-1] if self.rng.random() < 0.75 else self.rng.choice(self.values)

    def unary(self, x: Value, table=None) -> Value:
        name, function = self.rng.choice(list((table or UNARY).items()))
        return self.op(f"pfcn.{name} {{n0}} : {{t}}", [x], x.shape, function)

    def step_unary(self, x):
        self.unary(x)

    def step_attributes(self, x):
        text, function = self.rng.choice(
            [
                (
                    "leaky_relu {n0} {{negative_slope = 0.1 : f64}}",
                    lambda v: F.leaky_relu(v, 0.1),
                ),
                ("elu {n0} {{alpha = 1.5 : f64}}", lambda v: F.elu(v, 1.5)),
                (
                    "clamp {n0} {{min = -0.5 : f64, max = 0.75 : f64}}",
                    lambda v: v.clamp(-0.5, 0.75),
                ),
            ]
        )
        self.op(f"pfcn.{text} : {{t}}", [x], x.shape, function)

    def step_linear(self, x):
        if not x.shape or x.shape[-1] == "?":
            return
        k, out = x.shape[-1], self.rng.choice(WIDTHS)
        w = self.argument([out, k], is_parameter=True, scale=k**-0.5)
        operands = [x, w]
        if self.rng.random() < 0.7:
            operands.append(self.argument([out], is_parameter=True))
        names = ", ".join(f"{{n{i}}}" for i in range(len(operands)))
        types = ", ".join(f"{{t{i}}}" for i in range(len(operands)))
        self.op(f"pfcn.linear {names} : {types} -> {{t}}", operands, [*x.shape[:-1], out], F.linear)

    step_linear2 = step_linear

    def step_matmul(self, x):
        if len(x.shape) < 2 or x.shape[-1] == "?":
            return
        k, out = x.shape[-1], self.rng.choice(WIDTHS)
        if self.rng.random() < 0.5:
            w = self.argument([k, out], is_parameter=True, scale=k**-0.5)
            self.op(
                "pfcn.matmul {n0}, {n1} : {t0}, {t1} -> {t}",
                [x, w],
                [*x.shape[:-1], out],
                torch.matmul,
            )
        elif len(x.shape) == 2:
            w = self.argument([k, out], is_parameter=True, scale=k**-0.5)
            bias = self.argument([out], is_parameter=True)
            self.op(
                "pfcn.addmm {n0}, {n1}, {n2} {{alpha = 0.5 : f64, beta = 2.0 : f64}}"
                " : {t0}, {t1}, {t2} -> {t}",
                [bias, x, w],
                [x.shape[0], out],
                lambda b, a, c: torch.addmm(b, a, c, alpha=0.5, beta=2.0),
            )

    def step_binary(self, x):
        rng = self.rng
        same = [v for v in self.values if v.shape == x.shape and v.element == x.element]
        other = rng.choice(same)
        if rng.random() < 0.5 and x.shape:
            # A parameter that broadcasts.
            shape = [size if rng.random() < 0.7 and size != "?" else 1 for size in x.shape]
            shape = shape[rng.randrange(len(shape)) :]
            other = self.argument(shape, is_parameter=True)
        name, function = rng.choice(list(BINARY.items()))
        operands = [x, other] if rng.random() < 0.5 else [other, x]
        shape = [
            a if b == 1 else b
            for a, b in zip(x.shape, [1] * (len(x.shape) - len(other.shape)) + other.shape)
        ]
        result = self.op(
            f"pfcn.{name} {{n0}}, {{n1}} : {{t0}}, {{t1}} -> {{t}}", operands, shape, function
        )
        if name == "mul":
            self.unary(result, SQUASH)

    def step_constant(self, x):
        dtype = DTYPES[x.element]
        number = self.rng.choice([0.5, -1.25, 2.0])
        self.constants += 1
        name = f"%c{self.constants}"
        if self.rng.random() < 0.5 or not x.shape or x.shape[-1] == "?":
            self.lines.append(f"{name} = pfcn.constant dense<{number}> : tensor<{x.element}>")
            shape, constant = [], torch.tensor(number, dtype=dtype)
        else:
            numbers = [number + i % 7 * 0.25 for i in range(x.shape[-1])]
            type_ = type_of(x.shape[-1:], x.element)
            self.lines.append(f"{name} = pfcn.constant dense<{numbers}> : {type_}")
            shape, constant = x.shape[-1:], torch.tensor(numbers, dtype=dtype)
        operator, function = self.rng.choice([("add", torch.add), ("mul", torch.mul)])
        type_ = type_of(shape, x.element)
        self.op(
            f"pfcn.{operator} {{n0}}, {name} : {{t0}}, {type_} -> {{t}}",
            [x],
            x.shape,
            lambda v: function(v, constant.to(v.dtype)),
        )

    def step_where(self, x):
        """Of comparisons of inputs only: rounding must not decide."""
        raw = [v for v in self.arguments if v.shape == x.shape and v.element == x.element]
        if len(raw) < 2:
            return
        a, b = self.rng.sample(raw, 2)
        predicate = self.rng.choice(["lt", "ge", "ne"])
        condition = self.op(
            f"pfcn.compare {predicate} {{n0}}, {{n1}} : {{t0}}, {{t1}} -> {{t}}",
            [a, b],
            x.shape,
            getattr(torch, predicate),
            element="i1",
        )
        self.values.pop()
        self.op(
            "pfcn.where {n0}, {n1}, {n2} : {t0}, {t1}, {t2} -> {t}",
            [condition, x, a],
            x.shape,
            torch.where,
            element=x.element,
        )

    def static_dims(self, x) -> list[int]:
        return [d for d, size in enumerate(x.shape) if size != "?"]

    def step_softmax(self, x):
        dims = self.static_dims(x)
        if dims:
            dim = self.rng.choice([dims[-1], self.rng.choice(dims)])
            name, function = self.rng.choice(
                [("softmax", torch.softmax), ("log_softmax", torch.log_softmax)]
            )
            self.op(
                f"pfcn.{name} {{n0}} dim {dim} : {{t}}", [x], x.shape, lambda v: function(v, dim)
            )

    def step_layer_norm(self, x):
        rank = 1
        while rank < len(x.shape) and x.shape[-rank - 1] != "?" and self.rng.random() < 0.3:
            rank += 1
        if not x.shape or "?" in x.shape[-rank:]:
            return
        normalized = x.shape[-rank:]
        operands, text = [x], "pfcn.layer_norm {n0}"
        for kind in ("weight", "bias"):
            if self.rng.random() < 0.6:
                text += f" {kind} {{n{len(operands)}}} : {{t{len(operands)}}}"
                operands.append(self.argument(normalized, is_parameter=True))
            else:
                operands.append(None)
        has = [o is not None for o in operands]
        real = [o for o in operands if o is not None]
        if not has[1] and has[2]:
            text = text.replace("{n2}", "{n1}").replace("{t2}", "{t1}")

        def compute(v, *rest):
            rest = list(rest)
            weight = rest.pop(0) if has[1] else None
            bias = rest.pop(0) if has[2] else None
            return F.layer_norm(v, v.shape[-rank:], weight, bias, 0.1)

        text += f" {{{{normalized_rank = {rank} : i64, eps = 0.1 : f64}}}} : {{t}}"
        self.op(text, real, x.shape, compute)

    def step_reduce(self, x):
        dims = [d for d in self.static_dims(x) if self.rng.random() < 0.6]
        if not dims:
            return
        keep = self.rng.random() < 0.5
        name = self.rng.choice(["sum", "mean", "amax", "amin"])
        shape = [1 if d in dims else s for d, s in enumerate(x.shape) if keep or d not in dims]
        functions = {
            "sum": lambda v: v.sum(dims, keepdim=keep),
            "mean": lambda v: v.mean(dims, keepdim=keep),
            "amax": lambda v: v.amax(dims, keepdim=keep),
            "amin": lambda v: v.amin(dims, keepdim=keep),
        }
        attribute = " {{keepdim = true}}" if keep else ""
        result = self.op(
            f"pfcn.{name} {{n0}} dims {dims}{attribute} : {{t0}} -> {{t}}",
            [x],
            shape,
            functions[name],
        )
        if keep and self.rng.random() < 0.6:
            self.op("pfcn.sub {n0}, {n1} : {t0}, {t1} -> {t}", [x, result], x.shape, torch.sub)
        elif self.rng.random() < 0.6:
            self.unary(result, SQUASH)

    def step_permute(self, x):
        if len(x.shape) < 2:
            return
        order = list(range(len(x.shape)))
        self.rng.shuffle(order)
        self.op(
            f"pfcn.permute {{n0}} dims {order} : {{t0}} -> {{t}}",
            [x],
            [x.shape[d] for d in order],
            lambda v: v.permute(order),
        )

    def step_reshape(self, x):
        """Merges two neighbours, or splits one."""
        rng, shape = self.rng, list(x.shape)
        pairs = [d for d in range(len(shape) - 1) if shape[d] != "?" and shape[d + 1] != "?"]
        if pairs and rng.random() < 0.5:
            d = rng.choice(pairs)
            shape[d : d + 2] = [shape[d] * shape[d + 1]]
        else:
            dims = self.static_dims(x)
            if not dims or len(shape) > 4:
                return
            d = rng.choice(dims)
            factors = [f for f in range(1, shape[d] + 1) if shape[d] % f == 0]
            factor = rng.choice(factors)
            shape[d : d + 1] = [factor, shape[d] // factor]
        if "?" in shape and shape.index("?") != x.shape.index("?"):
            return  # behind other dimensions it is not carried over
        self.op(
            "pfcn.reshape {n0} : {t0} to {t}",
            [x],
            shape,
            lambda v: v.reshape(self.sizes(shape)),
        )

    def step_slice(self, x):
        dims = [d for d in self.static_dims(x) if x.shape[d] > 1]
        if not dims:
            return
        d = self.rng.choice(dims)
        size = x.shape[d]
        start = self.rng.randrange(size)
        end = self.rng.randint(start + 1, size)
        step = self.rng.choice([1, 1, 2, 3])
        shape = list(x.shape)
        shape[d] = -(-(end - start) // step)
        index = (slice(None),) * d + (slice(start, end, step),)
        self.op(
            f"pfcn.slice {{n0}} dim {d} from {start} to {end} {{{{step = {step} : i64}}}}"
            " : {t0} -> {t}",
            [x],
            shape,
            lambda v: v[index],
        )

    def step_select(self, x):
        dims = self.static_dims(x)
        if dims and len(x.shape) > 1:
            d = self.rng.choice(dims)
            at = self.rng.randrange(x.shape[d])
            shape = [s for i, s in enumerate(x.shape) if i != d]
            self.op(
                f"pfcn.select {{n0}} dim {d} at {at} : {{t0}} -> {{t}}",
                [x],
                shape,
                lambda v: v.select(d, at),
            )

    def step_unit(self, x):
        units = [d for d, size in enumerate(x.shape) if size == 1]
        if units and self.rng.random() < 0.5:
            d = self.rng.choice(units)
            self.op(
                f"pfcn.squeeze {{n0}} dims [{d}] : {{t0}} -> {{t}}",
                [x],
                [s for i, s in enumerate(x.shape) if i != d],
                lambda v: v.squeeze(d),
            )
        elif len(x.shape) < 4:
            d = self.rng.randint(0, len(x.shape))
            self.op(
                f"pfcn.unsqueeze {{n0}} dim {d} : {{t0}} -> {{t}}",
                [x],
                [*x.shape[:d], 1, *x.shape[d:]],
                lambda v: v.unsqueeze(d),
            )

    def step_expand(self, x):
        shape = [self.rng.choice([1, 2, 5]) if s == 1 else s for s in x.shape]
        if len(shape) < 4 and self.rng.random() < 0.3:
            shape.insert(0, self.rng.choice([2, 3]))
        sizes = self.sizes(shape)
        if shape != x.shape:
            self.op("pfcn.expand {n0} : {t0} to {t}", [x], shape, lambda v: v.expand(sizes))

    def step_cat(self, x):
        dims = self.static_dims(x)
        if not dims:
            return
        d = self.rng.choice(dims)

        def others(shape):
            return [s for i, s in enumerate(shape) if i != d]

        fitting = [
            v
            for v in self.values
            if v.element == x.element
            and len(v.shape) == len(x.shape)
            and others(v.shape) == others(x.shape)
            and v.shape[d] != "?"
        ]
        parts = [x, *(self.rng.choice(fitting) for _ in range(self.rng.choice([1, 2])))]
        shape = list(x.shape)
        shape[d] = sum(v.shape[d] for v in parts)
        self.join("cat", parts, d, shape, lambda *vs: torch.cat(vs, d))

    def step_stack(self, x):
        same = [v for v in self.values if v.shape == x.shape and v.element == x.element]
        parts = [x, self.rng.choice(same)]
        d = self.rng.randint(0, len(x.shape))
        if len(x.shape) < 4:
            shape = [*x.shape[:d], 2, *x.shape[d:]]
            self.join("stack", parts, d, shape, lambda *vs: torch.stack(vs, d))

    def join(self, name, parts, d, shape, compute):
        names = ", ".join(f"{{n{i}}}" for i in range(len(parts)))
        types = ", ".join(f"{{t{i}}}" for i in range(len(parts)))
        self.op(f"pfcn.{name} {names} dim {d} : ({types}) -> {{t}}", parts, shape, compute)

    # -- the whole

    def build(self) -> Kernel:
        rng = self.rng
        b = "?" if self.dynamic else self.batch
        width = rng.choice(WIDTHS)
        shape = rng.choice([[b, width], [b, width], [b, width], [b, rng.choice([2, 3]), width]])
        if not self.dynamic:
            shape = rng.choice([shape, shape, shape, [width], [rng.choice([2, 3]), b, width]])
        self.values.append(self.argument(shape))
        if rng.random() < 0.4:
            self.values.append(self.argument(shape))
        if rng.random() < 0.3:
            self.values.append(self.argument(shape))
        methods = [getattr(self, m) for m in dir(self) if m.startswith("step_")]
        length, tries = rng.randint(1, 6), 0
        while len(self.steps) < length and tries < 40:
            tries += 1
            x = self.pick()
            total = self.count
            for size in self.sizes(x.shape):
                total *= size
            if total > 60000 and len(self.values) > 1:
                x = self.values[0]
            rng.choice(methods)(x)
        results = [self.values[-1]]
        if rng.random() < 0.3:
            results.append(rng.choice(self.values))
        outputs = []
        for value in results:
            access, whole = self.place(value.shape, is_output=True)
            outputs.append(self.operand(access, whole, value.element))
        names = [value.name for value in self.arguments]

        def compute(arguments):
            known = dict(zip(names, arguments, strict=True))
            for name, function, operands, _ in self.steps:
                known[name] = function(*(known[o] for o in operands))
            return [known[value.name] for value in results]

        batch = f"{self.batch}{'?' if self.dynamic else ''}"
        return Kernel(
            self.name,
            self.count,
            self.inputs,
            outputs,
            [value.type for value in self.arguments],
            self.lines,
            [(value.name, value.type) for value in results],
            compute,
            about=f"{self.element}, {self.count} instances, batch {batch}",
        )


def random_kernel(seed: int, name: str, elements=("f32", "f32", "f64", "f16", "bf16")) -> Kernel:
    rng = random.Random(seed)
    while True:
        dynamic = rng.random() < 0.35
        batch = rng.choice([0, *BATCHES] if dynamic else BATCHES)
        generator = Generator(rng, name, rng.choice(elements), rng.choice(COUNTS), batch, dynamic)
        kernel = generator.build()
        if generator.steps:
            kernel.about += f", seed {seed}"
            return kernel
