"""A forecaster per series: an LSTM and a head for each, none shared.

Run it with `.venv/bin/python examples/12_lstm_per_series.py`.
"""

import torch
from torch import nn

from pfcn.testing import assert_matches


class Forecaster(nn.Module):
    """One series. x: [batch, time, 1] → [batch, horizon]."""

    def __init__(self, hidden, horizon):
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, horizon)

    def forward(self, x):
        states, _ = self.lstm(x)
        return self.head(states[:, -1])


class Forecasters(nn.Module):
    """x: [batch, time, series] → [batch, horizon, series]."""

    def __init__(self, series, hidden=16, horizon=4):
        super().__init__()
        self.models = nn.ModuleList(Forecaster(hidden, horizon) for _ in range(series))

    def forward(self, x):
        forecasts = [model(x[..., i : i + 1]) for i, model in enumerate(self.models)]
        return torch.stack(forecasts, dim=-1)


def make():
    return Forecasters(series=50).eval()


def inputs(batch):
    return (torch.randn(batch, 24, 50),)


if __name__ == "__main__":
    torch.manual_seed(0)
    print(assert_matches(make(), inputs(4)).report)
