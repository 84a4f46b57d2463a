"""Random formulas over a tensor and a weight: a list of [operator, operand, …], each step a value.

Values 0 and 1 are the input and the weight. Operators are such that results stay finite and of the
order of one, and no comparison decides on a difference that is all rounding.
"""

from __future__ import annotations

import random

import torch
from torch.nn import functional as F

UNARY = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "exp": lambda a: torch.exp(a.clamp(-3, 2)),
    "log": lambda a: torch.log(a.abs() + 0.5),
    "log1p": lambda a: torch.log1p(a.abs()),
    "sqrt": lambda a: torch.sqrt(a.abs() + 0.2),
    "rsqrt": lambda a: torch.rsqrt(a.abs() + 0.2),
    "reciprocal": lambda a: torch.reciprocal(a.abs() + 0.7),
    "abs": torch.abs,
    "neg": torch.neg,
    "relu": torch.relu,
    "gelu": F.gelu,
    "gelu_tanh": lambda a: F.gelu(a, approximate="tanh"),
    "silu": F.silu,
    "erf": torch.erf,
    "sin": torch.sin,
    "cos": torch.cos,
    "atan": torch.atan,
    "asinh": torch.asinh,
    "expm1": lambda a: torch.expm1(a.clamp(-3, 1)),
    "logsigmoid": F.logsigmoid,
    "softplus": F.softplus,
    "square": lambda a: torch.tanh(a) ** 2,
    "cube": lambda a: torch.tanh(a) ** 3,
    "clamp": lambda a: a.clamp(-0.7, 0.9),
    "where": lambda a: torch.where(a > 0.3, a, a * 0.1),
    "masked_fill": lambda a: a.masked_fill(a < -0.4, -0.4),
    "softmax": lambda a: torch.softmax(a, -1),
    "mean": lambda a: a.mean(-1, keepdim=True),
    "sum": lambda a: torch.tanh(a).sum(-1, keepdim=True),
    "amax": lambda a: a.amax(-1, keepdim=True),
    "var": lambda a: a.var(-1, keepdim=True, correction=0),
    "norm": lambda a: a.norm(dim=-1, keepdim=True),
    "logsumexp": lambda a: a.logsumexp(-1, keepdim=True),
    "flip": lambda a: a.flip(-1),
    "roll": lambda a: a.roll(1, -1),
    "double": lambda a: a.double().tanh().to(a.dtype),
    "cumsum": lambda a: torch.tanh(a.cumsum(-1)),  # not in the dialect
    "erfinv": lambda a: torch.erfinv(0.5 * torch.tanh(a)),
    "sinc": lambda a: torch.sinc(torch.tanh(a)),
}
BINARY = {
    "add": torch.add,
    "sub": lambda a, b: torch.sub(a, b, alpha=0.5),
    "mul": torch.mul,
    "div": lambda a, b: a / (b.abs() + 0.7),
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "atan2": lambda a, b: torch.atan2(a, b.abs() + 0.3),
    "hypot": lambda a, b: torch.hypot(a, b.abs() + 0.1),
    "pow": lambda a, b: torch.pow(a.abs() + 0.3, torch.tanh(b)),
    "lerp": lambda a, b: torch.lerp(a, b, 0.3),
    "addcmul": lambda a, b: torch.addcmul(a, b, b, value=0.2),
    "logaddexp": torch.logaddexp,
    "where2": lambda a, b: torch.where(a > b, a - b, b - a),
    "copysign": lambda a, b: torch.copysign(a.abs() + 0.5, b.detach() + 10),
}
INTEGER_UNARY = {
    "neg": torch.neg,
    "abs": torch.abs,
    "square": lambda a: a * a,
    "clamp": lambda a: a.clamp(1, 7),
    "where": lambda a: torch.where(a > 2, a, a + 3),
    "remainder": lambda a: torch.remainder(a, 5),
    "fmod": lambda a: torch.fmod(a, 5),
    "floor_divide": lambda a: torch.div(a, 3, rounding_mode="floor"),
    "trunc_divide": lambda a: torch.div(a, 3, rounding_mode="trunc"),
    "sum": lambda a: a.sum(-1, keepdim=True, dtype=a.dtype),
    "amax": lambda a: a.amax(-1, keepdim=True),
    "amin": lambda a: a.amin(-1, keepdim=True),
    "prod": lambda a: a.clamp(1, 2).prod(-1, keepdim=True, dtype=a.dtype),
    "flip": lambda a: a.flip(-1),
    "relu": torch.relu,
    "float": lambda a: (a.clamp(-50, 50).to(torch.float32) * 0.5).to(a.dtype),
    "bool": lambda a: a.bool().to(a.dtype),
    "not": torch.bitwise_not,
    "left": lambda a: a << 2,
    "right": lambda a: a >> 1,
    "cumsum": lambda a: a.cumsum(-1, dtype=a.dtype),
}
INTEGER_BINARY = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "remainder2": lambda a, b: torch.remainder(a, b.clamp(1, 6)),
    "divide2": lambda a, b: torch.div(a, b.clamp(1, 6), rounding_mode="floor"),
    "equal": lambda a, b: (a == b).to(a.dtype),
    "less": lambda a, b: torch.where(a < b, a, b + 1),
    "and": torch.bitwise_and,
    "or": torch.bitwise_or,
    "xor": torch.bitwise_xor,
}


def draw(rng: random.Random, dtype: torch.dtype) -> list:
    unary, binary = (UNARY, BINARY) if dtype.is_floating_point else (INTEGER_UNARY, INTEGER_BINARY)
    steps = [[rng.choice(list(binary)), 0, 1]]
    for number in range(3, 3 + rng.randrange(6)):
        operand = rng.choice([number - 1, number - 1, rng.randrange(number)])
        if rng.random() < 0.6:
            steps.append([rng.choice(list(unary)), operand])
        else:
            steps.append([rng.choice(list(binary)), operand, rng.randrange(number)])
    return steps


def run(steps: list, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    values = [x, weight]
    integer = not x.dtype.is_floating_point
    unary, binary = (INTEGER_UNARY, INTEGER_BINARY) if integer else (UNARY, BINARY)
    for name, *operands in steps:
        given = [values[min(i, len(values) - 1)] for i in operands]
        values.append((unary if len(given) == 1 else binary)[name](*given))
    return values[2] + values[-1]  # of the shape of the first step, whatever the last one is
