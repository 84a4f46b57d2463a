"""pfcn-run as its users start it: results in files, one line on stderr for whatever is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import models
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[2]
MLIR = """func.func @forward(%x: tensor<?x10xf32>) -> tensor<?x6xf32> {
  %c0 = arith.constant 0 : index
  %batch = tensor.dim %x, %c0 : tensor<?x10xf32>
  %w = pfcn.parameter_stack ["a", "b"] : tensor<2x3x5xf32>
  %init = pfcn.empty(%batch) : tensor<?x6xf32>
  %y = pfcn.instances "two" count 2 ins(%x, %w : tensor<?x10xf32>, tensor<2x3x5xf32>)
      [#pfcn.access<slice dim 1 size 5 stride 5>, #pfcn.access<select dim 0>]
      outs(%init : tensor<?x6xf32>) [#pfcn.access<slice dim 1 size 3 stride 3>] {
  ^bb0(%a: tensor<?x5xf32>, %b: tensor<3x5xf32>):
    %0 = pfcn.linear %a, %b : tensor<?x5xf32>, tensor<3x5xf32> -> tensor<?x3xf32>
    pfcn.yield %0 : tensor<?x3xf32>
  } -> tensor<?x6xf32>
  return %y : tensor<?x6xf32>
}"""


def run(*arguments: object) -> subprocess.CompletedProcess:
    """The module that build/bin/pfcn-run starts, so that these tests need no build folder."""
    command = [sys.executable, "-m", "pfcn.run", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT / "python", timeout=300)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """model.pt with x.npy and y.npy, model.mlir with its weights, u.npy and z.npy."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    model = models.make(models.Slices(4))
    x = torch.randn(3, 20)
    np.save(folder / "x.npy", x.numpy())
    np.save(folder / "y.npy", model(x).detach().numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(model, (x,)), folder / "model.pt")
    (folder / "model.mlir").write_text(MLIR)
    weights = {"a": torch.randn(3, 5), "b": torch.randn(3, 5)}
    save_file(weights, folder / "weights.safetensors")
    np.savez(folder / "weights.npz", **{name: w.numpy() for name, w in weights.items()})
    np.savez(folder / "half.npz", a=weights["a"].numpy())
    np.savez(folder / "wrong.npz", a=weights["a"].numpy(), b=np.zeros((3, 4), np.float32))
    u = torch.randn(7, 10)
    np.save(folder / "u.npy", u.numpy())
    np.save(folder / "z.npy", torch.cat([u[:, :5] @ weights["a"].T, u[:, 5:] @ weights["b"].T], 1))
    (folder / "bad.mlir").write_text("func.func @forward( {")
    (folder / "empty.pt").write_bytes(b"")
    batch = torch.export.Dim("batch", max=1024)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},))
    torch.export.save(program, folder / "model.pt2")
    (folder / "empty.pt2").write_bytes(b"")
    (folder / "short.pt2").write_bytes((folder / "model.pt2").read_bytes()[:20000])
    return folder


@pytest.mark.parametrize("name", ["model.pt", "model.pt2"])
def test_files_of_torch(files, tmp_path, name):
    result = run(files / name, "--target=cpu", "--input", files / "x.npy", "--output",
                 tmp_path / "out.npy")  # fmt: skip
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), np.load(files / "y.npy"), rtol=1e-5,
                               atol=1e-6)  # fmt: skip


@pytest.mark.parametrize("weights", ["weights.npz", "weights.safetensors"])
def test_mlir(files, tmp_path, weights):
    result = run(files / "model.mlir", "--params", files / weights, "--input", files / "u.npy",
                 "--output", tmp_path / "out.npy")  # fmt: skip
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), np.load(files / "z.npy"), rtol=1e-5,
                               atol=1e-6)  # fmt: skip


def test_repeat_and_json(files):
    result = run(files / "model.pt", "--input", files / "x.npy", "--repeat", 5, "--json")
    row = json.loads(result.stdout)
    assert row["calls"] == 5
    assert row["outputs"] == [[3, 12]]
    assert 0 < row["us_min"] <= row["us_median"]


ERRORS = {
    "no model": (["nowhere.pt"], "there is no file"),
    "no input file": (["model.pt", "--input", "nowhere.npy"], "there is no file"),
    "unknown kind": (["x.npy"], "no kind that is supported: .mlir, .pt"),
    "empty pt2": (["empty.pt2", "--input", "x.npy"], "no archive of torch.export"),
    "short pt2": (["short.pt2", "--input", "x.npy"], "no archive of torch.export"),
    "inputs of a pt2": (["model.pt2"], "the model has 1 inputs, and 0 are given"),
    "shape of a pt2": (["model.pt2", "--input", "u.npy"], "20"),
    "parameters of a pt2": (
        ["model.pt2", "--params", "weights.npz", "--input", "x.npy"], "its own weights"),
    "empty model": (["empty.pt", "--input", "x.npy"], "no TorchScript file"),
    "bad mlir": (["bad.mlir"], "no module of the pfcn dialect"),
    "too few inputs": (["model.pt"], "missing value for argument 'x'"),
    "too many inputs": (["model.pt", "--input", "x.npy", "--input", "x.npy"], "at most 2 argument"),
    "wrong shape": (["model.pt", "--input", "u.npy"], "cannot be multiplied"),
    "wrong shape of mlir": (
        ["model.mlir", "--params", "weights.npz", "--input", "x.npy"], "input 0 is Float[?, 10]"),
    "wrong count for mlir": (["model.mlir", "--params", "weights.npz"], "takes 1 tensors"),
    "missing parameter": (
        ["model.mlir", "--params", "half.npz", "--input", "u.npy"], "there is no parameter 'b'"),
    "no parameters": (["model.mlir", "--input", "u.npy"], "there is no parameter 'a'"),
    "wrong parameter": (
        ["model.mlir", "--params", "wrong.npz", "--input", "u.npy"], "parameter 'b'"),
    "parameters of a .pt": (
        ["model.pt", "--params", "weights.npz", "--input", "x.npy"], "its own weights"),
    "parameters of no kind": (
        ["model.mlir", "--params", "x.npy", "--input", "u.npy"], "neither .npz nor .safetensors"),
    "input of no kind": (["model.pt", "--input", "model.mlir"], "no .npy array"),
    "too many outputs": (
        ["model.pt", "--input", "x.npy", "--output", "a.npy", "--output", "b.npy"], "1 results"),
    "repeat": (["model.pt", "--input", "x.npy", "--repeat", "0"], "--repeat"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors(files, name):
    words, message = ERRORS[name]
    arguments = [word if word.startswith("-") or word.isdigit() else files / word for word in words]
    result = run(*arguments)
    assert result.returncode == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("pfcn-run: error: ")


def test_installed_program(files):
    program = ROOT / "build" / "bin" / "pfcn-run"
    if not program.exists():
        pytest.skip("build/bin/pfcn-run is not built")
    result = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0
    assert "--params" in result.stdout
