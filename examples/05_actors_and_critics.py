"""Per-agent actors and central critics, as in MADDPG (Lowe et al., 2017).

Every agent has its own observation, and a critic that sees all observations and actions. Run it
with `.venv/bin/python examples/05_actors_and_critics.py`.
"""

import torch
from torch import nn

from pfcn.testing import assert_matches


def mlp(inputs, outputs, hidden=64):
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, outputs),
    )


class Agents(nn.Module):
    """A list of observations, [batch, 18] each → a list of actions [batch, 5], and of values."""

    def __init__(self, count, observation=18, action=5):
        super().__init__()
        self.actors = nn.ModuleDict({f"agent_{i}": mlp(observation, action) for i in range(count)})
        joint = count * (observation + action)
        self.critics = nn.ModuleDict({f"agent_{i}": mlp(joint, 1) for i in range(count)})

    def forward(self, observations):
        actions = [
            torch.tanh(actor(seen))
            for actor, seen in zip(self.actors.values(), observations, strict=True)
        ]
        joint = torch.cat([*observations, *actions], dim=-1)
        return actions, [critic(joint) for critic in self.critics.values()]


def make():
    return Agents(16).eval()


def inputs(batch):
    return ([torch.randn(batch, 18) for _ in range(16)],)


if __name__ == "__main__":
    torch.manual_seed(0)
    print(assert_matches(make(), inputs(32)).report)
