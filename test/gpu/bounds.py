"""The least time that each kernel of a model can take, by a static model.

Run as `python test/gpu/bounds.py`.

For the models of the acceptance list; nothing is measured. Registers are ptxas's, resident blocks
follow cuda_occupancy.h, sectors and instructions are counted by the interpreter.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import warnings
from pathlib import Path

import launches
import occupancy
import toolchain
import torch
from cuda_models import MODELS, make

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def save(folder: Path, model: torch.nn.Module, x: torch.Tensor) -> Path:
    path = folder / "model.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(model, x).save(path)
    return path


def shapes(x: torch.Tensor, dynamic: bool = False) -> str:
    names = {dtype: name for name, dtype in DTYPES.items()}
    sizes = ["?" if dynamic else str(x.shape[0]), *map(str, x.shape[1:])]
    return f"--input-shapes={'x'.join(sizes)}x{names[x.dtype]}"


def reports(made: launches.Generated, stats: list, chip: str) -> list[occupancy.Report]:
    """One per launch."""
    kernels = toolchain.assemble(made.ptx, chip).kernels
    return [
        occupancy.report(
            kernels[launch["kernel"]],
            done,
            chip,
            math.prod(launch["grid"]),
            math.prod(launch["block"]),
            launch["shared_bytes"],
        )
        for launch, done in zip(made.launches, stats, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", default=list(MODELS), help=", ".join(MODELS))
    parser.add_argument("--chip", default="sm_90", choices=occupancy.CHIPS)
    parser.add_argument("--dtype", default="f32", choices=DTYPES)
    arguments = parser.parse_args()
    for kind in arguments.kinds:
        model, x = make(kind, DTYPES[arguments.dtype])
        with tempfile.TemporaryDirectory() as folder:
            path = save(Path(folder), model, x)
            made = launches.Generated.of(path, arguments.chip, shapes(x))
        stats = launches.run(made, launches.Tensors([x], model.state_dict()), "together")
        print(f"{kind}, {arguments.dtype}")
        for report in reports(made, stats, arguments.chip):
            print(f"  {report}")


if __name__ == "__main__":
    main()
