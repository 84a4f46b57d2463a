"""A CUDA device for a torch without CUDA: builds fake_torch_cuda.cpp and loads it."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

import toolchain
import torch
from fake_driver import FakeDriver
from torch.utils import cpp_extension

SOURCE = Path(__file__).with_suffix(".cpp")


def build(driver: FakeDriver) -> Path:
    """Compiles the library, once a version of its source and of torch, and returns it."""
    text = SOURCE.read_bytes() + torch.__version__.encode() + str(driver.library).encode()
    key = hashlib.sha256(text).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"pfcn-fake-torch-{os.getuid()}-{key}"
    library = folder / "libfake_torch_cuda.so"
    if not library.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        part = folder / f"part-{os.getpid()}"
        command = [toolchain.llvm_tool("clang++"), "-std=c++20", "-O0", "-fPIC", "-shared"]
        command += [f"-I{path}" for path in cpp_extension.include_paths()]
        command += [f"-I{toolchain.include()}", str(SOURCE), "-o", str(part), str(driver.library)]
        command += [f"-L{path}" for path in cpp_extension.library_paths()]
        subprocess.run([*command, "-lc10", "-ltorch_cpu"], check=True)
        part.rename(library)
    return library


def load(driver: FakeDriver) -> ctypes.CDLL:
    """Gives this process the device, on a driver that has been preloaded."""
    library = ctypes.CDLL(str(build(driver)), mode=ctypes.RTLD_GLOBAL)
    torch.cuda._lazy_init = lambda: None  # which says that torch has no CUDA
    return library
