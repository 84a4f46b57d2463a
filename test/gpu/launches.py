"""Launches kernels as a script outside of the project would: from `--emit=ptx`,
`--emit=launches`, the model's `state_dict` and its inputs. docs/Cuda.md describes the fields.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from ptx import Memory, Program, Stats

ROOT = Path(__file__).resolve().parents[2]
PFCN_OPT = ROOT / "build" / "bin" / "pfcn-opt"
DTYPES = {
    "f64": torch.float64,
    "f32": torch.float32,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "i64": torch.int64,
    "i32": torch.int32,
    "i8": torch.uint8,
}


def emit(source: str | Path, what: str, chip: str, *options: str) -> str:
    """What `pfcn-opt` makes of a module's text, or of a .pt file."""
    text = None if isinstance(source, Path) else source
    command = [PFCN_OPT, source if text is None else "-"]
    if not any(option.startswith("--pfcn-pipeline") for option in options):
        command.append("--pfcn-pipeline-nvvm")
    command += [f"--emit={what}", f"--chip={chip}", *options]
    done = subprocess.run(command, input=text, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass
class Generated:
    """A model's kernels for one chip."""

    ptx: str
    launches: list[dict]

    @staticmethod
    def of(source: str | Path, chip: str, *options: str) -> Generated:
        return Generated(
            emit(source, "ptx", chip, *options),
            json.loads(emit(source, "launches", chip, *options)),
        )


@dataclass
class Tensors:
    """A model's inputs and parameters, and what the launches add to them."""

    inputs: list[torch.Tensor]
    parameters: dict[str, torch.Tensor]
    memory: Memory = field(default_factory=Memory)
    # By name: base address, shape and dtype.
    placed: dict[str, tuple[int, list[int], torch.dtype]] = field(default_factory=dict)

    def given(self, argument: dict) -> torch.Tensor | None:
        """The tensor that an argument reads; none where a launch writes it."""
        match argument["role"]:
            case "input":
                return self.inputs[argument["index"]]
            case "parameter":
                return self.parameters[argument["parameter"]]
            case "parameters":
                members = [self.parameters[path] for path in argument["parameters"]]
                if "padded" not in argument:
                    return torch.stack(members)
                padded = members[0].new_zeros(argument["shape"])
                for part, member in zip(padded, members):
                    part[tuple(map(slice, member.shape))] = member
                return padded
            case "constant":
                data = [float(number) for number in argument["data"]]
                tensor = torch.tensor(data, dtype=DTYPES[argument["dtype"]])
                return tensor.reshape(argument["tensor_shape"])
        return None

    def size(self, size: int | str) -> int:
        """A number, or `inputK.sizeD`."""
        if isinstance(size, int):
            return size
        tensor, dim = size.removeprefix("input").split(".size")
        return self.inputs[int(tensor)].size(int(dim))

    def place(self, argument: dict) -> tuple[int, list[int], torch.dtype]:
        name = argument["name"] + ",".join(argument.get("parameters", []))
        if name in self.placed:
            return self.placed[name]
        tensor = self.given(argument)
        if tensor is None:  # each byte must be written
            assert argument.get("init") is None, f"{name} is read before it is written"
            dtype = DTYPES[argument["dtype"]]
            shape = [self.size(s) for s in argument["tensor_shape"]]
            what = int(np.prod(shape)) * dtype.itemsize
        else:
            dtype, shape = tensor.dtype, list(tensor.shape)
            assert all(a in (b, None) or isinstance(a, str) for a, b in
                       zip(argument["tensor_shape"], shape, strict=True))  # fmt: skip
            what = tensor.detach().contiguous().view(torch.uint8).numpy()
        base = self.memory.alloc(what, name=name)
        self.placed[name] = (base, shape, dtype)
        return self.placed[name]

    def pointer(self, argument: dict) -> int:
        base, shape, dtype = self.place(argument)
        offset = argument["offset"]
        if offset is None:
            access = argument["access"]
            offset = access["start"] * int(np.prod(shape[access["dim"] + 1 :]))
        return base + offset * dtype.itemsize

    def scalar(self, argument: dict) -> int:
        if argument["value"] is not None:
            return argument["value"]
        if argument["of"] == "size":
            return self.size(argument["equals"])
        _, shape, _ = self.placed[argument["tensor"]]
        return argument["factor"] * int(np.prod(shape[argument["dim"] + 1 :]))

    def read_result(self, index: int = 0) -> torch.Tensor:
        base, shape, dtype = self.placed[f"result{index}"]
        raw = self.memory.read(base, np.uint8, (int(np.prod(shape)) * dtype.itemsize,))
        return torch.from_numpy(raw).view(dtype).reshape(shape)


@lru_cache(maxsize=16)
def parsed(ptx: str) -> Program:
    return Program(ptx)


def run(generated: Generated, tensors: Tensors, order: str = "forward") -> list[Stats]:
    """Runs all launches; `tensors.read_result()` is then the result."""
    program, stats = parsed(generated.ptx), []
    for launch in generated.launches:
        args = [
            tensors.pointer(a) if a["kind"] == "buffer" else tensors.scalar(a)
            for a in launch["args"]
        ]
        shape = (launch["kernel"], launch["grid"], launch["block"], args, tensors.memory)
        done = program.launch(*shape, order=order, dynamic_shared=launch["shared_bytes"])
        stats.append(done)
    return stats
