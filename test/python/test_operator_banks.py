"""Eight instances of one operator, each with weights or indices of its own: what they become.

Every line is one group. `KERNELS`: one kernel. `CALLS`: one call of torch's for all instances, by
its own batching rule. `LOOPS`: torch has no rule that is no loop, so one call per instance inside
of the group's step; the report says so.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pfcn

N, B = 8, 4
floats = torch.randn


def picks(limit, *shape):
    return torch.randint(limit, shape)


def scaled(function, *shape):
    """`function(x * w)` for x [N, B, *shape] and w [*shape]."""
    return (lambda x, w: function(x * w), lambda: [floats(shape)], lambda: floats(N, B, *shape))


def compared(function):
    """`function(x, w)` for two tensors of 4 × 6."""
    return (function, lambda: [floats(B, 6)], lambda: floats(N, B, 6))


def with_classes(function):
    return (function, lambda: [picks(6, B)], lambda: floats(N, B, 6))


# name: (function of the instance's part of the input and its own tensors, those, the input)
KERNELS = {
    "one_hot": (
        lambda x, w: F.one_hot(x, 10).float() @ w, lambda: [floats(10, 3)], lambda: picks(10, N, B)
    ),
    "masked_fill": (
        lambda x, m: x.masked_fill(m > 0, 0.5), lambda: [picks(2, B, 6)], lambda: floats(N, B, 6)
    ),
    "where": (lambda x, w: torch.where(x > 0, x, w), lambda: [floats(6)], lambda: floats(N, B, 6)),
    "pixel_shuffle": scaled(lambda x: F.pixel_shuffle(x, 2), 8, 3, 3),
    "pixel_unshuffle": scaled(lambda x: F.pixel_unshuffle(x, 2), 2, 6, 6),
    "channel_shuffle": scaled(lambda x: F.channel_shuffle(x, 2), 4, 6, 6),
    "roll": scaled(lambda x: torch.roll(x, 2, 1), 6),
    "flip": scaled(lambda x: torch.flip(x, [1]), 6),
    "repeat": scaled(lambda x: x.repeat(1, 2), 6),
    "repeat_interleave": scaled(lambda x: x.repeat_interleave(2, 1), 6),
    "tile": scaled(lambda x: torch.tile(x, (2,)), 6),
    "pad": scaled(lambda x: F.pad(x, (1, 2)), 6),
    "glu": scaled(F.glu, 6),
    "cumsum": scaled(lambda x: torch.cumsum(x, 1), 6),
    "argmax": scaled(lambda x: torch.argmax(x, 1), 6),
    "cosine_similarity": compared(F.cosine_similarity),
    "cosine_similarity, one for many": compared(lambda x, w: F.cosine_similarity(x, w[:, :1])),
    "cosine_similarity, many for one": compared(lambda x, w: F.cosine_similarity(x[:1], w, 0)),
    "pairwise_distance": compared(F.pairwise_distance),
    "normalize": scaled(F.normalize, 6),
    "logaddexp": compared(torch.logaddexp),
    "hypot": compared(torch.hypot),
    "einsum": (
        lambda x, w: torch.einsum("bi,ij->bj", x, w), lambda: [floats(6, 3)],
        lambda: floats(N, B, 6),
    ),
    "mse_loss": compared(F.mse_loss),
    "l1_loss": compared(F.l1_loss),
    "huber_loss": compared(F.huber_loss),
    "smooth_l1_loss": compared(F.smooth_l1_loss),
    "kl_div": compared(lambda x, w: F.kl_div(x, w.softmax(-1), reduction="batchmean")),
    "binary_cross_entropy": compared(lambda x, w: F.binary_cross_entropy(x.sigmoid(), w.sigmoid())),
    "binary_cross_entropy_with_logits": compared(
        lambda x, w: F.binary_cross_entropy_with_logits(x, w.sigmoid())
    ),
    "soft_margin_loss": compared(lambda x, w: F.soft_margin_loss(x, w.sign())),
    "hinge_embedding_loss": compared(lambda x, w: F.hinge_embedding_loss(x, w.sign())),
    "triplet_margin_loss": compared(lambda x, w: F.triplet_margin_loss(x, w, x * 2)),
    "poisson_nll_loss": compared(lambda x, w: F.poisson_nll_loss(x, w.exp())),
    "multilabel_soft_margin_loss": compared(
        lambda x, w: F.multilabel_soft_margin_loss(x, w.sigmoid())
    ),
    "cross_entropy": with_classes(F.cross_entropy),
    "cross_entropy smoothed": with_classes(
        lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1)
    ),
    "cross_entropy of probabilities": compared(lambda x, w: F.cross_entropy(x, w.softmax(-1))),
    "nll_loss": with_classes(lambda x, y: F.nll_loss(x.log_softmax(-1), y)),
}  # fmt: skip

CALLS = {
    "embedding": (F.embedding, lambda: [floats(10, 3)], lambda: picks(10, N, B, 5)),
    "gather": (
        lambda x, i: torch.gather(x, 1, i), lambda: [picks(6, B, 3)], lambda: floats(N, B, 6)
    ),
    "take_along_dim": (
        lambda x, i: torch.take_along_dim(x, i, 1), lambda: [picks(6, B, 3)],
        lambda: floats(N, B, 6),
    ),
    "index_select": (
        lambda x, i: torch.index_select(x, 1, i), lambda: [picks(6, 3)], lambda: floats(N, B, 6)
    ),
    "index": (
        lambda x, i, j: x[i, j], lambda: [picks(B, 7), picks(6, 7)], lambda: floats(N, B, 6)
    ),
    "index of rows": (lambda x, w: w[x], lambda: [floats(10, 3)], lambda: picks(10, N, B)),
    "scatter": (
        lambda x, i: torch.zeros(B, 6).scatter(1, i, x),
        lambda: [torch.rand(B, 6).argsort(1)], lambda: floats(N, B, 6),
    ),
    "scatter_add": (
        lambda x, i: torch.zeros(B, 6).scatter_add(1, i, x), lambda: [picks(6, B, 6)],
        lambda: floats(N, B, 6),
    ),
    "scatter_reduce": (
        lambda x, i: torch.zeros(B, 6).scatter_reduce(1, i, x, "amax"), lambda: [picks(6, B, 6)],
        lambda: floats(N, B, 6),
    ),
    "index_add": (
        lambda x, i: torch.zeros(B, 6).index_add(1, i, x), lambda: [picks(6, 6)],
        lambda: floats(N, B, 6),
    ),
    "index_put": (
        lambda x, i: torch.zeros(B, 6).index_put((i,), x, accumulate=True), lambda: [picks(B, B)],
        lambda: floats(N, B, 6),
    ),
    "searchsorted": (
        lambda x, w: torch.searchsorted(w, x), lambda: [floats(6).sort()[0]],
        lambda: floats(N, B, 6),
    ),
    "interpolate nearest": scaled(lambda x: F.interpolate(x, scale_factor=2), 3, 6, 6),
    "interpolate bilinear": scaled(
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), 3, 6, 6
    ),
    "interpolate linear": scaled(lambda x: F.interpolate(x, scale_factor=2, mode="linear"), 3, 6),
    "interpolate bicubic": scaled(lambda x: F.interpolate(x, size=9, mode="bicubic"), 3, 6, 6),
    "interpolate area": scaled(lambda x: F.interpolate(x, size=4, mode="area"), 3, 6, 6),
    "grid_sample": (
        lambda x, g: F.grid_sample(x, g.expand(B, -1, -1, -1), align_corners=False),
        lambda: [floats(1, 4, 4, 2)], lambda: floats(N, B, 3, 6, 6),
    ),
    "fold": scaled(lambda x: F.fold(x, (4, 4), 2), 12, 9),
    "unfold": scaled(lambda x: F.unfold(x, 2), 3, 4, 4),
    "sort": scaled(lambda x: torch.sort(x, 1)[0], 6),
    "topk": scaled(lambda x: torch.topk(x, 3, 1)[0], 6),
    "tril": scaled(torch.tril, 6, 6),
    "cdist": (torch.cdist, lambda: [floats(3, 6)], lambda: floats(N, B, 6)),
}  # fmt: skip

LOOPS = {
    "embedding_bag": (F.embedding_bag, lambda: [floats(10, 3)], lambda: picks(10, N, B, 5)),
    "embedding_bag with offsets": (
        lambda x, w, o: F.embedding_bag(x.flatten(), w, o, mode="sum"),
        lambda: [floats(10, 3), torch.tensor([0, 3, 7])], lambda: picks(10, N, B, 5),
    ),
    "multi_margin_loss": with_classes(F.multi_margin_loss),
    "quantile": scaled(lambda x: torch.quantile(x, 0.3, 1), 6),
    "cholesky": (
        lambda x, w: x @ torch.linalg.cholesky(w @ w.t() + torch.eye(6)), lambda: [floats(6, 6)],
        lambda: floats(N, B, 6),
    ),
}  # fmt: skip


class Bank(nn.Module):
    def __init__(self, function, make):
        super().__init__()
        self.function = function
        self.names = []
        for i in range(N):
            own = make()
            self.names.append([f"t{i}_{j}" for j in range(len(own))])
            for name, tensor in zip(self.names[-1], own):
                self.register_buffer(name, tensor)

    def forward(self, x):
        own = [[getattr(self, name) for name in names] for names in self.names]
        return torch.stack([self.function(x[i], *mine) for i, mine in enumerate(own)])


def check(case):
    """The report of the bank, which agrees with eager."""
    torch.manual_seed(0)
    function, make, make_input = case
    bank = Bank(function, make).eval()
    fast = pfcn.compile(bank)
    with torch.no_grad():
        for _ in range(2):
            x = make_input()
            torch.testing.assert_close(fast(x), bank(x))
    (group,) = fast.report.groups
    assert group.instances == N
    assert len(fast.report.steps) < N  # nothing is done per instance
    return group


@pytest.mark.parametrize("name", KERNELS)
def test_one_kernel(name):
    group = check(KERNELS[name])
    assert group.kernels and set(group.calls) <= {"pfcn::check_index"}


@pytest.mark.parametrize("name", CALLS)
def test_one_call(name):
    group = check(CALLS[name])
    assert group.calls and "once per instance" not in group.declined


@pytest.mark.parametrize("name", LOOPS)
def test_a_call_per_instance_inside_of_one_step(name):
    group = check(LOOPS[name])
    assert group.calls and "once per instance" in group.declined
