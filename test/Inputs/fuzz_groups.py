"""Random models of several families of instances, grouped and batched, against the model as it was.

fuzz_groups.py FIRST_SEED COUNT: prints the seed and the model where a result differs.
"""

import random
import subprocess
import sys

import interpret
import torch


class Model:
    """A function in the making. Shapes have "?" or a number as batch."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.batch = self.random.choice([1, 3, "?"])
        self.ops, self.count, self.arguments = [], 0, []

    def name(self):
        self.count += 1
        return f"%v{self.count}"

    def type(self, shape, element="f32"):
        return f"tensor<{''.join(f'{size}x' for size in shape)}{element}>"

    def argument(self, shape):
        self.arguments.append((self.name(), shape))
        return self.arguments[-1]

    def op(self, text, operands, shape, element="f32"):
        """`text` has {r}, {0}, {1}… for names, {t} for the type of the result and {t0}… of operands."""
        result = (self.name(), shape, element)
        names = [operand[0] for operand in operands]
        types = {
            f"t{i}": self.type(o[1], o[2] if len(o) > 2 else "f32") for i, o in enumerate(operands)
        }
        line = text.format(*names, r=result[0], t=self.type(shape, element), **types)
        self.ops.append((result[0], set(names), f"{result[0]} = {line}"))
        return result

    def parameter(self, shape, path=None):
        path = path or f"p{self.count}"
        return self.op(f'pfcn.parameter "{path}" : {{t}}', [], shape)

    def text(self, results):
        """The ops in a random order that keeps operands before users."""
        done, order = {name for name, _ in self.arguments}, []
        rest = list(self.ops)
        keep_order = self.random.random() < 0.5
        while rest:
            ready = [op for op in rest if op[1] <= done]
            op = ready[0] if keep_order else self.random.choice(ready)
            rest.remove(op)
            order.append(op[2])
            done.add(op[0])
        arguments = ", ".join(f"{name}: {self.type(shape)}" for name, shape in self.arguments)
        types = ", ".join(self.type(r[1]) for r in results)
        body = "\n".join(order)
        return f"func.func @f({arguments}) -> ({types}) {{\n{body}\nreturn {', '.join(r[0] for r in results)} : {types}\n}}\n"


UNARY = ["relu", "tanh", "sigmoid", "neg", "sin", "exp", "silu", "abs"]


class Recipe:
    """The body of an instance: the same choices for each instance of a family."""

    def __init__(self, model, seed, shared):
        self.model, self.seed, self.shared = model, seed, shared
        self.shared_parameters = {}

    def own(self, shape, choice):
        """A parameter: of the instance, shared by all, or tied among some."""
        kind = choice.choice(["own", "own", "own", "shared", "tied"])
        key = (choice.random(), kind, tuple(shape))
        if kind == "own":
            return self.model.parameter(shape)
        tie = 0 if kind == "shared" else self.model.random.randrange(2)
        if (key, tie) not in self.shared_parameters:
            self.shared_parameters[key, tie] = self.model.parameter(shape)
        return self.shared_parameters[key, tie]

    def apply(self, x, length, odd):
        choice = random.Random(self.seed)
        values = [x]
        for step in range(length):
            methods = [name for name in dir(self) if name.startswith("step_")]
            value = values[-1] if choice.random() < 0.7 else choice.choice(values)
            method = "step_unary" if odd and step == length - 2 else choice.choice(methods)
            values.append(getattr(self, method)(value, choice, values))
        outputs = [values[-1]]
        if choice.random() < 0.3:
            outputs.append(choice.choice(values[1:]))
        return outputs

    def step_linear(self, x, choice, values):
        b, k = x[1]
        out = choice.choice([1, 4, 6])
        w = self.own([out, k], choice)
        if choice.random() < 0.5:
            return self.model.op("pfcn.linear {0}, {1} : {t0}, {t1} -> {t}", [x, w], [b, out])
        bias = self.own([out], choice)
        return self.model.op(
            "pfcn.linear {0}, {1}, {2} : {t0}, {t1}, {t2} -> {t}", [x, w, bias], [b, out]
        )

    step_linear2 = step_linear

    def step_addmm(self, x, choice, values):
        b, k = x[1]
        w, bias = self.own([k, 4], choice), self.own([4], choice)
        attributes = choice.choice(
            ["", " {{alpha = 0.5 : f64}}", " {{beta = 2.0 : f64}}", " {{beta = 0.0 : f64}}"]
        )
        return self.model.op(
            "pfcn.addmm {0}, {1}, {2}" + attributes + " : {t0}, {t1}, {t2} -> {t}",
            [bias, x, w],
            [b, 4],
        )

    def step_unary(self, x, choice, values):
        return self.model.op(f"pfcn.{choice.choice(UNARY)} {{0}} : {{t}}", [x], x[1])

    def step_slope(self, x, choice, values):
        return self.model.op("pfcn.leaky_relu {0} {{negative_slope = 0.1 : f64}} : {t}", [x], x[1])

    def binary(self, a, b, shape, choice):
        op = choice.choice(["add", "sub", "mul", "maximum", "minimum"])
        return self.model.op(f"pfcn.{op} {{0}}, {{1}} : {{t0}}, {{t1}} -> {{t}}", [a, b], shape)

    def step_residual(self, x, choice, values):
        return self.binary(x, choice.choice([v for v in values if v[1] == x[1]]), x[1], choice)

    def step_affine(self, x, choice, values):
        return self.binary(x, self.own([x[1][1]], choice), x[1], choice)

    def step_shared(self, x, choice, values):
        return self.binary(x, self.shared, x[1], choice)

    def step_constant(self, x, choice, values):
        value = choice.choice([0.5, None]) or self.model.random.choice([0.25, 0.75, 1.5])
        scalar = self.model.op(f"pfcn.constant dense<{value}> : tensor<f32>", [], [])
        return self.binary(x, scalar, x[1], choice)

    def step_reduce(self, x, choice, values):
        op = choice.choice(["sum", "mean", "amax"])
        return self.model.op(
            f"pfcn.{op} {{0}} dims [1] {{{{keepdim = true}}}} : {{t0}} -> {{t}}", [x], [x[1][0], 1]
        )

    def step_softmax(self, x, choice, values):
        op = choice.choice(["softmax", "log_softmax"])
        return self.model.op(f"pfcn.{op} {{0}} dim 1 : {{t}}", [x], x[1])

    def step_norm(self, x, choice, values):
        end = " {{normalized_rank = 1 : i64, eps = 1.0e-2 : f64}} : {t}"
        w, b = self.own([x[1][1]], choice), self.own([x[1][1]], choice)
        which = choice.randrange(4)
        operands = [x] + ([w] if which & 1 else []) + ([b] if which & 2 else [])
        text = "pfcn.layer_norm {0}" + (" weight {1} : {t1}" if which & 1 else "")
        if which & 2:
            last = len(operands) - 1
            text += f" bias {{{last}}} : {{t{last}}}"
        return self.model.op(text + end, operands, x[1])

    def step_views(self, x, choice, values):
        b, k = x[1]
        y = self.model.op("pfcn.reshape {0} : {t0} to {t}", [x], [b, k, 1])
        y = self.model.op("pfcn.permute {0} dims [0, 2, 1] : {t0} -> {t}", [y], [b, 1, k])
        if choice.random() < 0.5:
            y = self.model.op("pfcn.expand {0} : {t0} to {t}", [y], [b, 3, k])
            y = self.model.op("pfcn.select {0} dim 1 at 2 : {t0} -> {t}", [y], [b, k])
            return self.model.op("pfcn.tanh {0} : {t}", [y], [b, k])
        return self.model.op("pfcn.squeeze {0} dims [1] : {t0} -> {t}", [y], [b, k])

    def step_attention(self, x, choice, values):
        b, k = x[1]
        y = self.model.op("pfcn.unsqueeze {0} dim 2 : {t0} -> {t}", [x], [b, k, 1])
        z = self.model.op("pfcn.unsqueeze {0} dim 1 : {t0} -> {t}", [x], [b, 1, k])
        a = self.model.op("pfcn.matmul {0}, {1} : {t0}, {t1} -> {t}", [y, z], [b, k, k])
        return self.model.op("pfcn.mean {0} dims [1] : {t0} -> {t}", [a], [b, k])

    def step_matmul(self, x, choice, values):
        b, k = x[1]
        return self.model.op(
            "pfcn.matmul {0}, {1} : {t0}, {t1} -> {t}", [x, self.own([k, 4], choice)], [b, 4]
        )

    def step_chunks(self, x, choice, values):
        b, k = x[1]
        if k < 2 or k % 2:
            return self.step_unary(x, choice, values)
        cut = lambda i: self.model.op(
            f"pfcn.slice {{0}} dim 1 from {i * k // 2} to {(i + 1) * k // 2} : {{t0}} -> {{t}}",
            [x],
            [b, k // 2],
        )
        return self.binary(cut(0), cut(1), [b, k // 2], choice)

    def step_cat(self, x, choice, values):
        y = choice.choice(values)
        return self.model.op(
            "pfcn.cat {0}, {1} dim 1 : ({t0}, {t1}) -> {t}", [x, y], [x[1][0], x[1][1] + y[1][1]]
        )

    def step_heads(self, x, choice, values):
        heads = [self.step_linear(x, random.Random(7), values) for _ in range(2)]
        return self.binary(*heads, heads[0][1], choice)

    def step_where(self, x, choice, values):
        predicate = choice.choice(["lt", "ge"])
        mask = self.model.op(
            f"pfcn.compare {predicate} {{0}}, {{1}} : {{t0}}, {{t1}} -> {{t}}",
            [x, self.shared],
            x[1],
            "i1",
        )
        return self.model.op(
            "pfcn.where {0}, {1}, {2} : {t0}, {t1}, {t2} -> {t}", [mask, x, self.shared], x[1]
        )


def make_inputs(model, n, width, pool):
    """What each of n instances reads."""
    b = model.batch
    kind = model.random.choice(
        ["slices", "slices", "selects", "shared", "own", "pool", "irregular"]
    )
    if kind == "shared":
        return [model.argument([b, width])] * n
    if kind == "own":
        return [model.argument([b, width]) for _ in range(n)]
    if kind == "pool" and pool:
        return [model.random.choice(pool) for _ in range(n)]
    if kind == "selects":
        whole = model.argument([b, n, width])
        return [
            model.op(f"pfcn.select {{0}} dim 1 at {i} : {{t0}} -> {{t}}", [whole], [b, width])
            for i in range(n)
        ]
    starts = [i * width for i in range(n)]
    if kind == "irregular":
        starts = [model.random.randrange(width * n - width + 1) for _ in range(n)]
    whole = model.argument([b, width * n])
    cut = lambda s: model.op(
        f"pfcn.slice {{0}} dim 1 from {s} to {s + width} : {{t0}} -> {{t}}", [whole], [b, width]
    )
    return [cut(start) for start in starts]


def join(model, values):
    """The values as one, or some of them alone."""
    kind = model.random.choice(["cat", "cat", "stack", "alone", "mixed", "fold"])
    same = all(v[1] == values[0][1] for v in values)
    if kind == "alone" or len(values) == 1 or (kind in ("stack", "fold") and not same):
        return values
    if model.random.random() < 0.3:
        model.random.shuffle(values)
    operands = ", ".join(f"{{{i}}}" for i in range(len(values)))
    types = ", ".join(f"{{t{i}}}" for i in range(len(values)))
    if kind == "fold":
        total = values[0]
        for value in values[1:]:
            total = model.op("pfcn.add {0}, {1} : {t0}, {t1} -> {t}", [total, value], total[1])
        return [total]
    if kind == "stack":
        dim = model.random.randrange(3)
        shape = list(values[0][1])
        shape.insert(dim, len(values))
        return [model.op(f"pfcn.stack {operands} dim {dim} : ({types}) -> {{t}}", values, shape)]
    shape = [values[0][1][0], sum(v[1][1] for v in values)]
    joined = [model.op(f"pfcn.cat {operands} dim 1 : ({types}) -> {{t}}", values, shape)]
    return joined + [model.random.choice(values)] if kind == "mixed" else joined


def generate(seed):
    model = Model(seed)
    shared = model.argument([model.batch, 1])
    pool, loose, results = [], [], []
    for _ in range(model.random.randrange(1, 4)):
        n, width = model.random.randrange(2, 6), 4
        recipe = Recipe(model, model.random.random(), shared)
        length = model.random.randrange(1, 7)
        slots = None
        for i, x in enumerate(make_inputs(model, n, width, pool)):
            outputs = recipe.apply(x, length, odd=i and model.random.random() < 0.1)
            slots = slots or [[] for _ in outputs]
            for slot, value in zip(slots, outputs):
                slot.append(value)
        if model.random.random() < 0.3 and len(slots) == 2 and slots[0]:
            slots = [[v for pair in zip(*slots) for v in pair]]
        for slot in slots:
            pool += [v for v in slot if v[1] == [model.batch, width]]
            if model.random.random() < 0.2:
                loose += slot
            else:
                results += join(model, slot)
    if loose:
        results += join(model, loose) if len({tuple(v[1][:1]) for v in loose}) == 1 else loose
    unique = list({r[0]: r for r in results}.values())
    return model, model.text(unique)


def check(seed):
    model, text = generate(seed)
    run = lambda *flags: subprocess.run(
        ["pfcn-opt", "-", "--mlir-print-op-generic", *flags],
        input=text,
        capture_output=True,
        text=True,
    )
    generator = torch.Generator().manual_seed(seed)
    inputs = [
        torch.randn([2 if s == "?" else s for s in shape], generator=generator, dtype=torch.float64)
        for _, shape in model.arguments
    ]
    expected, groups = None, 0
    for flags in [
        [],
        ["--pfcn-form-instances"],
        ["--pfcn-form-instances", "--pfcn-batch-instances"],
    ]:
        done = run(*flags)
        if done.returncode:
            raise AssertionError(f"pfcn-opt {' '.join(flags)}: {done.stderr}")
        actual = interpret.run(done.stdout, "f", inputs)
        expected = actual if expected is None else expected
        groups = done.stdout.count('"pfcn.kernel"')
        assert '"pfcn.instances"' not in done.stdout or len(flags) < 2, "a group was not batched"
        for a, b in zip(actual, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9, equal_nan=False)
    return groups


def main(first, count):
    kernels = 0
    for seed in range(first, first + count):
        try:
            kernels += check(seed)
        except Exception as error:
            print(generate(seed)[1])
            raise SystemExit(f"seed {seed}: {error}") from error
    print(f"{count} models agree; {'some' if kernels else 'no'} kernels")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
