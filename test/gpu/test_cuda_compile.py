"""`pfcn.compile(..., device="cuda")` on the fake driver, against eager: every kernel really runs,
in the interpreter. One driver serves the process; faults that it notices fail the test."""

from __future__ import annotations

import copy
import ctypes.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import toolchain
import torch
from cuda_models import MODELS, make
from fake_driver import FakeDriver
from torch import nn

import pfcn
from pfcn.bench.seed import ParallelFCN

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def loaded(tmp_path_factory):
    driver = FakeDriver(tmp_path_factory.mktemp("cuda"))
    driver.preload()
    return driver


@pytest.fixture
def driver(loaded, tmp_path, monkeypatch):
    monkeypatch.setenv("PFCN_CACHE_DIR", str(tmp_path / "cache"))
    before = len(loaded.faults())
    with torch.no_grad():
        yield loaded
    assert loaded.faults()[before:] == []


def fail(driver: FakeDriver, monkeypatch, function: str, code: int) -> None:
    """The next call of the function returns this error."""
    monkeypatch.setenv("FAKE_CUDA_FAIL", f"{function}:{len(driver.calls(function)) + 1}:{code}")


def check(fast: nn.Module, model: nn.Module, *inputs: torch.Tensor) -> None:
    result, expected = fast(*inputs), model(*inputs)
    assert result.device.type == "cpu"
    if result.dtype in (torch.float32, torch.float64):
        torch.testing.assert_close(result, expected)
        return
    # Eager rounds hidden values too, and not always to the same side: both against f64.
    exact = copy.deepcopy(model).double()(*(x.double() for x in inputs))
    error, eager_error = ((y.double() - exact).abs().max() for y in (result, expected))
    assert result.dtype == expected.dtype and result.shape == expected.shape
    assert error <= 1.5 * eager_error + torch.finfo(result.dtype).eps * exact.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", MODELS)
def test_a_group_is_one_launch(driver, kind, dtype):
    model, x = make(kind, dtype)
    fast = pfcn.compile(model, (x,), device="cuda", strict=True)
    kernels = MODELS[kind][1]
    assert fast.report.launches == kernels, str(fast.report)
    before = len(driver.launches())
    check(fast, model, x)
    assert len(driver.launches()) - before == kernels


def test_f64_and_another_batch_size(driver):
    torch.manual_seed(0)
    model = ParallelFCN(33).double().eval()
    fast = pfcn.compile(model, device="cuda")
    for batch in (1, 5, 2, 40):
        check(fast, model, torch.randn(batch, 660, dtype=torch.float64))


@pytest.mark.parametrize(
    "layout",
    [
        lambda x: x.t().contiguous().t(),
        lambda x: torch.stack([x, x], dim=-1)[..., 0],
        lambda x: x[:1].expand(4, -1),
        lambda x: torch.cat([x, x])[1:5],
    ],
    ids=["transposed", "every other", "expanded", "offset"],
)
def test_inputs_of_any_layout(driver, layout):
    torch.manual_seed(1)
    model = ParallelFCN(8).eval()
    x = layout(torch.randn(4, 160))
    check(pfcn.compile(model, (x,), device="cuda"), model, x)


def copies(driver: FakeDriver) -> int:
    return sum(call["bytes"] for call in driver.calls("cuMemcpyHtoDAsync_v2"))


def test_weights_are_copied_when_they_change_and_only_then(driver):
    torch.manual_seed(2)
    model, x = ParallelFCN(16).eval(), torch.randn(2, 320)
    fast = pfcn.compile(model, (x,), device="cuda")
    check(fast, model, x)
    before = len(driver.calls("cuMemcpyHtoDAsync_v2"))
    check(fast, model, x)
    assert len(driver.calls("cuMemcpyHtoDAsync_v2")) - before == 1  # the input
    parameter = model.models[3][0].weight
    changes = [
        lambda: parameter.add_(1),
        lambda: parameter.data.mul_(2),  # moves no version counter
        lambda: parameter.detach().numpy().__setitem__(0, 7.0),  # tells torch nothing
        lambda: setattr(parameter, "data", torch.randn_like(parameter)),
        lambda: model.load_state_dict({k: v + 1 for k, v in model.state_dict().items()}),
        lambda: setattr(model.models[5], "1", nn.Linear(10, 1)),
    ]
    for change in changes:
        change()
        check(fast, model, x)
        check(fast, model, x)


