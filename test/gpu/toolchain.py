"""CUDA tools of the pip packages (ptxas, nvdisasm, cuobjdump, libdevice): no CUDA installation.

`assemble` says what ptxas makes of PTX for a chip; `sass` reads the machine code. `compile_c` is
clang's own NVPTX back end, with which the interpreter's tests make kernels.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CHIPS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_103", "sm_120")
PACKAGES = (
    "the pip packages nvidia-cuda-nvcc, nvidia-nvvm, nvidia-cuda-nvdisasm, nvidia-cuda-cuobjdump"
)


@cache
def root() -> Path:
    """The folder `cu13` that the packages share."""
    for scheme in ("purelib", "platlib"):
        path = Path(sysconfig.get_paths()[scheme]) / "nvidia" / "cu13"
        if (path / "bin" / "ptxas").exists():
            return path
    raise FileNotFoundError(f"no ptxas: `make setup` installs {PACKAGES}")


def tool(name: str) -> Path:
    path = root() / "bin" / name
    if not path.exists():
        raise FileNotFoundError(f"no {name}: `make setup` installs {PACKAGES}")
    return path


def libdevice() -> Path:
    return root() / "nvvm" / "libdevice" / "libdevice.10.bc"


def include() -> Path:
    """cuda.h and cuda_occupancy.h."""
    return root() / "include"


def llvm_tool(name: str) -> str:
    """A tool of LLVM 22, under either of its names."""
    for candidate in (f"{name}-22", f"/usr/lib/llvm-22/bin/{name}"):
        if found := shutil.which(candidate):
            return found
    raise FileNotFoundError(f"no {name}-22: `make setup` installs it")


@dataclass(frozen=True)
class Kernel:
    """What ptxas -v says of one kernel."""

    name: str
    registers: int
    static_shared: int
    stack: int
    spill_stores: int
    spill_loads: int
    barriers: int


@dataclass(frozen=True)
class Assembled:
    """`kernels` by name; `errors` is empty if ptxas accepted the text. `cubin` is the image."""

    chip: str
    kernels: dict[str, Kernel]
    errors: str
    cubin: bytes


def run(command: list, **kwargs) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(c) for c in command], text=True, capture_output=True, **kwargs)


def retarget(ptx: str, chip: str) -> str:
    """The same text for a chip: ptxas takes a .target of the chip or of an older one."""
    return re.sub(r"(?m)^\.target \S+", f".target {chip}", ptx, count=1)


def assemble(ptx: str, chip: str, max_registers: int | None = None) -> Assembled:
    """Runs `ptxas -v` on PTX text whose `.target` is the chip's or older."""
    with tempfile.TemporaryDirectory() as folder:
        source, image = Path(folder, "k.ptx"), Path(folder, "k.cubin")
        source.write_text(ptx)
        command = [tool("ptxas"), "-v", f"-arch={chip}", source, "-o", image]
        if max_registers:
            command.insert(1, f"-maxrregcount={max_registers}")
        done = run(command)
        if done.returncode:
            return Assembled(chip, {}, (done.stderr + done.stdout).strip() or "ptxas failed", b"")
        return Assembled(chip, parse_verbose(done.stderr + done.stdout), "", image.read_bytes())


def parse_verbose(text: str) -> dict[str, Kernel]:
    """Reads `ptxas info` lines; a kernel without its line of registers is an error."""
    kernels = {}
    parts = re.split(r"Compiling entry function '(\S+)' for '\S+'", text)[1:]
    for name, info in zip(parts[::2], parts[1::2], strict=True):
        used = re.search(r"Used (\d+) registers", info)
        if not used:
            raise ValueError(f"no register count for {name} in\n{text}")

        def number(pattern: str, info=info) -> int:
            found = re.search(pattern, info)
            return int(found[1]) if found else 0

        kernels[name] = Kernel(
            name,
            int(used[1]),
            number(r"(\d+) bytes smem"),
            number(r"(\d+) bytes stack frame"),
            number(r"(\d+) bytes spill stores"),
            number(r"(\d+) bytes spill loads"),
            number(r"used (\d+) barriers"),
        )
    return kernels


def resource_usage(cubin: bytes) -> dict[str, dict[str, int]]:
    """`cuobjdump --dump-resource-usage`: REG, STACK, SHARED, LOCAL … by kernel."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = run([tool("cuobjdump"), "--dump-resource-usage", file.name], check=True)
    usage, name = {}, None
    for line in done.stdout.splitlines():
        if found := re.match(r"\s*Function (\S+):", line):
            name = found[1]
        elif name and "REG:" in line:
            usage[name] = {k: int(v) for k, v in re.findall(r"([A-Z]+(?:\[\d+\])?):(\d+)", line)}
    return usage


def sass(cubin: bytes) -> dict[str, list[str]]:
    """Instructions of each kernel, as nvdisasm prints them, without addresses."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = run([tool("nvdisasm"), "-c", "-hex", file.name], check=True)
    code: dict[str, list[str]] = {}
    name = None
    for line in done.stdout.splitlines():
        if found := re.match(r"\s*\.text\.(\S+):", line):
            name = found[1]
            code[name] = []
        elif name and (found := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;", line)):
            code[name].append(found[1])
    return code


def compile_c(source: str, chip: str = "sm_90", flags: tuple[str, ...] = ()) -> str:
    """A C file with `__attribute__((nvptx_kernel))` functions to PTX, libdevice linked in.

    The PTX version is named: by itself clang takes that of the CUDA installation it finds.
    """
    command = [
        llvm_tool("clang"),
        *("--target=nvptx64-nvidia-cuda", f"-march={chip}", "-nocudalib", "-S", "-xc", "-", "-o-"),
        *("--cuda-path=/none", "-Xclang", "-target-feature", "-Xclang", "+ptx90"),
        *("-Xclang", "-mlink-builtin-bitcode", "-Xclang", str(libdevice())),
        *("-O2", "-ffp-contract=fast", *flags),
    ]
    done = run(command, input=source)
    if done.returncode:
        raise RuntimeError(f"clang failed\n{done.stderr}")
    return done.stdout


def compile_ir(source: str, chip: str = "sm_90", features: str = "+ptx80") -> str:
    """LLVM IR to PTX by llc."""
    command = [llvm_tool("llc"), "-mtriple=nvptx64-nvidia-cuda", f"-mcpu={chip}"]
    done = run([*command, f"-mattr={features}", "-o", "-"], input=source)
    if done.returncode:
        raise RuntimeError(f"llc failed\n{done.stderr}")
    return done.stdout
