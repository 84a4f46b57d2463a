"""N critics as in REDQ (Chen et al., 2021): the target is the minimum over a few of them.

Run it with `.venv/bin/python examples/04_redq_critics.py`.
"""

import torch
from torch import nn

from pfcn.testing import assert_matches


class Critic(nn.Module):
    """(observation, action) → their value, [batch, 1]."""

    def __init__(self, observations, actions, hidden):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(observations + actions, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, observation, action):
        return self.net(torch.cat([observation, action], dim=-1))


class Critics(nn.Module):
    """(observation, action) → the least value of two critics, and the mean of all, [batch, 1]."""

    def __init__(self, count, observations=17, actions=6, hidden=64):
        super().__init__()
        self.critics = nn.ModuleList(Critic(observations, actions, hidden) for _ in range(count))
        self.chosen = (1, 4)  # REDQ draws two for each update

    def forward(self, observation, action):
        values = [critic(observation, action) for critic in self.critics]
        first, second = self.chosen
        return torch.min(values[first], values[second]), torch.cat(values, 1).mean(1, keepdim=True)


def make():
    return Critics(10).eval()


def inputs(batch):
    return torch.randn(batch, 17), torch.rand(batch, 6) * 2 - 1


if __name__ == "__main__":
    torch.manual_seed(0)
    print(assert_matches(make(), inputs(256)).report)
