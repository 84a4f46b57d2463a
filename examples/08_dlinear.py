"""DLinear with `individual=True` (Zeng et al., 2023): two linear layers per series.

One is for its trend, one for what is left. Run it with `.venv/bin/python examples/08_dlinear.py`.
"""

import torch
from torch import nn

from pfcn.testing import assert_matches


class SeriesDecomposition(nn.Module):
    """A moving average with its ends repeated. x: [batch, length, channels] → (season, trend)."""

    def __init__(self, kernel_size):
        super().__init__()
        self.pad = (kernel_size - 1) // 2
        self.average = nn.AvgPool1d(kernel_size, stride=1)

    def forward(self, x):
        front = x[:, :1, :].repeat(1, self.pad, 1)
        end = x[:, -1:, :].repeat(1, self.pad, 1)
        padded = torch.cat([front, x, end], dim=1)
        trend = self.average(padded.permute(0, 2, 1)).permute(0, 2, 1)
        return x - trend, trend


class DLinear(nn.Module):
    """x: [batch, length, channels] → [batch, horizon, channels]."""

    def __init__(self, length, horizon, channels):
        super().__init__()
        self.horizon = horizon
        self.decomposition = SeriesDecomposition(25)
        self.seasonal = nn.ModuleList(nn.Linear(length, horizon) for _ in range(channels))
        self.trend = nn.ModuleList(nn.Linear(length, horizon) for _ in range(channels))

    def forward(self, x):
        season, trend = (part.permute(0, 2, 1) for part in self.decomposition(x))
        shape = [season.size(0), season.size(1), self.horizon]
        season_out = torch.zeros(shape, dtype=x.dtype)
        trend_out = torch.zeros(shape, dtype=x.dtype)
        for i in range(len(self.seasonal)):
            season_out[:, i, :] = self.seasonal[i](season[:, i, :])
            trend_out[:, i, :] = self.trend[i](trend[:, i, :])
        return (season_out + trend_out).permute(0, 2, 1)


def make():
    return DLinear(length=96, horizon=24, channels=64).eval()


def inputs(batch):
    return (torch.randn(batch, 96, 64),)


if __name__ == "__main__":
    torch.manual_seed(0)
    print(assert_matches(make(), inputs(32)).report)
