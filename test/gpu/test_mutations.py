"""Every way of breaking the test kernels that mutate.py knows is reported or changes the result.

A mutant may survive only if no instruction that it touches runs, or where EQUIVALENT says why it
computes the same; the same instruction of another compiler version may need another entry.
"""

from __future__ import annotations

import cases
import mutate
import pytest
from ptx import Program, PtxFault

# (kernel, operator): how many mutants compute the same, and why.
EQUIVALENT = {
    ("matmul", "drop_guard"): (1, "the loop is entered for every k > 0"),
    ("matmul", "off_by_one"): (2, "k < 1 is not launched; one more tile of zeros adds nothing"),
    ("transpose", "drop_guard"): (2, "y <= 31 holds for every thread of 32x8"),
    ("transpose", "off_by_one"): (1, "y <= 31 holds for every thread of 32x8"),
    ("scale4", "drop_guard"): (1, "only how the tail loop is unrolled"),
    ("scale4", "off_by_one"): (3, "only which of two loops takes the tail"),
    ("activations", "drop_guard"): (1, "sin's reduction: a shift by 0"),
    ("activations", "negate_guard"): (1, "sin's reduction: a shift by 0"),
    ("activations", "off_by_one"): (3, "both sides of log(inf) and of a sign test of 0 agree"),
    ("activations", "wrong_stride"): (2, "sin's table for exponents that are not among the inputs"),
    ("activations", "swap_sources"): (3, "a sign that copysign replaces; as wrong_stride"),
    ("exp_f64", "drop_guard"): (2, "exp's slow path where the fast one is right too"),
}


def outcome(case: cases.Case, text: str) -> str | None:
    """How a mutant was caught, or None."""
    try:
        program = Program(text)
        for order in ("together", "forward", "backward"):
            got, _ = case.run(program, order, max_steps=20_000)
            if not case.agrees(got):
                return "mismatch"
    except PtxFault as fault:
        return fault.kind
    return None


@pytest.mark.parametrize("kernel", cases.ALL)
def test_every_mutant_is_caught(kernel):
    case, text = cases.ALL[kernel](), cases.source(kernel)
    got, stats = case.run(Program(mutate.kernel_text(text, kernel)), "together")
    assert case.agrees(got)
    caught = 0
    for operator in mutate.OPERATORS:
        alive = []
        for mutant in mutate.mutants(text, kernel, operator):
            if mutant.line not in stats.reached and not mutant.before.startswith(".shared"):
                continue
            if outcome(case, mutant.text) is None:
                alive.append(str(mutant))
            else:
                caught += 1
        allowed, _ = EQUIVALENT.get((kernel, operator), (0, ""))
        assert len(alive) <= allowed, "\n".join(alive)
    assert caught >= 10


# kernel, operator, what must report it: a wrong result alone would not do.
REPORTED = [
    *(
        (k, "drop_barrier", {"race"})
        for k in ("matmul", "block_sum", "transpose", "reverse", "mma_f16")
    ),
    *((k, "misalign_vector", {"alignment"}) for k in ("scale4", "row_sum", "networks", "mma_tf32")),
    ("scale4", "wrong_width", {"type"}),
    ("matmul", "shrink_shared", {"bounds"}),
    ("row_sum", "drop_store", {"uninitialised"}),
    ("networks", "unknown_modifier", {"unsupported"}),
    ("row_sum", "off_by_one", {"bounds"}),
    ("mma_f16", "wrong_shape", {"type"}),
    ("mma_tf32", "wrong_shape", {"unsupported"}),
]


@pytest.mark.parametrize(("kernel", "operator", "kinds"), REPORTED)
def test_mutants_are_reported_as_what_they_are(kernel, operator, kinds):
    case = cases.ALL[kernel]()
    found = [outcome(case, m.text) for m in mutate.mutants(cases.source(kernel), kernel, operator)]
    assert found and set(found) == kinds
