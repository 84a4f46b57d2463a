"""Models on a GPU: on torch's stream, in torch's memory, capturable, with live weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cuda_tensors
import pytest

FOLDER = Path(__file__).parent


@pytest.mark.parametrize("check", [check.__name__ for check in cuda_tensors.CHECKS])
def test_on_a_fake_gpu(check, tmp_path):
    path = f"{FOLDER.parent.parent / 'python'}:{FOLDER}"
    command = [sys.executable, FOLDER / "cuda_tensors.py", check, tmp_path]
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
