"""`--emit=ptx` and `--emit=launches` of a saved model suffice to run it: the kernels are
interpreted with what the JSON says, and compared with eager."""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path

import launches
import pytest
import toolchain
import torch
from bounds import DTYPES, reports, save, shapes
from cuda_models import MODELS, make
from torch import nn

from pfcn.bench.seed import ParallelFCN

REGISTERS = 128  # of blocks of up to 256 threads: two on a multiprocessor of any chip


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def run_file(path: Path, made: launches.Generated, x: torch.Tensor):
    """The result, and what each launch did."""
    tensors = launches.Tensors([x], torch.jit.load(path).state_dict())
    stats = launches.run(made, tensors)
    return tensors.read_result(), stats


def check(result: torch.Tensor, model: nn.Module, x: torch.Tensor) -> None:
    expected = model(x)
    if x.dtype == torch.float32:
        torch.testing.assert_close(result, expected)
        return
    # Eager rounds hidden values too, and not always to the same side: both against f64.
    exact = copy.deepcopy(model).double()(x.double())
    error, eager_error = ((y.double() - exact).abs().max() for y in (result, expected))
    assert result.dtype == expected.dtype and result.shape == expected.shape
    assert error <= 1.5 * eager_error + torch.finfo(result.dtype).eps * exact.abs().max()


def check_machine_code(made: launches.Generated, chip: str) -> None:
    done = toolchain.assemble(made.ptx, chip)
    assert not done.errors
    # What tensor cores multiply lives in registers, of which a thread has 255.
    on_tensor_cores = {launch["kernel"] for launch in made.launches if launch["tensor_cores"]}
    for name, kernel in done.kernels.items():
        assert kernel.spill_loads == kernel.spill_stores == kernel.stack == 0, kernel
        assert kernel.registers <= REGISTERS or name in on_tensor_cores, kernel
    if chip != "sm_90":
        return
    for launch in made.launches:
        code = toolchain.sass(done.cubin)[launch["kernel"]]
        assert any("LDG.E.128" in i for i in code)
        assert not any(i.split()[0].startswith(("LDL", "STL")) for i in code)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", MODELS)
def test_a_saved_model_runs_from_ptx_and_json(tmp_path, kind, dtype):
    """And what is claimed of its kernels: every chip takes them, without spills; wide loads; few
    sectors beyond the bytes that must move."""
    model, x = make(kind, DTYPES[dtype])
    path = save(tmp_path, model, x)
    made = launches.Generated.of(path, "sm_90", shapes(x))
    assert len(made.launches) == MODELS[kind][1]
    result, stats = run_file(path, made, x)
    check(result, model, x)
    for report in reports(made, stats, "sm_90"):
        assert report.memory_overhead <= 1.3 and report.blocks >= 2, str(report)
    # A thousand networks take long to import, once for each chip.
    for chip in toolchain.CHIPS[::3] if kind == "seed" else toolchain.CHIPS:
        check_machine_code(launches.Generated.of(path, chip, shapes(x)), chip)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("make_model", "width"),
    [(lambda: ParallelFCN(1000), 20000), (lambda: MODELS["two classes"][0]()[0], 240)],
    ids=["seed", "two classes"],
)
def test_any_batch_size_with_one_image(tmp_path, make_model, width):
    torch.manual_seed(1)
    model = make_model().eval().requires_grad_(False)
    path = save(tmp_path, model, torch.randn(2, width))
    made = launches.Generated.of(path, "sm_80", shapes(torch.empty(1, width), dynamic=True))
    for batch in (2,) if width == 20000 else (1, 15, 17, 300):
        x = torch.randn(batch, width)
        check(run_file(path, made, x)[0], model, x)


MODULE = """
func.func @forward(%x: tensor<?x10xf32>, %s: tensor<3xf32>) -> (tensor<?x4xf32>, tensor<?x4xf32>) {
  %c0 = arith.constant 0 : index
  %n = tensor.dim %x, %c0 : tensor<?x10xf32>
  %w = pfcn.parameter_stack ["b.0.w", "c.0.w"] : tensor<2x2x3xf32>
  %init = pfcn.empty(%n) : tensor<?x4xf32>
  %y = pfcn.kernel "k" count 2
    ins(%x, %w, %s : tensor<?x10xf32>, tensor<2x2x3xf32>, tensor<3xf32>)
    [#pfcn.access<slice dim 1 size 3 stride 4 offset 2>, #pfcn.access<select dim 0>,
     #pfcn.access<shared>]
    outs(%init : tensor<?x4xf32>) [#pfcn.access<slice dim 1 size 2 stride 2>] {
  ^bb0(%a: tensor<2x?x3xf32>, %v: tensor<2x2x3xf32>, %t: tensor<3xf32>):
    %p = pfcn.mul %a, %t : tensor<2x?x3xf32>, tensor<3xf32> -> tensor<2x?x3xf32>
    %0 = pfcn.batch_matmul %p, %v {transpose_rhs}
      : tensor<2x?x3xf32>, tensor<2x2x3xf32> -> tensor<2x?x2xf32>
    pfcn.yield %0 : tensor<2x?x2xf32>
  } -> tensor<?x4xf32>
  %z = pfcn.relu %y : tensor<?x4xf32>
  return %z, %y : tensor<?x4xf32>, tensor<?x4xf32>
}
"""


def test_what_arguments_say():
    """A slice at an offset, a stack, a shared input, a result of unknown size, read again."""
    (launch,) = json.loads(launches.emit(MODULE, "launches", "sm_90"))
    arguments = {argument["name"]: argument for argument in launch["args"]}
    assert list(arguments) == [
        *("input0", "input0.size0", "input0.stride0"),
        *("*.0.w", "input1", "result1", "result1.size0"),
    ]
    x = arguments["input0"]
    assert (x["shape"], x["strides"], x["offset"]) == ([2, None, 3], [4, 10, 1], 2)
    assert (x["role"], x["index"], x["tensor_shape"]) == ("input", 0, ["input0.size0", 10])
    assert arguments["input0.stride0"]["value"] == 10
    assert arguments["*.0.w"]["parameters"] == ["b.0.w", "c.0.w"]
    assert arguments["input1"]["access"] is None
    assert arguments["result1"]["init"] is None
    assert arguments["result1.size0"]["value"] is None
    assert arguments["result1.size0"]["equals"] == "input0.size0"
    assert launch["shared_bytes"] == 0 < launch["static_shared_bytes"]


def test_nothing_is_launched_without_a_group():
    text = "func.func @forward(%x: tensor<2xf32>) -> tensor<2xf32> { return %x : tensor<2xf32> }"
    command = [launches.PFCN_OPT, "-", "--pfcn-pipeline-nvvm", "--emit=launches"]
    done = subprocess.run(command, input=text, text=True, capture_output=True, check=True)
    assert json.loads(done.stdout) == []
