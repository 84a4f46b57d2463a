"""Models whose compilation crashed."""

import torch
from torch import nn

import pfcn

N, FEATURES, STEPS, BATCH = 17, 4, 34, 5


class Last(nn.Module):
    """[batch, steps, FEATURES] → [batch, 4], of the last step of a recurrent layer."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.RNN(FEATURES, 3, batch_first=True), nn.Linear(3, 4)

    def forward(self, x):
        return self.head(self.body(x)[0][:, -1])


class Most(nn.Module):
    def __init__(self):
        super().__init__()
        self.nets = nn.ModuleList(Last() for _ in range(N))

    def forward(self, x):
        parts = x.split(FEATURES, dim=-1)
        return torch.stack([net(part) for net, part in zip(self.nets, parts)]).amax(0)


def test_a_loop_that_reads_what_is_summed_outside_of_it():
    """Its backward walks the batch outside of its ops; what the loop over time read from outside
    of itself was not seen when ops were ordered."""
    torch.manual_seed(0)
    model = Most()
    fast = pfcn.compile(model)
    x = torch.randn(BATCH, STEPS, N * FEATURES, requires_grad=True)
    wanted = [x, *model.parameters()]
    for actual, expected in zip(
        torch.autograd.grad(fast(x).square().sum(), wanted),
        torch.autograd.grad(model(x).square().sum(), wanted),
    ):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
