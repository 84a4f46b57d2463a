"""Runs functions of the pfcn dialect on torch tensors, straight from pfcn-opt's generic form.

The reference that the passes are tested against: groups are run instance by instance, kernels
all at once, and `pfcn.empty` is full of NaN, so a place that nothing writes shows.
"""

import re
import zlib

import torch

UNARY = {
    "neg": torch.neg,
    "abs": torch.abs,
    "relu": torch.relu,
    "exp": torch.exp,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "silu": torch.nn.functional.silu,
    "sin": torch.sin,
    "cos": torch.cos,
}
BINARY = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
}
REDUCTION = {"sum": torch.sum, "mean": torch.mean, "amax": torch.amax, "amin": torch.amin}
COMPARE = ["eq", "ne", "lt", "le", "gt", "ge"]
TO_END = 2**63 - 1


class Access:
    """`#pfcn.access`: what one instance sees of a tensor."""

    def __init__(self, text):
        self.kind = text.split()[0]
        field = lambda name, default: (
            int(m[1]) if (m := re.search(rf"\b{name} (-?\d+)", text)) else default
        )
        self.dim, self.size = field("dim", 0), field("size", 1)
        self.stride, self.offset = field("stride", 1), field("offset", 0)
        table = re.search(r"at \[([^\]]*)\]", text)
        self.table = [int(start) for start in table[1].split(",")] if table else None

    def view(self, whole, i):
        if self.kind == "shared":
            return whole
        start = self.table[i] if self.table else self.offset + i * self.stride
        if self.kind == "select":
            return whole.select(self.dim, start)
        return whole.narrow(self.dim, start, self.size)


def parse_type(text):
    """The shape (None where dynamic) of a tensor type."""
    inner = re.fullmatch(r"tensor<(.*)>", text.strip())[1]
    *sizes, _ = inner.split("x")
    return [None if size == "?" else int(size) for size in sizes]


def parse_attributes(text):
    attributes, i = {}, 0
    while m := re.compile(r"\s*,?\s*(\w+)( = )?").match(text, i):
        i = m.end()
        if not m[2]:
            attributes[m[1]] = True
            continue
        depth, start, quoted = 0, i, False
        while i < len(text) and (depth or quoted or text[i] != ","):
            quoted ^= text[i] == '"'
            if not quoted:
                depth += (text[i] in "<[({") - (text[i] in ">])}")
            i += 1
        attributes[m[1]] = text[start:i].strip()
    return attributes


def parse_value(text):
    if "#pfcn.access" in text:
        return [Access(part) for part in re.findall(r"#pfcn\.access<((?:[^<>])*)>", text)]
    if text.startswith("array<i64"):
        return [int(x) for x in re.findall(r"-?\d+", text.split(":", 1)[1])] if ":" in text else []
    if text.startswith("["):
        return re.findall(r'"([^"]*)"', text)
    if text.startswith('"'):
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    number = text.split(":")[0].strip()
    return float(number) if re.search(r"[.e]", number) else int(number)


class Op:
    pass


OP = re.compile(
    r'\s*(?:(?P<results>%[^=]*?) = )?"(?P<name>[\w.]+)"\((?P<operands>[^)]*)\)'
    r"(?: <\{(?P<properties>.*?)\}>)?(?P<region> \(\{)?(?: \{(?P<discardable>.*?)\})?(?: : (?P<type>.*))?$"
)