def test_frozen_weights_stay(driver):
    torch.manual_seed(3)
    model, x = ParallelFCN(16).eval(), torch.randn(2, 320)
    fast, expected = pfcn.compile(model, (x,), device="cuda", freeze=True), model(x)
    model.models[0][0].weight.add_(1)
    torch.testing.assert_close(fast(x), expected)


class Between(nn.Module):
    """Operators of torch before, between and after two groups; a weight that both sides read."""

    def __init__(self):
        super().__init__()
        self.a = nn.ModuleList(nn.Linear(6, 4) for _ in range(5))
        self.b = nn.ModuleList(nn.Linear(4, 3) for _ in range(5))
        self.scale = nn.Parameter(torch.randn(3))

    def forward(self, x):
        x = torch.cumsum(x, dim=1)
        y = torch.stack([torch.relu(m(x)) for m in self.a])
        y = torch.cumsum(y, dim=0)
        z = torch.stack([m(y[i]) * self.scale for i, m in enumerate(self.b)])
        return torch.cumsum(z, dim=0) + self.scale, y


def test_operators_of_torch_between_kernels(driver):
    torch.manual_seed(4)
    model, x = Between().eval(), torch.randn(7, 6)
    fast = pfcn.compile(model, (x,), device="cuda")
    assert fast.report.launches == 2, str(fast.report)
    kinds = [kind for kind, _ in fast.report.steps]
    assert kinds.count("copy") == 4, kinds  # each group's input there, its result back
    for result, expected in zip(fast(x), model(x), strict=True):
        torch.testing.assert_close(result, expected)


def test_a_reversed_bank_and_results_used_twice(driver):
    class Reversed(nn.Module):
        def __init__(self):
            super().__init__()
            self.networks = nn.ModuleList(nn.Linear(4, 2) for _ in range(6))

        def forward(self, x):
            parts = [m(x[:, 4 * i : 4 * i + 4]) for i, m in enumerate(self.networks)]
            return torch.cat(parts[::-1], dim=1), torch.stack(parts), parts[2]

    torch.manual_seed(5)
    model, x = Reversed().eval(), torch.randn(3, 24)
    fast = pfcn.compile(model, (x,), device="cuda")
    for result, expected in zip(fast(x), model(x), strict=True):
        torch.testing.assert_close(result, expected)


def test_threads_share_a_device(driver):
    torch.manual_seed(6)
    model = ParallelFCN(4).eval()
    xs = [torch.randn(2, 80) for _ in range(16)]
    fast = pfcn.compile(model, (xs[0],), device="cuda")

    def run(x):
        with torch.no_grad():
            return fast(x)

    with ThreadPoolExecutor(4) as pool:
        for x, result in zip(xs, pool.map(run, xs), strict=True):
            torch.testing.assert_close(result, model(x))


# --- Images --------------------------------------------------------------------------------------


def entries(tmp_path: Path) -> list[bytes]:
    cache = tmp_path / "cache"
    return [path.read_bytes() for path in cache.iterdir() if path.suffix != ".timestamp"]


