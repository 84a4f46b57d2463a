"""A CUDA driver where there is none: builds fake_cuda.c as libcuda.so.1 and reads its record.

`FakeDriver(folder).environment()` is for a child process, whose dlopen("libcuda.so.1") finds it;
`.preload()` makes this process's find it. What the fake driver obeys:
  FAKE_CUDA_CAPABILITY=90   FAKE_CUDA_DEVICES=1   FAKE_CUDA_MEMORY=bytes   FAKE_CUDA_ORDER=backward
  FAKE_CUDA_VERSION=13000
  FAKE_CUDA_FAIL=cuLaunchKernel:2:719,…   the second call of cuLaunchKernel returns error 719
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import toolchain

HERE = Path(__file__).parent


def build() -> Path:
    """Compiles the library, once a version of its source, and returns it."""
    source = HERE / "fake_cuda.c"
    key = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"pfcn-fake-cuda-{os.getuid()}-{key}"
    library = folder / "libcuda.so.1"
    if not library.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        part = folder / f"part-{os.getpid()}"
        command = [toolchain.llvm_tool("clang"), "-std=gnu17", "-O1", "-g", "-Wall", "-Werror"]
        command += ["-fPIC", "-shared", "-Wl,-soname,libcuda.so.1", f"-I{toolchain.include()}"]
        subprocess.run([*command, str(source), "-o", str(part), "-ldl", "-lpthread"], check=True)
        part.rename(library)
    return library


class FakeDriver:
    """One record of calls, in `folder`; `options` are the variables above without FAKE_CUDA_."""

    def __init__(self, folder: Path, **options):
        self.library = build()
        self.log = Path(folder) / "cuda.jsonl"
        self.variables = {
            "FAKE_CUDA_LOG": str(self.log),
            "FAKE_CUDA_PYTHON": sys.executable,
            "FAKE_CUDA_DEVICE": str(HERE / "fake_device.py"),
            **{f"FAKE_CUDA_{name}": str(value) for name, value in options.items()},
        }

    def environment(self) -> dict[str, str]:
        """The whole environment of a child process that is to find this driver."""
        old = os.environ.get("LD_LIBRARY_PATH")
        path = f"{self.library.parent}:{old}" if old else str(self.library.parent)
        return os.environ | self.variables | {"LD_LIBRARY_PATH": path}

    def run(self, command: list, **kwargs) -> subprocess.CompletedProcess[str]:
        """Runs a command on this driver."""
        kwargs = {"text": True, "capture_output": True} | kwargs
        return subprocess.run([str(c) for c in command], env=self.environment(), **kwargs)

    def preload(self) -> ctypes.CDLL:
        """Loads it here: by its soname, a later dlopen("libcuda.so.1") gets the same library.

        One driver a process: the variables are read at cuInit, and the log is the first one's.
        """
        os.environ.update(self.variables)
        return ctypes.CDLL(str(self.library), mode=ctypes.RTLD_GLOBAL)

    def record(self) -> list[dict]:
        """Everything recorded so far: {"call"…}, {"fault"…} and, at the end, {"leak"…}."""
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def calls(self, *names: str) -> list[dict]:
        """The recorded calls of some functions (of all)."""
        return [e for e in self.record() if "call" in e and (not names or e["call"] in names)]

    def launches(self) -> list[dict]:
        """The kernel launches that succeeded."""
        names = ("cuLaunchKernel", "cuLaunchKernelEx")
        return [e for e in self.calls(*names) if e["result"] == 0]

    def faults(self) -> list[str]:
        return [e["fault"] for e in self.record() if "fault" in e]

    def leaks(self) -> list[str]:
        """Handles that were alive at exit; known only once the process has ended."""
        return [e["leak"] for e in self.record() if "leak" in e]

    def assert_clean(self, allow_leaks: tuple[str, ...] = ("context",)):
        """No fault, no failed call, nothing leaked. A context may stay: torch's outlives us too."""
        failed = [e for e in self.calls() if e["result"] not in (0, 600)]
        leaked = [leak for leak in self.leaks() if leak not in allow_leaks]
        assert not (self.faults() or failed or leaked), (self.faults(), failed, leaked)
