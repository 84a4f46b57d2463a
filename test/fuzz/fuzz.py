"""Compares random banks with eager: `fuzz.py [--count N] [--seconds S] [--seed FIRST]`.

Prints each seed that differs, with a small case that still does. `--seed S --count 1` runs a seed
again, `--case JSON` a case.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

sys.path.insert(0, str(Path(__file__).parent))
import banks
import reduce
from banks import Case

import pfcn


class Differs(AssertionError):
    """Another result than eager's, or an error that eager does not raise."""


def layout(tensor) -> list:
    """The strides that say something: of a dimension of one element any will do."""
    if not isinstance(tensor, torch.Tensor) or tensor.numel() == 0:
        return []
    return [s for s, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]


def as_exact(value, noise: float = 0.0):
    is_float = isinstance(value, torch.Tensor) and value.is_floating_point()
    if not is_float:
        return value
    wide = value.detach().double()
    return wide * (1 + noise * torch.randn_like(wide)) if noise else wide


def make_exact(model: nn.Module, noise: float) -> nn.Module:
    """The model in f64, and its weights as far off."""
    wide = copy.deepcopy(model).double()
    for parameter in wide.parameters():
        parameter.data = as_exact(parameter, noise)
    return wide


def compare(actual, expected, exact, strides: bool = True) -> None:
    """Raises where the two differ by more than what eager itself is off.

    `exact(noise)` are the same results, computed in f64, of weights and inputs that are off by a
    factor of about 1 + noise. Normalising two nearly equal numbers makes any rounding large: there,
    the result is measured against these.
    """
    ours, theirs = tree_leaves(actual), tree_leaves(expected)
    if strides and list(map(layout, ours)) != list(map(layout, theirs)):
        raise Differs(f"strides {[*map(layout, ours)]}, and not {[*map(layout, theirs)]}")
    dtypes = {t.dtype for t in theirs if isinstance(t, torch.Tensor)}
    # Both add up in f32, in another order; what is smaller is rounded once more per layer.
    tolerance = {"rtol": 2e-2, "atol": 2e-2} if dtypes & {torch.bfloat16, torch.float16} else {}
    try:
        torch.testing.assert_close(ours, theirs, equal_nan=True, **tolerance)
    except AssertionError as error:
        if not dtypes & {torch.float32, torch.bfloat16, torch.float16}:
            raise Differs(str(error)) from error
        truth, *moved = [tree_leaves(exact(noise)) for noise in (0.0, *[6e-8] * 3)]
        # Of all results: a gradient that is zero but for rounding says nothing of its own noise.
        allowed = 4 * max(distance(other, truth) for other in (theirs, *moved))
        allowed += 1e-6 * max(1.0, size(truth))  # 8 roundings of a sum of that size
        same = [(t.shape, t.dtype) for t in ours if t is not None] == [
            (t.shape, t.dtype) for t in theirs if t is not None
        ]
        if not same or not distance(ours, truth) <= allowed:
            raise Differs(str(error)) from error


def size(results: list) -> float:
    """The size of the largest element that is a finite number."""
    sizes = [
        torch.nan_to_num(t, 0.0, 0.0, 0.0).abs().max().item()
        for t in results
        if t is not None and t.numel()
    ]
    return max(sizes, default=0.0)


def distance(results: list, truth: list) -> float:
    """The largest difference of any element; NaN where only one of the two is a number."""
    largest = torch.zeros((), dtype=torch.float64)
    for result, exact in zip(results, truth, strict=True):
        if exact is not None and exact.numel():
            result = result.double()
            same = (result == exact) | (result.isnan() & exact.isnan())
            difference = torch.where(same, 0.0, (result - exact).abs()).max()
            largest = torch.maximum(largest, difference)
    return float(largest)


def loss_of(results, every: int = 1) -> torch.Tensor:
    """A number that depends on each element of each result, or of every second, in its own way."""
    total = torch.zeros((), dtype=torch.float64)
    for index, tensor in enumerate(tree_leaves(results)[::every]):
        weights = torch.cos(torch.arange(tensor.numel(), dtype=tensor.dtype) + index)
        total = total + (tensor * weights.reshape(tensor.shape)).sum()
    return total


def gradients(model: nn.Module, parameters: list, arguments: tuple, every: int) -> tuple:
    """Results, and gradients of all parameters and inputs; the loss is of every so many results."""

    def follow(tensor):
        leaf = tensor.detach()
        return leaf.requires_grad_() if leaf.is_floating_point() else leaf

    arguments = tree_map(follow, arguments)
    for parameter in parameters:
        parameter.grad = None
    results = model(*arguments)
    loss_of(results, every).backward()
    leaves = [*parameters, *tree_leaves(arguments)]
    grads = [None if leaf.grad is None else leaf.grad.clone() for leaf in leaves]
    return tree_map(torch.Tensor.detach, results), grads