def parse(text):
    """The functions of a module in generic form, by name: (argument names, ops)."""
    lines = iter(text.splitlines())
    functions = {}

    def block():
        arguments, ops = [], []
        for line in lines:
            stripped = line.strip()
            if stripped.startswith("^bb0"):
                arguments = re.findall(r"(%\w+):", stripped)
            elif stripped.startswith("})"):
                return arguments, ops, stripped
            elif stripped:
                ops.append(operation(line))
        raise ValueError("unterminated region")

    def operation(line):
        m = OP.match(line)
        if not m:
            raise ValueError(f"cannot parse: {line}")
        op = Op()
        op.name = m["name"]
        op.operands = re.findall(r"%[\w#]+", m["operands"])
        op.results = []
        for name in re.findall(r"%\w+(?::\d+)?", m["results"] or ""):
            base, _, count = name.partition(":")
            op.results += [f"{base}#{i}" for i in range(int(count))] if count else [base]
        op.raw = parse_attributes((m["properties"] or "").replace("->", "to"))
        op.attr = lambda key, default=None: parse_value(op.raw[key]) if key in op.raw else default
        signature = m["type"] or ""
        if m["region"]:
            op.arguments, op.body, tail = block()
            signature = tail.split(" : ", 1)[1] if " : " in tail else ""
        op.types = re.findall(r"tensor<[^>]*>", signature.rsplit("->", 1)[-1])
        if op.name == "func.func":
            functions[parse_value(op.raw["sym_name"])] = (op.arguments, op.body)
        return op

    for line in lines:
        if '"func.func"' in line:
            operation(line)
    return functions


def parameter(path, shape):
    generator = torch.Generator().manual_seed(zlib.crc32(path.encode()))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def reshape(x, shape):
    common = 0
    while common < min(len(shape), x.dim()) and shape[common] in (None, x.shape[common]):
        if shape[common] is None and sum(s is None for s in shape[common:]) == 1:
            break
        common += 1
    sizes = list(x.shape[:common]) + [-1 if size is None else size for size in shape[common:]]
    return x.reshape(sizes)


def layer_norm(op, x, affine):
    dims = list(range(-op.attr("normalized_rank"), 0))
    y = (x - x.mean(dims, keepdim=True)) / torch.sqrt(
        x.var(dims, unbiased=False, keepdim=True) + op.attr("eps")
    )
    has_weight, has_bias = parse_value(op.raw["operandSegmentSizes"].replace("i32", "i64"))[1:]
    affine = list(affine)
    if has_weight:
        y = y * affine.pop(0)
    return y + affine.pop(0) if has_bias else y


def constant(op):
    text = op.raw["value"]
    shape = parse_type(re.search(r": (tensor<.*>)$", text)[1])
    values = [float(x) for x in re.findall(r"-?\d+\.?\d*(?:e[+-]\d+)?", text.split(" : ")[0])]
    values = torch.tensor(values, dtype=torch.float64)
    return (
        torch.full(shape, values[0].item(), dtype=torch.float64)
        if len(values) == 1
        else values.reshape(shape)
    )


def group(op, operands):
    """`pfcn.instances` and `pfcn.kernel`."""
    accesses, outs = (
        op.attr("input_accesses") if "#" in op.raw["input_accesses"] else [],
        op.attr("init_accesses"),
    )
    inputs, inits = operands[: len(accesses)], [init.clone() for init in operands[len(accesses) :]]
    count = op.attr("count")
    cut = lambda i: [access.view(whole, i) for access, whole in zip(accesses, inputs)]
    if op.name == "pfcn.instances":
        results = [run_block(op.arguments, op.body, cut(i)) for i in range(count)]
    else:
        whole = [
            x if access.kind == "shared" else torch.stack([access.view(x, i) for i in range(count)])
            for access, x in zip(accesses, inputs)
        ]
        batched = run_block(op.arguments, op.body, whole)
        results = [[value[i] for value in batched] for i in range(count)]
    for i, mine in enumerate(results):
        for access, init, value in zip(outs, inits, mine):
            place = access.view(init, i)
            assert place.shape == value.shape, (place.shape, value.shape)
            place.copy_(value)
    return inits


