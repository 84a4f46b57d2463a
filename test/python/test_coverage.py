"""Banks of every module of torch's list against eager, and docs/Coverage.md against what happens.

Two samples of each module and mode; PFCN_COVERAGE=all takes all of them.
"""

import os
from pathlib import Path

import module_banks
import pytest

TABLE = Path(__file__).resolve().parents[2] / "docs" / "Coverage.md"
MODULES = {info.name: info for info in module_banks.module_db}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def choose(info):
    """Some samples of both modes, from the whole range."""
    everything = list(module_banks.samples(info))
    if os.environ.get("PFCN_COVERAGE") == "all":
        return everything
    chosen = []
    for training in (False, True):
        mine = [sample for sample in everything if sample.training == training]
        chosen += mine[:: max(1, len(mine) - 1)][:2]
    return chosen


@pytest.mark.parametrize("name", MODULES)
def test_a_bank_of_copies_does_what_eager_does(name):
    verdicts = {sample.name: module_banks.check(sample) for sample in choose(MODULES[name])}
    bad = {n: v.reason for n, v in verdicts.items() if v.status in ("wrong", "raises")}
    assert not bad


@pytest.mark.parametrize("name", MODULES)
def test_the_table_says_how(name):
    assert module_banks.row(MODULES[name]) in TABLE.read_text().splitlines(), (
        "docs/Coverage.md is stale: run `make build && .venv/bin/python tools/dev/coverage.py`"
    )


def test_most_modules_are_fused():
    rows = [line for line in TABLE.read_text().splitlines() if line.startswith("| `nn.")]
    assert [row.split("`")[1] for row in rows] == list(MODULES)
    fused = sum(row.split("|")[2].strip().startswith("fused") for row in rows)
    assert fused >= 0.8 * len(rows)
