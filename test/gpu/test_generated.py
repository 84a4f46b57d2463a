"""The compiler's own kernels: interpreted against eager torch, assembled for every chip.

Sectors are bounded only where everything that moves is read once: at batch 1.
"""

from __future__ import annotations

import functools
import math
import warnings

import launches
import mutate
import occupancy
import pytest
import toolchain
import torch
from cuda_models import Bank
from ptx import PtxFault
from torch import nn

from pfcn.capture import record


def seed_network():
    return nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 1))


def ensemble_member():
    return nn.Sequential(
        *(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
    )


def normalised():
    return nn.Sequential(nn.Linear(12, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 2))


def tanh_network():
    return nn.Sequential(nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 3), nn.Softmax(dim=-1))


# name: (instances, network, width, shared input, batch, dtype)
MODELS = {
    "seed": (1000, seed_network, 20, False, 1, torch.float32),
    "seed_batch": (33, seed_network, 20, False, 5, torch.float32),
    "seed_f64": (33, seed_network, 20, False, 2, torch.float64),
    "seed_f16": (40, seed_network, 20, False, 1, torch.float16),
    "seed_bf16": (40, seed_network, 20, False, 3, torch.bfloat16),
    "ensemble": (6, ensemble_member, 12, True, 16, torch.float32),
    "ensemble_bf16": (6, ensemble_member, 12, True, 8, torch.bfloat16),
    "layer_norm_f16": (9, normalised, 12, False, 3, torch.float16),
    "softmax_f64": (9, tanh_network, 7, False, 4, torch.float64),
    "layer_norm": (9, normalised, 12, False, 3, torch.float32),
    "softmax": (9, tanh_network, 7, False, 4, torch.float32),
}
REGISTERS = {"ensemble": 184, "ensemble_bf16": 255}  # the ceiling; 128 for the others
ONE_BATCH = [name for name, m in MODELS.items() if m[4] == 1]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@functools.cache
def prepared(name: str):
    """(model, inputs, MLIR), seeded."""
    n, make, width, shared, batch, dtype = MODELS[name]
    torch.manual_seed(11)
    model = Bank(n, make, width, shared).to(dtype).eval()
    x = torch.randn(batch, width if shared else n * width).to(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model, x, record(model, (x,)).model.text()


@functools.cache
def generated(name: str, chip: str) -> launches.Generated:
    return launches.Generated.of(prepared(name)[2], chip)


def expected(name: str) -> torch.Tensor:
    """16-bit models in f32, rounded once: the kernel keeps f32 between its layers."""
    model, x, _ = prepared(name)
    if x.dtype not in (torch.float16, torch.bfloat16):
        return model(x).detach()
    wide = Bank(*MODELS[name][:4]).float().eval()
    wide.load_state_dict(model.state_dict())
    return wide(x.float()).detach().to(x.dtype)


def tensors(name: str) -> launches.Tensors:
    model, x, _ = prepared(name)
    return launches.Tensors([x], model.state_dict())


@pytest.mark.parametrize("name", MODELS)
def test_kernels_compute_what_torch_computes(name):
    want = expected(name)
    made = generated(name, "sm_90")
    assert len(made.launches) == 1
    for order in ("forward", "backward"):
        data = tensors(name)
        launches.run(made, data, order)
        tolerance = {torch.float16: 4e-3, torch.bfloat16: 3e-2}.get(want.dtype)
        if tolerance:
            torch.testing.assert_close(data.read_result(), want, rtol=tolerance, atol=tolerance)
        else:
            torch.testing.assert_close(data.read_result(), want)


@pytest.mark.parametrize("name", ONE_BATCH)
def test_little_more_is_moved_than_must_be(name):
    (stats,) = launches.run(generated(name, "sm_90"), tensors(name), "together")
    assert stats.sector_overhead <= 1.3


@pytest.mark.parametrize("name", MODELS)
def test_every_chip_takes_the_kernels(name):
    text = generated(name, "sm_75" if "bf16" not in name else "sm_80").ptx
    for chip in toolchain.CHIPS:
        if chip == "sm_75" and "bf16" in name:
            continue
        done = toolchain.assemble(text, chip)
        assert not done.errors
        for kernel in done.kernels.values():
            assert kernel.spill_loads == kernel.spill_stores == kernel.stack == 0, kernel
            assert kernel.registers <= REGISTERS.get(name, 128), kernel


def test_the_seed_models_machine_code():
    """128-bit loads, no local memory, and a bound that is memory's."""
    made = generated("seed", "sm_90")
    (launch,) = made.launches
    (stats,) = launches.run(made, tensors("seed"), "together")
    done = toolchain.assemble(made.ptx, "sm_90")
    code = toolchain.sass(done.cubin)[launch["kernel"]]
    assert any("LDG.E.128" in i for i in code)
    assert not any(i.split()[0].startswith(("LDL", "STL")) for i in code)
    kernel = done.kernels[launch["kernel"]]
    grid, block = math.prod(launch["grid"]), math.prod(launch["block"])
    report = occupancy.report(kernel, stats, "sm_90", grid, block)
    assert report.blocks >= 1 and report.memory_us == report.bound_us


MUTATIONS = ("drop_barrier", "misalign_vector", "drop_store", "shift_shared", "wrong_width")
SITES = 6  # of each, spread over the kernel


@pytest.mark.parametrize("operator", MUTATIONS)
def test_broken_kernels_are_caught(operator):
    name, want = "seed_batch", expected("seed_batch")
    made = generated(name, "sm_90")
    (launch,) = made.launches
    (stats,) = launches.run(made, tensors(name), "together")
    found = mutate.mutants(made.ptx, launch["kernel"], operator)
    found = [m for m in found if m.line in stats.reached]
    alive = []
    for mutant in found[:: -(-len(found) // SITES)]:
        data = tensors(name)
        try:
            launches.run(launches.Generated(mutant.text, made.launches), data, "forward")
            torch.testing.assert_close(data.read_result(), want)
        except (PtxFault, AssertionError):
            continue
        alive.append(str(mutant))
    assert found and not alive, "\n".join(alive)