def test_ptx_is_compiled_once(driver, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("PFCN_LOG", "cache")
    model, x = make("norm bank")
    check(pfcn.compile(model, (x,), device="cuda"), model, x)
    assert sum(b".target sm_90" in entry for entry in entries(tmp_path)) == 1
    capfd.readouterr()
    check(pfcn.compile(model, (x,), device="cuda"), model, x)
    log = capfd.readouterr().err
    assert "found" in log and "stored" not in log


def test_cubins_are_assembled_by_ptxas(driver, tmp_path, monkeypatch):
    # The fake driver reads PTX only: this ptxas hands it on where the real one takes it.
    ptxas = tmp_path / "bin" / "ptxas"
    ptxas.parent.mkdir()
    ptxas.write_text(f'#!/bin/sh\n"{toolchain.tool("ptxas")}" "$@" && cp "$2" "$4"\n')
    ptxas.chmod(0o700)
    monkeypatch.setenv("CUDA_ROOT", str(tmp_path))
    monkeypatch.setenv("PFCN_CUDA_IMAGE", "cubin")
    torch.manual_seed(9)
    model, x = ParallelFCN(21).eval(), torch.randn(2, 420)
    check(pfcn.compile(model, (x,), device="cuda"), model, x)
    assert len(entries(tmp_path)) == 2  # PTX and "cubin"
    monkeypatch.setenv("PFCN_CUDA_IMAGE", "fatbin")
    with pytest.raises(pfcn.CompileError, match="ptx or cubin, not 'fatbin'"):
        pfcn.compile(model, (x,), device="cuda")
    monkeypatch.setenv("PFCN_CUDA_IMAGE", "cubin")
    monkeypatch.setenv("PFCN_CACHE_DIR", "")
    ptxas.write_text("#!/bin/sh\necho no such chip >&2\nexit 3\n")
    with pytest.raises(pfcn.CompileError, match=r"ptxas failed for sm_90: [^\0]*no such chip"):
        pfcn.compile(model, (x,), device="cuda")


# --- Errors --------------------------------------------------------------------------------------

CALLS = {
    # function: an error that it may give
    "cuModuleLoadDataEx": (222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "update it"),
    "cuModuleGetFunction": (500, "CUDA_ERROR_NOT_FOUND", "report it"),
    "cuMemcpyHtoDAsync_v2": (700, "CUDA_ERROR_ILLEGAL_ADDRESS", "restart the process"),
    "cuLaunchKernel": (701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "report it"),
    "cuMemcpyDtoHAsync_v2": (719, "CUDA_ERROR_LAUNCH_FAILED", "restart the process"),
    "cuStreamSynchronize": (716, "CUDA_ERROR_MISALIGNED_ADDRESS", "restart the process"),
    "cuCtxPushCurrent_v2": (201, "CUDA_ERROR_INVALID_CONTEXT", "report it"),
}


@pytest.mark.parametrize("function", CALLS)
def test_every_failing_call_is_an_exception(driver, monkeypatch, function):
    code, name, remedy = CALLS[function]
    torch.manual_seed(7)
    width = 11 + list(CALLS).index(function)  # a kernel that no other test has loaded
    model = nn.ModuleList(nn.Linear(width, 3) for _ in range(4))
    model.forward = lambda x: torch.stack([m(x) for m in model])
    x = torch.randn(2, width)
    with pytest.raises(pfcn.CudaError, match=remedy) as caught:
        fail(driver, monkeypatch, function, code)
        pfcn.compile(model, (x,), device="cuda")(x)
    assert caught.value.name == name and name in str(caught.value)
    check(pfcn.compile(model, (x,), device="cuda"), model, x)  # the next call finds all in order


def test_errors_of_fast_calls(driver, monkeypatch):
    model, x = ParallelFCN(4).eval(), torch.randn(1, 80)
    fast = pfcn.compile(model, (x,), device="cuda")
    check(fast, model, x)
    hits = fast._engine.dispatcher.hits
    fail(driver, monkeypatch, "cuLaunchKernel", 701)
    with pytest.raises(pfcn.CudaError, match="launching failed of kernel linear") as caught:
        fast(x)
    assert caught.value.name == "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"
    assert fast._engine.dispatcher.hits == hits + 1
    check(fast, model, x)


def test_memory_that_is_not_used_is_freed_before_giving_up(driver, monkeypatch):
    model, x = ParallelFCN(4).eval(), torch.randn(1, 80)
    check(pfcn.compile(model, (x,), device="cuda"), model, x)
    larger = torch.randn(3500, 80)
    fail(driver, monkeypatch, "cuMemAlloc_v2", 2)
    before = len(driver.calls("cuMemFree_v2"))
    check(pfcn.compile(model, (larger,), device="cuda"), model, larger)
    assert len(driver.calls("cuMemFree_v2")) > before


def test_out_of_memory(driver, monkeypatch):
    model, x = ParallelFCN(4).eval(), torch.randn(20_000, 80)
    calls = len(driver.calls("cuMemAlloc_v2"))
    failures = ",".join(f"cuMemAlloc_v2:{calls + i}:2" for i in range(1, 9))
    monkeypatch.setenv("FAKE_CUDA_FAIL", failures)
    with pytest.raises(pfcn.CudaError, match="smaller batch") as caught:
        pfcn.compile(model, (x,), device="cuda")(x)
    assert caught.value.name == "CUDA_ERROR_OUT_OF_MEMORY"


def test_eager_where_asked_for(driver):
    model, x = ParallelFCN(4).eval(), torch.randn(1, 80)
    with pytest.warns(UserWarning, match="no device cuda:7"):
        fast = pfcn.compile(model, (x,), device="cuda:7", on_error="eager")
    check(fast, model, x)
    assert "cuda:7" in fast.report.eager


def test_devices_that_there_are_not():
    with pytest.raises(pfcn.InputError, match='"cpu", "cuda"'):
        pfcn.compile(nn.Linear(1, 1), device="mps")
    with pytest.raises(pfcn.InputError, match='"cpu", "cuda"'):
        pfcn.compile(nn.Linear(1, 1), device="nonsense")


def run_script(driver: FakeDriver | None, script: str, *arguments, **variables):
    environment = driver.environment() if driver else dict(os.environ)
    environment |= {"PYTHONPATH": f"{ROOT / 'python'}:{Path(__file__).parent}"} | variables
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


INIT = """
import os, sys
import torch, pfcn
from pfcn.bench.seed import ParallelFCN
from fake_driver import FakeDriver
driver = FakeDriver(sys.argv[1])
model, x = ParallelFCN(4).eval(), torch.randn(1, 80)
functions = ["cuInit", "cuDriverGetVersion", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName",
             "cuDeviceGetAttribute", "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent_v2",
             "cuStreamCreate"]
with torch.no_grad():
    for function in functions:
        call = len(driver.calls(function)) + 1
        os.environ["FAKE_CUDA_FAIL"] = f"{function}:{call}:100"
        try:
            pfcn.compile(model, (x,), device="cuda")
        except pfcn.CudaError as error:
            assert error.name == "CUDA_ERROR_NO_DEVICE", error
            assert "CUDA_VISIBLE_DEVICES" in error.remedy
            assert len(driver.calls(function)) == call, function
        else:
            raise AssertionError(function + " failed, and nobody noticed")
    torch.testing.assert_close(pfcn.compile(model, (x,), device="cuda")(x), model(x))
"""


def test_every_call_of_the_initialisation_may_fail(tmp_path):
    run_script(FakeDriver(tmp_path), INIT, tmp_path)


TWO_DEVICES = """
import torch, pfcn
from pfcn.bench.seed import ParallelFCN
model, x = ParallelFCN(4).eval(), torch.randn(1, 80)
with torch.no_grad():
    on = [pfcn.compile(model, (x,), device=f"cuda:{i}") for i in range(2)]
    for fast in [*on, *on]:
        torch.testing.assert_close(fast(x), model(x))
try:
    pfcn.compile(model, (x,), device="cuda:2")
except pfcn.CudaError as error:
    print(error.name, error)
"""


def test_two_devices(tmp_path):
    driver = FakeDriver(tmp_path, DEVICES=2)
    text = run_script(driver, TWO_DEVICES)
    assert text.startswith("CUDA_ERROR_INVALID_DEVICE")
    assert "no device cuda:2 among 2" in text and "remedy: there is no device" in text
    assert driver.faults() == []
    assert len(driver.calls("cuModuleLoadDataEx")) == 2
    assert len(driver.launches()) == 4


NO_DRIVER = """
import torch, pfcn
model, x = torch.nn.Linear(1, 1), torch.randn(1, 1)
try:
    pfcn.compile(model, (x,), device="cuda")
except pfcn.CudaError as error:
    print(error.name, error)
"""


def test_a_driver_that_is_too_old(tmp_path):
    text = run_script(FakeDriver(tmp_path, VERSION=10020), NO_DRIVER)
    assert text.startswith("CUDA_DRIVER_TOO_OLD")
    assert "CUDA 10.2" in text and "remedy: update NVIDIA's driver" in text


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_no_driver(tmp_path):
    if ctypes.util.find_library("cuda"):
        pytest.skip("this machine has a driver")
    text = run_script(None, NO_DRIVER)
    assert text.startswith("CUDA_DRIVER_NOT_FOUND")
    assert "libcuda.so.1" in text and "remedy: install NVIDIA's driver" in text
    script_file(tmp_path, ParallelFCN(3).eval(), torch.randn(1, 60))
    command = [ROOT / "build/bin/pfcn-run", tmp_path / "model.pt", "--target=cuda"]
    done = subprocess.run(command, text=True, capture_output=True)
    assert done.returncode == 1 and "libcuda.so.1" in done.stderr


@pytest.mark.parametrize(
    ("capability", "message"),
    [(70, "capability 7.0"), (75, ""), (87, ""), (110, ""), (121, "")],
)
def test_devices_old_and_new(tmp_path, capability, message):
    script = """
import torch, pfcn
from pfcn.bench.seed import ParallelFCN
model, x = ParallelFCN(4).eval(), torch.randn(1, 80)
with torch.no_grad():
    try:
        torch.testing.assert_close(pfcn.compile(model, (x,), device="cuda")(x), model(x))
    except pfcn.CudaError as error:
        print(error)
"""
    text = run_script(FakeDriver(tmp_path, CAPABILITY=capability), script)
    assert message in text and bool(text) == bool(message)


# --- pfcn-run ------------------------------------------------------------------------------------


def script_file(folder: Path, model: nn.Module, x: torch.Tensor) -> list:
    path = folder / "model.pt"
    torch.jit.trace(model, x).save(path)
    return [path]


def mlir_file(folder: Path, model: nn.Module, x: torch.Tensor) -> list:
    path, weights = folder / "model.mlir", folder / "weights.npz"
    script = folder / "model.pt"
    torch.jit.trace(model, x).save(script)
    shape = "x".join(map(str, x.shape))
    command = [ROOT / "build/bin/pfcn-opt", script, f"--input-shapes={shape}xf32", "-o", path]
    subprocess.run(command, check=True)
    np.savez(weights, **{name: p.numpy() for name, p in model.state_dict().items()})
    return [path, "--params", weights]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("save", [script_file, mlir_file])
def test_pfcn_run(tmp_path, save):
    torch.manual_seed(8)
    model, x = ParallelFCN(40).eval(), torch.randn(3, 800)
    source, result = tmp_path / "x.npy", tmp_path / "y.npy"
    np.save(source, x.numpy())
    driver = FakeDriver(tmp_path)
    done = driver.run(
        [ROOT / "build/bin/pfcn-run", *save(tmp_path, model, x), "--target=cuda"]
        + ["--input", source, "--output", result]
    )
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(torch.from_numpy(np.load(result)), model(x).detach())
    assert len(driver.launches()) == 1
    assert driver.faults() == []


@pytest.fixture
def tf32():
    """Torch's setting, put back after the test."""
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision

    def allow(allowed: bool) -> None:
        matmul.fp32_precision = "tf32" if allowed else "ieee"

    yield allow
    matmul.fp32_precision = before


def test_tf32_is_used_where_torch_allows_it_and_only_there(driver, tf32):
    model, x = make("ensemble")
    fast = pfcn.compile(model, device="cuda", strict=True)
    exact = copy.deepcopy(model).double()(x.double())
    for allowed, instruction in [(False, ""), (True, "mma.m16n8k8.tf32"), (False, "")]:
        tf32(allowed)
        error = (fast(x) - exact).abs().max()
        # One of 10 bits of each factor is lost, or none is.
        assert error <= 2**-9 if allowed else error <= 2**-18
        assert (error > 2**-18) == allowed
        if fast.report.plans == 1 + allowed:
            assert fast.report.groups[0].tensor_cores == instruction
    assert fast.report.plans == 2
    assert fast(x).dtype == torch.float32


@pytest.mark.parametrize(
    ("dtype", "instruction"),
    [(torch.float16, "mma.m16n8k16.f16"), (torch.bfloat16, "mma.m16n8k16.bf16")],
    ids=str,
)
def test_the_report_names_the_instruction(driver, dtype, instruction):
    model, x = make("ensemble", dtype)
    fast = pfcn.compile(model, (x,), device="cuda", strict=True)
    assert fast.report.groups[0].tensor_cores == instruction
    assert f"({instruction})" in str(fast.report)
    assert fast.report.to_dict()["groups"][0]["tensor_cores"] == instruction
    check(fast, model, x)


class Recurrent(nn.Module):
    """Recurrent layers side by side: a loop over time in a kernel."""

    def __init__(self, cell: type[nn.RNNBase], count: int, inputs: int, hidden: int):
        super().__init__()
        make = lambda: cell(inputs, hidden, batch_first=True)
        self.members = nn.ModuleList(make() for _ in range(count))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([member(x)[0] for member in self.members])


@pytest.mark.parametrize("cell", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize(
    "count, batch, inputs, hidden", [(40, 1, 5, 8), (3, 33, 4, 7), (4, 1, 64, 48)]
)
def test_threads_share_what_a_step_computes(driver, cell, count, batch, inputs, hidden):
    """Operands of the loop are brought in before it; the last are too many for one kernel."""
    torch.manual_seed(0)
    model, x = Recurrent(cell, count, inputs, hidden).eval(), torch.randn(batch, 4, inputs)
    fast = pfcn.compile(model, (x,), device="cuda", strict=True)
    check(fast, model, x)
    assert len(fast.report.groups) == 1, str(fast.report)