def run_op(op, x):
    dialect, name = op.name.split(".")
    shape = parse_type(op.types[0]) if op.types else []
    if dialect == "arith":
        return {
            "constant": lambda: op.attr("value"),
            "muli": lambda: x[0] * x[1],
            "divui": lambda: x[0] // x[1],
        }[name]()
    if name == "dim":
        return x[0].shape[x[1]]
    if name in UNARY:
        return UNARY[name](x[0])
    if name in BINARY:
        return BINARY[name](x[0], x[1])
    if name in REDUCTION:
        return REDUCTION[name](x[0], op.attr("dims"), keepdim=op.attr("keepdim", False))
    dim = op.attr("dim")
    return {
        "leaky_relu": lambda: torch.nn.functional.leaky_relu(x[0], op.attr("negative_slope")),
        "clamp": lambda: torch.clamp(x[0], op.attr("min"), op.attr("max")),
        "compare": lambda: compare(op, x),
        "where": lambda: torch.where(*x),
        "linear": lambda: torch.nn.functional.linear(*x),
        "matmul": lambda: torch.matmul(*x),
        "batch_matmul": lambda: torch.matmul(x[0], x[1].mT if "transpose_rhs" in op.raw else x[1]),
        "addmm": lambda: torch.addmm(*x, beta=op.attr("beta", 1.0), alpha=op.attr("alpha", 1.0)),
        "softmax": lambda: torch.softmax(x[0], dim),
        "log_softmax": lambda: torch.log_softmax(x[0], dim),
        "layer_norm": lambda: layer_norm(op, x[0], x[1:]),
        "reshape": lambda: reshape(x[0], shape),
        "permute": lambda: x[0].permute(op.attr("permutation")),
        "slice": lambda: x[0][
            (slice(None),) * dim + (slice(op.attr("start"), op.attr("end"), op.attr("step", 1)),)
        ],
        "select": lambda: x[0].select(dim, op.attr("index")),
        "unsqueeze": lambda: x[0].unsqueeze(dim),
        "squeeze": lambda: x[0].squeeze(op.attr("dims")),
        "expand": lambda: x[0].expand([-1 if s is None else s for s in shape]),
        "cat": lambda: torch.cat(x, dim),
        "stack": lambda: torch.stack(x, dim),
        "constant": lambda: constant(op),
        "parameter": lambda: parameter(op.attr("path"), shape),
        "parameter_stack": lambda: torch.stack(
            [parameter(path, shape[1:]) for path in op.attr("paths")]
        ),
        "empty": lambda: empty(shape, x),
        "gather_instances": lambda: torch.stack(
            [op.attr("access")[0].view(x[0], i) for i in range(shape[0])]
        ),
        "scatter_instances": lambda: scatter(op, x[0], x[1].clone()),
        "opaque": lambda: torch.cumsum(x[0], 1),
    }[name]()


def compare(op, x):
    return getattr(
        torch, next(name for name in COMPARE if re.search(rf"\b{name}>", op.raw["predicate"]))
    )(*x)


def empty(shape, sizes):
    sizes = list(sizes)
    return torch.full(
        [sizes.pop(0) if s is None else s for s in shape], torch.nan, dtype=torch.float64
    )


def scatter(op, stacked, whole):
    for i, value in enumerate(stacked):
        op.attr("access")[0].view(whole, i).copy_(value)
    return whole


def run_block(arguments, ops, inputs):
    values = dict(zip(arguments, inputs))
    for op in ops:
        operands = [values[name] for name in op.operands]
        if op.name in ("func.return", "pfcn.yield"):
            return operands
        if op.name in ("pfcn.instances", "pfcn.kernel"):
            results = group(op, operands)
        else:
            results = [run_op(op, operands)]
        for name, result, text in zip(op.results, results, op.types or [None]):
            if isinstance(result, torch.Tensor):
                expected = parse_type(text)
                assert len(expected) == result.dim(), (op.name, text, result.shape)
                assert all(a in (None, b) for a, b in zip(expected, result.shape)), (
                    op.name,
                    text,
                    result.shape,
                )
            values[name] = result


def run(text, name, inputs):
    """The results of function `name` of a module in generic form."""
    arguments, ops = parse(text)[name]
    return run_block(arguments, ops, inputs)
