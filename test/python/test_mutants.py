"""A sample of mutated `.mlir` and TorchScript files; PFCN_MUTANTS=all takes all of them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))
import mutate_mlir
import mutate_pt

ALL = os.environ.get("PFCN_MUTANTS") == "all"


@pytest.mark.parametrize("part", range(10 if ALL else 1))
def test_mutated_modules(part):
    size = 1000 if ALL else 720  # each set of flags twice
    assert mutate_mlir.check(range(part * size, (part + 1) * size)) == []


@pytest.mark.parametrize("part", range(10 if ALL else 1))
def test_mutated_archives(part):
    size = 200 if ALL else 60
    assert mutate_pt.check(range(part * size, (part + 1) * size)) == []
