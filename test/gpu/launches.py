"""Interprets what `pfcn-opt --emit=ptx` and `--emit=launches` give, on torch's tensors.

Arguments are found by name: `inputN`, a parameter, `<path of instance 0> ... xCOUNT` (the stacked
parameters), `result0`, and `<name>.sizeK` or `.strideK` where only the caller knows the value.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import toolchain
import torch
from ptx import Memory, Program, Stats

ROOT = Path(__file__).resolve().parents[2]
PFCN_OPT = ROOT / "build" / "bin" / "pfcn-opt"


def emit(mlir: str, what: str, chip: str) -> str:
    command = [PFCN_OPT, "-", "--pfcn-pipeline-nvvm", f"--emit={what}", f"--chip={chip}"]
    env = os.environ | {"CUDA_ROOT": str(toolchain.root())}  # f64 math is libdevice's
    done = subprocess.run(command, input=mlir, text=True, capture_output=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass
class Generated:
    """A model's kernels for one chip."""

    ptx: str
    launches: list[dict]

    @staticmethod
    def of(mlir: str, chip: str) -> Generated:
        return Generated(emit(mlir, "ptx", chip), json.loads(emit(mlir, "launches", chip)))


@dataclass
class Tensors:
    """What the launches read, by name, and the one result that they write."""

    inputs: list[torch.Tensor]
    parameters: dict[str, torch.Tensor]
    result: torch.Tensor
    addresses: dict[str, int] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)

    def find(self, name: str) -> torch.Tensor:
        if found := re.fullmatch(r"input(\d+)", name):
            return self.inputs[int(found[1])]
        if name == "result0":
            return self.result
        if found := re.fullmatch(r"(.*) \.\.\. x(\d+)", name):
            return torch.stack(self.instances(found[1], int(found[2])))
        return self.parameters[name]

    def instances(self, first: str, count: int) -> list[torch.Tensor]:
        """The parameter `first` of instance 0, and its likes: one number of the path counts."""
        for at in re.finditer(r"(?<=\.)0(?=\.)", first):
            names = [f"{first[: at.start()]}{i}{first[at.end() :]}" for i in range(count)]
            if all(n in self.parameters for n in names):
                return [self.parameters[n] for n in names]
        raise LookupError(f"{count} tensors like {first}")

    def address(self, name: str) -> int:
        if name not in self.addresses:
            tensor = self.find(name)
            if name == "result0":  # each byte must be written
                what = tensor.numel() * tensor.element_size()
            else:
                what = tensor.detach().contiguous().view(torch.uint8).numpy()
            self.addresses[name] = self.memory.alloc(what, name=name)
        return self.addresses[name]

    def scalar(self, argument: dict, ranks: dict[str, int]) -> int:
        if argument["value"] is not None:
            return argument["value"]
        name, what, dim = re.fullmatch(r"(.*)\.(size|stride)(\d+)", argument["name"]).groups()
        tensor = self.find(name)
        # A slice of each instance has the instances as a dimension of its own, in front.
        dim = int(dim) - (ranks[name] - tensor.dim())
        return tensor.size(dim) if what == "size" else tensor.stride(dim)

    def read_result(self) -> torch.Tensor:
        base, result = self.addresses["result0"], self.result
        count = result.numel() * result.element_size()
        raw = self.memory.read(base, np.uint8, (count,))
        return torch.from_numpy(raw).view(result.dtype).reshape(result.shape)


@lru_cache(maxsize=16)
def parsed(ptx: str) -> Program:
    return Program(ptx)


def run(generated: Generated, tensors: Tensors, order: str = "forward") -> list[Stats]:
    """Runs all launches; `tensors.read_result()` is then the result."""
    program, stats = parsed(generated.ptx), []
    for launch in generated.launches:
        buffers = [a for a in launch["args"] if a["kind"] == "buffer"]
        ranks = {a["name"]: len(a["shape"]) for a in buffers}
        args = [
            tensors.address(a["name"]) if a["kind"] == "buffer" else tensors.scalar(a, ranks)
            for a in launch["args"]
        ]
        shape = (launch["kernel"], launch["grid"], launch["block"], args, tensors.memory)
        stats.append(program.launch(*shape, order=order))
    return stats
