"""Banks of 8 copies of each operator of torch's `op_db`, each on its own slice, against eager.

The samples are torch's own. An instance gets the elements of a sample in an order of its own, so
that they stay in the domain of the operator, stacked in one tensor that the bank takes apart.
`rows()` is what docs/Coverage.md shows of them: name, samples, fused into one group?, reason.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo.core import (
    BinaryUfuncInfo,
    OpInfo,
    ReductionOpInfo,
    UnaryUfuncInfo,
)
from torch.utils import _pytree as pytree

import pfcn

INSTANCES = 8
SEED = 11
PRODUCTS = set(
    """__rmatmul__ addbmm addmm addmv addr baddbmm bmm dot einsum inner linalg.multi_dot
    linalg.vecdot matmul mm mv nn.functional.bilinear nn.functional.linear outer tensordot
    vdot""".split()
)
# Pointwise operators and reductions that torch lists among all others.
OTHERS = set(
    """addcdiv addcmul aminmax clamp cummax cummin cumprod cumsum cumulative_trapezoid diff dist
    lerp log_softmax logaddexp2 logcumsumexp logsumexp masked_fill max min median mode nanmedian
    norm linalg.norm linalg.matrix_norm softmax std_mean var_mean trace where nn.functional.gelu
    nn.functional.glu nn.functional.hardswish nn.functional.leaky_relu nn.functional.softmin
    nn.functional.cosine_similarity nn.functional.normalize nn.functional.pairwise_distance
    nn.functional.huber_loss nn.functional.l1_loss nn.functional.mse_loss nn.functional.kl_div
    nn.functional.smooth_l1_loss nn.functional.binary_cross_entropy nn.functional.rms_norm
    nn.functional.binary_cross_entropy_with_logits nn.functional.layer_norm""".split()
)
# Draw random numbers, compile CUDA source, or take objects that no model passes.
LEFT_OUT = {"nn.functional.rrelu", "hash_tensor"}


def is_covered(op: OpInfo) -> bool:
    if op.name in LEFT_OUT or op.name.startswith("jiterator"):
        return False
    kinds = (UnaryUfuncInfo, BinaryUfuncInfo, ReductionOpInfo)
    return isinstance(op, kinds) or op.name in PRODUCTS | OTHERS


def get_name(op: OpInfo) -> str:
    return op.name + (f"/{op.variant_test_name}" if op.variant_test_name else "")


OPS = {get_name(op): op for op in op_db if is_covered(op)}


class Bank(nn.Module):
    """Instance i computes `function` of element i of each input."""

    def __init__(self, function: Callable, spec: pytree.TreeSpec, leaves: list):
        super().__init__()
        self.function, self.spec, self.leaves = function, spec, leaves

    def forward(self, *inputs: torch.Tensor) -> list:
        results = []
        for i in range(INSTANCES):
            mine = iter([x[i] for x in inputs])
            leaves = [next(mine) if isinstance(v, torch.Tensor) else v for v in self.leaves]
            args, kwargs = pytree.tree_unflatten(leaves, self.spec)
            results.append(self.function(*args, **kwargs))
        return results


def make_bank(op: OpInfo, sample) -> tuple[Bank, list[torch.Tensor]]:
    leaves, spec = pytree.tree_flatten(((sample.input, *sample.args), sample.kwargs))
    generator = torch.Generator().manual_seed(SEED)

    def stack(value: torch.Tensor) -> torch.Tensor:
        flat = value.detach().reshape(-1)
        orders = [torch.randperm(flat.numel(), generator=generator) for _ in range(INSTANCES)]
        return torch.stack([flat[order].reshape(value.shape) for order in orders])

    tensors = [stack(value) for value in leaves if isinstance(value, torch.Tensor)]
    return Bank(op.op, spec, leaves), tensors


def is_plain(sample) -> bool:
    """Whether the sample's tensors are dense, and there is one."""
    leaves = pytree.tree_leaves(((sample.input, *sample.args), sample.kwargs))
    tensors = [v for v in leaves if isinstance(v, torch.Tensor)]
    return bool(tensors) and all(
        v.layout is torch.strided and not v.is_quantized and v.numel() < 5000 for v in tensors
    )


