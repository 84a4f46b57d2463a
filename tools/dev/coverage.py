#!/usr/bin/env python3
"""Writes docs/Coverage.md: how a bank of each of torch's own modules runs.

Usage: .venv/bin/python tools/dev/coverage.py    (after `make build`; a minute or two)
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "test" / "python")]

HEAD = """# Coverage

Written by `tools/dev/coverage.py`; `make test` fails where it is not true.

## Modules

Each of the {total} modules in `torch.testing._internal.common_modules.module_db`, with torch's own
samples: a bank of 8 copies with weights of their own, each on its own part of stacked inputs,
called twice under `no_grad` and compared with eager, buffers included.

*fused*: one group has all that is computed, and the plan has as many steps for 12 copies as for 8.
An operator that the dialect does not model runs there as one call for all copies, by torch's own
batching rule. *in a loop*: torch has no rule for it, so inside of its step it is called once per
copy. *eager*: the model runs as if it were not compiled. The columns show the first sample of each
mode that eager runs. {fused} of {total} are fused in evaluation and {trained} in training, {loops}
of them with an operator in a loop.

| module | evaluation | training |
|---|---|---|
"""


def _row(number: int) -> str:
    import module_banks
    import torch

    torch.set_num_threads(1)
    return module_banks.row(module_banks.module_db[number])


def main() -> None:
    import module_banks

    numbers = range(len(module_banks.module_db))
    with ProcessPoolExecutor(2) as pool:
        rows = list(pool.map(_row, numbers))
    cells = [[cell.strip() for cell in row.split("|")] for row in rows]
    fused, trained = (sum(c[i].startswith("fused") for c in cells) for i in (2, 3))
    loops = sum("in a loop" in row for row in rows)
    text = HEAD.format(total=len(rows), fused=fused, trained=trained, loops=loops)
    (ROOT / "docs" / "Coverage.md").write_text(text + "\n".join(rows) + "\n")
    print(f"docs/Coverage.md: {fused} of {len(rows)} fused in evaluation, {trained} in training")


if __name__ == "__main__":
    main()
