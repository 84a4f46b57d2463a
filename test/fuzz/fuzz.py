"""Compares random banks with eager: `fuzz.py [--count N] [--seconds S] [--seed FIRST]`.

Prints each seed that differs; `--seed S --count 1` runs it again.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
import traceback
from pathlib import Path

import torch
from torch.utils._pytree import tree_leaves, tree_map

sys.path.insert(0, str(Path(__file__).parent))
import banks


def compare(actual, expected, model, arguments) -> None:
    """Raises where the two differ by more than what eager itself is off.

    Normalising two nearly equal numbers makes any rounding large: there, both are measured
    against the same model in f64.
    """
    dtype = next(model.parameters()).dtype
    # Both add up in f32, in another order; bf16 is rounded once more per layer.
    tolerance = {"rtol": 2e-2, "atol": 2e-2} if dtype == torch.bfloat16 else {}
    try:
        torch.testing.assert_close(actual, expected, check_stride=True, **tolerance)
    except AssertionError:
        if dtype == torch.float64:
            raise
        exact = copy.deepcopy(model).double()
        wide = tree_map(lambda t: t.double(), arguments)
        with torch.no_grad():
            for ours, eager, truth in zip(
                tree_leaves(actual), tree_leaves(expected), tree_leaves(exact(*wide)), strict=True
            ):
                same = (ours.shape, ours.dtype, ours.stride()) == (
                    eager.shape,
                    eager.dtype,
                    eager.stride(),
                )
                allowed = 4 * (eager.double() - truth).abs().max()
                if not same or not (ours.double() - truth).abs().max() <= allowed:
                    raise


def check(seed: int) -> str:
    """Raises where pfcn and eager differ; returns how the case was run."""
    import pfcn

    _, model, inputs = banks.build(seed)
    fast = pfcn.compile(model, inputs[0], freeze=seed % 2 == 1)
    with torch.no_grad():
        for arguments in (*inputs, inputs[0]):
            expected = model(*arguments)
            actual = fast(*arguments)
            compare(actual, expected, model, arguments)
    return f"{fast.report.launches} launches, {len(fast.report.groups)} groups"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-v", "--verbose", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    begin, failed, done = time.time(), [], 0
    for seed in range(options.seed, options.seed + options.count):
        if time.time() - begin > options.seconds:
            break
        try:
            how = check(seed)
            if options.verbose:
                print(f"seed {seed}: {how}: {banks.draw(seed)}")
        except Exception as error:
            failed.append(seed)
            print(
                f"seed {seed} differs: {banks.draw(seed)}\n  {str(error).strip().splitlines()[0]}",
                flush=True,
            )
            if options.count == 1:
                traceback.print_exc()
        done += 1
    print(f"{done} cases, {len(failed)} mismatches" + (f": seeds {failed}" if failed else ""))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