def edit(model: nn.Module, kind: str) -> None:
    """Other weights, put there in one of the ways that torch has."""
    with torch.no_grad():
        if kind == "load":
            model.load_state_dict(
                {k: v.clone() for k, v in copy.deepcopy(model).state_dict().items()}
            )
        parameters = list(model.parameters())
        for parameter in parameters[:: max(1, len(parameters) // 3)]:
            if kind == "in_place":
                parameter.mul_(1.25)
            elif kind == "data":
                parameter.data = parameter.data * 0.75
        if kind == "replace":
            first = next(iter(model.nets))
            for module in first.modules():
                for name, parameter in list(module._parameters.items()):
                    if parameter is not None:
                        setattr(module, name, nn.Parameter(parameter * 1.5))
                        return


def check_inference(case: Case, model: nn.Module, inputs: list) -> pfcn.Compiled | None:
    exact = copy.deepcopy(model)
    with torch.no_grad():
        fast = compile_for(case, model, inputs[0])
        calls = [inputs[0]] * 2 if case.mode in ("traced", "exported") else [*inputs, inputs[0]]
        for number, arguments in enumerate(calls):
            if number == 2 and case.edit:
                edit(model, case.edit)
                exact = copy.deepcopy(model)

            def truth(noise: float, model: nn.Module = exact, arguments: tuple = arguments):
                wide = tree_map(lambda value: as_exact(value, noise), arguments)
                return make_exact(model, noise)(*wide)

            compare(fast(*arguments), model(*arguments), truth)
    return fast if isinstance(fast, pfcn.Compiled) else None


def compile_for(case: Case, model: nn.Module, arguments: tuple):
    if case.mode == "traced":
        return pfcn.compile(torch.jit.trace(model, arguments, strict=False), arguments)
    if case.mode == "exported":
        return pfcn.compile(torch.export.export(model, arguments), arguments)
    if case.mode == "dynamo":
        torch._dynamo.reset()
        return torch.compile(model, backend="pfcn")
    return pfcn.compile(model, arguments, freeze=case.mode == "freeze")


def check_training(case: Case, model: nn.Module, inputs: list) -> pfcn.Compiled:
    plain = copy.deepcopy(model)
    fast = pfcn.compile(model, inputs[0] if case.mode == "stacked" else None)
    if case.mode == "stacked":
        with contextlib.suppress(pfcn.Error):  # nothing to stack: trained as it is
            pfcn.optim.stack(fast)
    every = 2 if case.seed % 3 == 0 else 1
    for arguments in (*inputs, inputs[0]):
        ours = gradients(fast, list(model.parameters()), arguments, every)
        theirs = gradients(plain, list(plain.parameters()), arguments, every)
        if case.mode == "stacked":
            ours = (ours[0], unclear(*zip(*zip(ours[1], theirs[1], strict=True))))

        def truth(which: int, noise: float, arguments: tuple = arguments):
            wide = tree_map(lambda value: as_exact(value, noise), arguments)
            exact = make_exact(plain, noise)
            return gradients(exact, list(exact.parameters()), wide, every)[which]

        compare(ours[0], theirs[0], lambda noise: truth(0, noise))
        compare(ours[1], theirs[1], lambda noise: truth(1, noise), strides=False)
    return fast


def unclear(ours: tuple, theirs: tuple) -> list:
    """Gradients of stacked parameters that are cleared are zeros, where eager's are None."""
    return [
        None if other is None and mine is not None and not mine.any() else mine
        for mine, other in zip(ours, theirs)
    ]


def check(case: Case) -> str:
    """Raises where pfcn and eager differ; returns how the case was run."""
    model, inputs = banks.build(case)
    torch.manual_seed(case.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fast = (check_training if case.trains else check_inference)(case, model, inputs)
    if fast is None:
        return "by dynamo"
    if fast.report.eager:
        return "eager"
    return f"{fast.report.launches} launches, {len(fast.report.groups)} groups"


def runs_in_eager(case: Case) -> bool:
    """Whether eager takes the case at all."""
    try:
        model, inputs = banks.build(case)
        for arguments in inputs:
            if case.trains:
                gradients(model, list(model.parameters()), arguments, every=1)
            else:
                with torch.no_grad():
                    model(*arguments)
    except Exception:
        return False
    return True


def fails(case: Case) -> bool:
    try:
        check(case)
    except Exception:
        return runs_in_eager(case)
    return False


def describe(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {' | '.join(lines[:4])}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--case", type=json.loads, help="fields of a case, as a reduced one is shown"
    )
    parser.add_argument("-v", "--verbose", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.case:
        print(check(Case(**options.case)))
        return 0
    print(f"from seed {options.seed}", flush=True)
    begin, failed, how, done = time.time(), [], Counter(), 0
    for seed in range(options.seed, options.seed + options.count):
        if time.time() - begin > options.seconds:
            break
        case = banks.draw(seed)
        try:
            ran = check(case)
            how["eager" if ran == "eager" else "compiled"] += 1
            if options.verbose:
                print(f"seed {seed}: {ran}: {case}", flush=True)
        except Exception as error:
            if not runs_in_eager(case):
                how["invalid"] += 1
                continue
            failed.append(seed)
            print(f"seed {seed} differs: {case}\n  {describe(error)}", flush=True)
            if options.count == 1:
                traceback.print_exc()
            small = reduce.minimise(case, fails)
            print(f"  reduced: --case '{json.dumps(small.fields())}'", flush=True)
        done += 1
        if done % 1000 == 0:
            print(f"{done} cases, to seed {seed}, {len(failed)} mismatches", flush=True)
    print(
        f"{done} cases from seed {options.seed} in {time.time() - begin:.0f} s"
        f" ({how['compiled']} compiled, {how['eager']} in eager; {how['invalid']} more that eager"
        f" rejects), {len(failed)} mismatches" + (f": seeds {failed}" if failed else "")
    )
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
