"""One thousand small networks, each on its own slice of the input: compiled, compared, explained.

Run it with `.venv/bin/python examples/01_seed_model.py [N]`.
"""

import sys
import time

import torch
from torch import nn

import pfcn


class ParallelFCN(nn.Module):
    """The model as its users write it. x: [batch, 20 n] → [batch, n]."""

    def __init__(self, n):
        super().__init__()
        self.models = nn.ModuleList(
            nn.Sequential(nn.Linear(20, 10), nn.Linear(10, 1)) for _ in range(n)
        )

    def forward(self, x):
        outputs = [m(x[:, i * 20 : (i + 1) * 20]) for i, m in enumerate(self.models)]
        return torch.cat(outputs, dim=1)


def milliseconds(call, x, calls=30):
    """The mean time of a call, after five to warm up."""
    for _ in range(5):
        call(x)
    start = time.perf_counter()
    for _ in range(calls):
        call(x)
    return (time.perf_counter() - start) / calls * 1e3


@torch.no_grad()
def main(n):
    torch.manual_seed(0)
    model = ParallelFCN(n).eval()
    x = torch.rand(1, 20 * n)
    before = model(x)
    eager = milliseconds(model, x)

    fast = pfcn.compile(model, (x,))
    torch.testing.assert_close(fast(x), before)
    print(f"{n} networks: eager {eager:.3f} ms, pfcn {milliseconds(fast, x):.3f} ms a call")

    # The parameters are still the model's: a change in place is seen by the next call.
    model.models[0][1].bias += 1
    before[:, 0] += 1
    torch.testing.assert_close(fast(x), before)

    print(fast.report)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
