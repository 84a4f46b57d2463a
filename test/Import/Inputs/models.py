"""Writes TorchScript files, and two that are none: models.py FOLDER NAME..."""

import sys
import warnings
from pathlib import Path

import torch
from torch import nn

from pfcn.bench.seed import ParallelFCN

warnings.simplefilter("ignore", DeprecationWarning)


class Split(nn.Module):
    """Parts by split, chunk, narrow, select and unbind; a dict and a tuple as results."""

    def forward(self, x):
        a, b = torch.split(x, [1, 3], dim=1)
        c, d = x.chunk(2, dim=1)
        rows = x.unbind(0)
        return {"ab": a + b.narrow(1, 1, 1)}, (c * d, x.select(1, 2), rows[1])


class Half(nn.Module):
    """Does something else at every size."""

    def forward(self, x):
        return x[: x.size(0) // 2]


class Raises(nn.Module):
    def forward(self, x):
        if x.size(1) != 3:
            raise ValueError("three columns, please")
        return x


class Unknown(nn.Module):
    def forward(self, x):
        return x.logcumsumexp(1)


class Activations(nn.Module):
    """Operators that have no Meta kernel outside of Python."""

    def forward(self, x):
        return (
            torch.relu(x),
            nn.functional.hardswish(x),
            nn.functional.logsigmoid(x),
            x.add(1).relu_(),
        )


class Counter(nn.Module):
    """Writes to a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count += 1
        return x + self.count


def main(folder: Path, *names: str) -> None:
    torch.manual_seed(0)
    seed = ParallelFCN(2).eval()
    make = {
        "seed": lambda: torch.jit.script(seed),
        "traced": lambda: torch.jit.trace(seed, torch.rand(3, 40)),
        "frozen": lambda: torch.jit.freeze(torch.jit.script(seed)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        module = make[name]() if name in make else torch.jit.script(globals()[name]())
        module.save(str(folder / f"{name}.pt"))
    (folder / "truncated.pt").write_bytes((folder / f"{names[0]}.pt").read_bytes()[:1000])
    torch.save(seed.state_dict(), folder / "weights.pt")


main(Path(sys.argv[1]), *sys.argv[2:])
