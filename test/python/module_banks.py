"""Banks of copies of torch's own modules, with torch's own samples, against eager.

`torch.testing._internal.common_modules.module_db` lists nearly all of `torch.nn`, each with samples
of its constructor's arguments and inputs. A bank has n copies with weights of their own, each on
its own part of stacked inputs, and stacks their results.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.testing._internal.common_modules import ModuleInfo, module_db
from torch.utils import _pytree as pytree

import pfcn

INSTANCES = 8


class Bank(nn.Module):
    """n modules, each on its own slice of every input tensor; results are stacked."""

    def __init__(self, copies: list[nn.Module], nest: Any):
        super().__init__()
        self.models = nn.ModuleList(copies)
        self.nest = nest  # (args, kwargs) with None for each tensor, as (leaves, spec, places)

    def forward(self, *stacked):
        leaves, spec, places = self.nest
        results = []
        for i, model in enumerate(self.models):
            mine = list(leaves)
            for place, tensor in zip(places, stacked, strict=True):
                mine[place] = tensor[i]
            args, kwargs = pytree.tree_unflatten(mine, spec)
            results.append(model(*args, **kwargs))
        flat, spec = zip(*map(pytree.tree_flatten, results), strict=True)
        joined = [
            torch.stack(parts) if isinstance(parts[0], torch.Tensor) else parts[0]
            for parts in zip(*flat, strict=True)
        ]
        return pytree.tree_unflatten(joined, spec[0])


@dataclass
class Sample:
    """One sample of a module: how to build it and what to call it with."""

    info: ModuleInfo
    number: int
    training: bool
    sample: Any

    @property
    def name(self) -> str:
        mode = "train" if self.training else "eval"
        return f"{self.info.name}[{self.number}]-{mode}"

    def build(self, count: int = INSTANCES) -> tuple[Bank, tuple[torch.Tensor, ...]]:
        """The bank and its inputs, seeded by the sample's name; raises what eager raises."""
        seed = sum(map(ord, self.name)) * 1000
        torch.manual_seed(seed)
        given = self.sample.constructor_input
        cls = self.info.module_cls
        kwargs = dict(given.kwargs)
        kwargs.update(_factory(cls, given))
        forward = self.sample.forward_input
        leaves, spec = pytree.tree_flatten((tuple(forward.args), dict(forward.kwargs)))
        leaves = [leaf.detach() if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        args, call_kwargs = pytree.tree_unflatten(leaves, spec)
        copies = []
        for i in range(count):
            torch.manual_seed(seed + i)
            module = cls(*copy.deepcopy(given.args), **copy.deepcopy(kwargs))
            module.train(self.training)
            with torch.no_grad():
                is_lazy = isinstance(module, nn.modules.lazy.LazyModuleMixin)
                if i == 0 or is_lazy:  # may raise; makes lazy modules real
                    (module if is_lazy else copy.deepcopy(module))(*args, **call_kwargs)
            copies.append(_unequal(module))
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
        torch.manual_seed(seed)
        stacks = self._vary([leaves[place] for place in places], count)
        nest = ([None if i in places else leaf for i, leaf in enumerate(leaves)], spec, places)
        bank = Bank(copies, nest).train(self.training)
        with torch.no_grad(), torch.random.fork_rng():
            try:
                copy.deepcopy(bank)(*stacks)
            except Exception:  # a permutation of the input may not be one: take it as it is
                stacks = tuple(torch.stack([leaves[place]] * count) for place in places)
                copy.deepcopy(bank)(*stacks)
        return bank, tuple(stacks)

    @staticmethod
    def _vary(tensors: list[torch.Tensor], count: int) -> tuple[torch.Tensor, ...]:
        """Per instance, the elements of each tensor in another order: of one domain, so valid."""
        varied = []
        for tensor in tensors:
            rows = [tensor]
            for _ in range(count - 1):
                if tensor.dtype == torch.bool:  # a row that is masked entirely has no one meaning
                    rows.append(tensor)
                    continue
                order = torch.randperm(tensor.numel())
                rows.append(tensor.reshape(-1)[order].reshape(tensor.shape))
            varied.append(torch.stack(rows))
        return tuple(varied)


def _factory(cls: type, given: Any) -> dict[str, Any]:
    parameters = inspect.signature(cls).parameters
    return {"dtype": torch.float32} if "dtype" in parameters and "dtype" not in given.kwargs else {}


def _unequal(module: nn.Module) -> nn.Module:
    """Weights that start equal in all copies (ones, zeros) made unequal."""
    with torch.no_grad():
        for _, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if tensor.is_floating_point() and tensor.numel():
                noise = torch.rand_like(tensor) * 0.1
                tensor.add_(noise)
    return module


def samples(info: ModuleInfo, dtype: torch.dtype = torch.float32) -> Iterator[Sample]:
    """All samples of a module, in evaluation and in training."""
    for training in (False, True):
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            given = info.module_inputs_func(
                info, device="cpu", dtype=dtype, requires_grad=False, training=training
            )
        for number, sample in enumerate(given):
            yield Sample(info, number, training, sample)


@dataclass
class Verdict:
    """What became of one sample."""

    status: str  # "ok", "eager", "invalid" (eager raises, too), "wrong", "raises"
    reason: str = ""
    report: Any = None


def check(sample: Sample, count: int = INSTANCES) -> Verdict:
    """Compares the bank with eager, twice, and its buffers as well.

    Random modules are compared by their statistics.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            bank, inputs = sample.build(count)
        except Exception as error:
            return Verdict("invalid", str(error))
        with torch.no_grad():
            reference = copy.deepcopy(bank)
            differ = compare if _is_deterministic(bank, inputs) else compare_random
            try:
                fast = pfcn.compile(copy.deepcopy(bank))
                problem = differ(reference, fast, inputs)
            except Exception as error:
                return Verdict("raises", f"{type(error).__name__}: {error}")
    if problem:
        return Verdict("wrong", problem, fast.report)
    return Verdict("eager" if fast.report.eager else "ok", fast.report.eager, fast.report)


def describe(sample: Sample) -> str:
    """How a bank of the module runs, in a few words.

    "fused": one group has all that is computed, whose steps are no more for 12 copies than for 8.
    """
    verdict, more = check(sample), check(sample, 12)
    if verdict.status in ("invalid", "wrong", "raises"):
        return verdict.status
    if verdict.status == "eager":
        return "eager: " + _first_line(verdict.reason)
    report = verdict.report
    if len(report.steps) != len(more.report.steps) or len(report.groups) > 1:
        reasons = [miss.reason for miss in report.missed]
        return f"{len(report.groups)} groups" + (": " + _first_line(reasons[0]) if reasons else "")
    loops = [g.declined for g in report.groups if "runs once per instance" in g.declined]
    if not loops:
        return "fused"
    names = [part.split(" runs once")[0] for part in loops[0].split("; ") if "runs once" in part]
    return "fused, in a loop: " + ", ".join(dict.fromkeys(names))


def _first_line(reason: str) -> str:
    text = reason.splitlines()[0].removeprefix("cannot capture the model: ")
    return text.split(" in models.")[0].replace("|", "/")


def row(info: ModuleInfo) -> str:
    """The module's line in docs/Coverage.md, from the first sample of each mode that eager runs."""
    cells = []
    for training in (False, True):
        cell = "eager raises"
        for sample in samples(info):
            if sample.training == training and (text := describe(sample)) != "invalid":
                cell = text
                break
        cells.append(cell)
    return f"| `{info.name}` | {cells[0]} | {cells[1]} |"


def _is_deterministic(bank: Bank, inputs: tuple) -> bool:
    first, second = (copy.deepcopy(bank) for _ in range(2))
    torch.manual_seed(1)
    a = first(*inputs)
    torch.manual_seed(2)
    b = second(*inputs)
    return _difference(a, b) is None


def compare(reference: nn.Module, fast: nn.Module, inputs: tuple) -> str:
    for call in range(2):
        difference = _difference(fast(*inputs), reference(*inputs))
        if difference:
            return f"call {call}: {difference}"
    mine, theirs = fast.state_dict(), reference.state_dict()
    if mine.keys() != theirs.keys():
        return "the state_dict has other keys"
    for name in theirs:
        difference = _difference(mine[name], theirs[name])
        if difference:
            return f"{name} after the calls: {difference}"
    return ""


def compare_random(reference: nn.Module, fast: nn.Module, inputs: tuple, draws: int = 48) -> str:
    """Means and deviations of the results over draws; the same results from the same seed."""

    def draw(model):
        results = []
        for seed in range(draws):
            torch.manual_seed(seed)
            results.append([t.double() for t in pytree.tree_leaves(model(*inputs))
                            if isinstance(t, torch.Tensor)])  # fmt: skip
        return [torch.stack(parts) for parts in zip(*results, strict=True)]

    torch.manual_seed(5)
    first = fast(*inputs)
    torch.manual_seed(5)
    difference = _difference(fast(*inputs), first)
    if difference:
        return f"not reproducible from a seed: {difference}"
    for number, (mine, theirs) in enumerate(zip(draw(fast), draw(reference), strict=True)):
        if mine.shape != theirs.shape:
            return f"result {number} has shape {mine.shape}, not {theirs.shape}"
        spread = ((mine.var(0) + theirs.var(0)) / draws).sqrt()
        apart = (mine.mean(0) - theirs.mean(0)).abs()
        if not bool((apart <= 7 * spread + 1e-4).all()):
            return (
                f"result {number}: means differ by {(apart / (spread + 1e-4)).max():.1f} deviations"
            )
        ratio = (mine.std() + 1e-6) / (theirs.std() + 1e-6)
        if not 0.5 < ratio < 2:
            return f"result {number}: deviations differ by a factor of {ratio:.2f}"
    return ""


def _difference(mine: Any, theirs: Any) -> str | None:
    mine_leaves, mine_tree = pytree.tree_flatten(mine)
    their_leaves, their_tree = pytree.tree_flatten(theirs)
    if mine_tree != their_tree:
        return f"nested as {mine_tree}, not as {their_tree}"
    for number, (a, b) in enumerate(zip(mine_leaves, their_leaves, strict=True)):
        if not isinstance(b, torch.Tensor):
            if a != b:
                return f"result {number} is {a!r}, not {b!r}"
            continue
        try:
            torch.testing.assert_close(a, b, equal_nan=True)
        except AssertionError as error:
            return f"result {number}: " + " ".join(str(error).split())
    return None


__all__ = ["INSTANCES", "Bank", "Sample", "Verdict", "check", "module_db", "row", "samples"]
