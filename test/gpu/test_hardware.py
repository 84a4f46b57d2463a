"""The numerics on a real GPU, where there is one; on the fake one, to test the checks."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import hardware
import pytest
from fake_driver import FakeDriver

FOLDER = Path(__file__).parent
ENVIRONMENT = {"PYTHONPATH": f"{FOLDER.parent.parent / 'python'}:{FOLDER}"}


@functools.cache
def has(question: str) -> bool:
    """Asked in a process of its own: the driver of this one may be the fake."""
    return subprocess.run([sys.executable, "-c", question], capture_output=True).returncode == 0


DRIVER = (
    "import ctypes; cuda, n = ctypes.CDLL('libcuda.so.1'), ctypes.c_int()\n"
    "assert cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(n)) == 0 and n.value > 0"
)
TORCH = "import torch; assert torch.cuda.is_available()"


@pytest.mark.parametrize("check", hardware.CHECKS)
def test_on_a_gpu(check, tmp_path):
    if not has(DRIVER if check == "host" else TORCH):
        pytest.skip("there is no GPU, or this torch was built without CUDA")
    command = [sys.executable, FOLDER / "hardware.py", check]
    environment = os.environ | ENVIRONMENT | {"PFCN_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", ["two classes", "norm bank"])
def test_the_check_itself(kind, tmp_path):
    driver = FakeDriver(tmp_path)
    path = f"PYTHONPATH={ENVIRONMENT['PYTHONPATH']}"
    done = driver.run(["env", path, sys.executable, FOLDER / "hardware.py", "host", kind])
    assert done.returncode == 0, done.stderr
    assert len(driver.launches()) > 0 and driver.faults() == []
