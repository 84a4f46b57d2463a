"""Kernels of sizes that fill no vector, warp or tile, interpreted: every access is inside of
what it reads, aligned and initialised, and the results are those of eager."""

from __future__ import annotations

import itertools
import warnings

import launches
import pytest
import torch
from cuda_models import Bank
from ptx import PtxFault
from torch import nn

from pfcn.capture import record

SIZES = (1, 3, 5, 11, 15, 16, 17)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# (instances, batch), each with every size and type: fewer and more than a warp, and odd.
RUNS = ((3, 1), (4, 2), (5, 17), (33, 3))


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def make(width: int, hidden: int, out: int, n: int, shared: bool, dtype: torch.dtype) -> Bank:
    torch.manual_seed(1000 * width + n)
    layers = lambda: nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, out))
    one_layer = lambda: nn.Linear(width, out)
    return Bank(n, one_layer if hidden == out else layers, width, shared).to(dtype).eval()


def interpret(model: Bank, x: torch.Tensor, chip: str = "sm_90") -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = launches.Generated.of(record(model, (x,)).model.text(), chip)
    assert len(made.launches) == 1
    data = launches.Tensors([x], model.state_dict())
    launches.run(made, data)
    return data.read_result()


def check(model: Bank, x: torch.Tensor, chip: str = "sm_90") -> None:
    # 16-bit models in f32, rounded once: the kernel keeps f32 between its layers.
    wide = Bank(len(model.models), lambda: nn.Identity(), model.width, model.shared)
    wide.models = nn.ModuleList(m for m in model.models)
    dtype = x.dtype
    result = interpret(model, x, chip)
    expected = wide.float()(x.float()).to(dtype)
    model.to(dtype)
    tolerance = {torch.float16: 4e-3, torch.bfloat16: 3e-2}.get(dtype)
    torch.testing.assert_close(result, expected, rtol=tolerance, atol=tolerance)


@torch.no_grad()
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", SIZES)
def test_every_access_is_inside(width, dtype):
    others = itertools.cycle(SIZES[SIZES.index(width) + 1 :] + SIZES[: SIZES.index(width) + 1])
    for (n, batch), shared in itertools.product(RUNS, (False, True)):
        hidden, out = next(others), next(others)
        model = make(width, hidden, out, n, shared, dtype)
        x = torch.randn(batch, width if shared else n * width).to(dtype)
        try:
            check(model, x)
        except (PtxFault, AssertionError) as error:
            error.add_note(f"{n} of {width} to {hidden} to {out}, batch {batch}, {shared=}")
            raise