@dataclass
class Outcome:
    """What became of one sample."""

    fused: bool = False  # all instances in one group
    compiled: bool = False  # and that one a kernel
    reason: str = ""
    error: str = ""  # a wrong result, or an exception that eager does not raise


def get_miss(report: pfcn.report.Report) -> str:
    if report.eager:
        return "eager: " + report.eager
    declined = next((group.declined for group in report.groups if group.declined), "")
    missed = next((miss.reason for miss in report.missed), "")
    return declined or missed or "no group of all instances was found"


def compare(bank: Bank, inputs: list[torch.Tensor], actual, expected) -> None:
    """Equal up to rounding: as assert_close wants it, or no further from f64 than eager is."""
    pairs = list(zip(pytree.tree_leaves(actual), pytree.tree_leaves(expected), strict=True))
    try:
        for mine, theirs in pairs:
            torch.testing.assert_close(mine, theirs, equal_nan=True)
        return
    except AssertionError as error:
        if not all(x.is_floating_point() for pair in pairs for x in pair):
            raise
        different = error
    wide = [x.double() if x.is_floating_point() else x for x in inputs]
    exact = pytree.tree_leaves(bank(*wide))
    for (mine, theirs), value in zip(pairs, exact, strict=True):
        if mine.dtype != theirs.dtype or mine.shape != theirs.shape:
            raise different
        if not torch.equal(mine.isfinite(), theirs.isfinite()):
            raise different
        finite = theirs.isfinite()
        mine, theirs, value = (x.double()[finite] for x in (mine, theirs, value))
        if finite.any() and (mine - value).abs().max() > 4 * (theirs - value).abs().max():
            raise different


def run_sample(op: OpInfo, sample) -> Outcome | None:
    """None where eager itself raises."""
    bank, inputs = make_bank(op, sample)
    with torch.no_grad():
        try:
            expected = bank(*[x.clone() for x in inputs])
        except Exception:  # whatever it is, pfcn may do the same
            return None
        try:
            fast = pfcn.compile(bank, tuple(inputs))
            actual = fast(*[x.clone() for x in inputs])
            compare(bank, inputs, actual, expected)
        except Exception as error:
            return Outcome(error=f"{type(error).__name__}: {str(error)[:400]}")
    groups = fast.report.groups
    operators = [name for kind, name in fast.report.steps if kind == "operator"]
    fused = any(group.instances == INSTANCES for group in groups) and len(operators) < INSTANCES
    compiled = fused and all(group.kernels for group in groups) and not operators
    return Outcome(fused, compiled, "" if compiled else get_miss(fast.report))


def get_samples(op: OpInfo, dtype: torch.dtype, most: int | None) -> Iterator:
    torch.manual_seed(SEED)
    count = 0
    for sample in op.sample_inputs("cpu", dtype, requires_grad=False):
        if not is_plain(sample):
            continue
        yield sample
        count += 1
        if most is not None and count >= most:
            return


@dataclass
class Row:
    name: str
    samples: int = 0
    fused: int = 0
    compiled: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def run_op(name: str, dtypes: Iterable[torch.dtype], most: int | None) -> Row:
    op = OPS[name]
    row = Row(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for dtype in dtypes:
            if dtype not in op.supported_dtypes("cpu"):
                continue
            for i, sample in enumerate(get_samples(op, dtype, most)):
                outcome = run_sample(op, sample)
                if outcome is None:
                    continue
                row.samples += 1
                row.fused += outcome.fused
                row.compiled += outcome.compiled
                if outcome.reason:
                    row.reasons[outcome.reason] = row.reasons.get(outcome.reason, 0) + 1
                if outcome.error:
                    row.errors.append(f"{name}, {dtype}, sample {i}: {outcome.error}")
    return row


def rows(most: int | None = 3) -> list[tuple[str, int, bool, str]]:
    """(name, samples, fused into one group?, reason where not) of each operator, in float32."""
    result = []
    for name in sorted(OPS):
        row = run_op(name, [torch.float32], most)
        if row.samples:
            reason = max(row.reasons, key=row.reasons.get) if row.reasons else ""
            is_fused = 2 * row.fused >= row.samples
            result.append((name, row.samples, is_fused, "" if is_fused else reason))
    return result
