"""Writes a TorchScript file: models.py NAME FILE."""

import sys
import warnings

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
        return x.cumsum(1)




class Counter(nn.Module):
    """Writes to a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count += 1
        return x + self.count


name, path = sys.argv[1:]
torch.manual_seed(0)
if name == "seed":
    torch.jit.script(ParallelFCN(2)).save(path)
elif name == "seed-traced":
    torch.jit.trace(ParallelFCN(2), torch.rand(3, 40)).save(path)
elif name == "seed-frozen":
    torch.jit.freeze(torch.jit.script(ParallelFCN(2).eval())).save(path)
elif name == "truncated":
    torch.jit.script(ParallelFCN(2)).save(path)
    with open(path, "r+b") as file:
        file.truncate(1000)
elif name == "state-dict":
    torch.save(ParallelFCN(2).state_dict(), path)
else:
    torch.jit.script(globals()[name]()).save(path)
