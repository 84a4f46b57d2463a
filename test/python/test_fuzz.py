"""A fixed sample of the random banks of test/fuzz against eager."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))
import fuzz


@pytest.mark.parametrize("first", range(0, 120, 10))
def test_banks(first):
    torch.set_num_threads(1)
    for seed in range(first, first + 10):
        try:
            fuzz.check(seed)
        except Exception as error:
            raise AssertionError(f"python test/fuzz/fuzz.py --count 1 --seed {seed}") from error
