"""When the compiler itself fails: one error with its phase and a file that fails again, and a model
that still runs in eager. Failures are injected, by a pass that fails or where a phase begins.
"""

from __future__ import annotations

import pickle
import re
import subprocess
import tempfile
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import pfcn
from pfcn import _C
from pfcn.bench.seed import ParallelFCN
from pfcn.errors import CompileError

OPT = Path(__file__).parents[2] / "build/bin/pfcn-opt"
PHASES = ["detect", "lower", "kernels", "plan"]
SECRET = 1234.5


@pytest.fixture(autouse=True)
def _tidy(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    _C.inject_failure("")


class Secretive(ParallelFCN):
    """With a table of the user's numbers in its graph."""

    def forward(self, x):
        return super().forward(x) + torch.tensor([[SECRET] * 5 + [2.0]])


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Secretive(6).eval()


@pytest.mark.parametrize("phase", PHASES)
def test_raise(phase, model, tmp_path):
    x = torch.randn(3, 120)
    _C.inject_failure(phase)
    with torch.no_grad(), pytest.raises(CompileError) as caught:
        pfcn.compile(model, (x,))
    error = caught.value
    assert error.phase == phase
    text = str(error)
    assert text.startswith(f"compiling failed: phase {phase}: ")
    assert 'remedy: report it; on_error="eager"' in text
    path = Path(error.reproducer)
    assert path.parent == tmp_path
    assert text.count(str(path)) == 1
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.phase, copy.reproducer) == (text, phase, error.reproducer)
    with torch.no_grad():  # and the process is as it was
        _C.inject_failure("")
        torch.testing.assert_close(pfcn.compile(model, (x,))(x), model(x))


@pytest.mark.parametrize("phase", PHASES)
def test_the_file(phase, model):
    """Small, free of the user's numbers, and pfcn-opt reads it and fails where it was a pass."""
    _C.inject_failure(phase)
    with torch.no_grad(), pytest.raises(CompileError) as caught:
        pfcn.compile(model, (torch.randn(3, 120),))
    path = Path(caught.value.reproducer)
    text = path.read_text()
    assert len(text) < 40_000
    assert "1234" not in text and "1.2345" not in text
    assert ".py" not in text
    command = re.search(r"^// (pfcn-opt .*)$", text, re.MULTILINE)[1].split()
    assert command[1] == str(path)
    done = subprocess.run([OPT, *command[1:]], capture_output=True, text=True)
    if phase in ("detect", "lower"):
        assert done.returncode == 1
        assert "this pass fails, as asked" in done.stderr
        pipeline = re.search(r'pipeline: "(.*)"', text)[1]
        assert pipeline == "builtin.module(pfcn-test-failure)"  # the one that fails, alone
    else:
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("phase", PHASES)
def test_eager(phase, model):
    x = torch.randn(3, 120)
    with torch.no_grad():
        fast = pfcn.compile(model, on_error="eager")
        _C.inject_failure(phase)
        with pytest.warns(UserWarning, match=f"runs in eager: compiling failed: phase {phase}"):
            torch.testing.assert_close(fast(x), model(x))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # says so once
            torch.testing.assert_close(fast(x), model(x))
        assert f"phase {phase}" in fast.report.eager
        _C.inject_failure("")
        y = torch.randn(4, 120)
        torch.testing.assert_close(fast(y), model(y))  # other shapes are another attempt
        assert fast.report.eager == ""


@pytest.mark.parametrize("on_error", ["raise", "eager"])
def test_torch_compile(on_error, model):
    x = torch.randn(3, 120)
    torch._dynamo.reset()
    fast = torch.compile(model, backend="pfcn", options={"on_error": on_error})
    _C.inject_failure("lower")
    with torch.no_grad():
        if on_error == "raise":
            with pytest.raises(CompileError, match=r"phase lower: [^\0]*--run-reproducer"):
                fast(x)
        else:
            with pytest.warns(UserWarning, match="a graph runs in eager: compiling failed"):
                torch.testing.assert_close(fast(x), model(x))


@pytest.mark.parametrize("phase", ["lower", "kernels"])
def test_a_backward_that_fails_runs_on_torch(phase, capfd):
    torch.manual_seed(0)
    model = ParallelFCN(6)
    fast = pfcn.compile(model)
    assert fast(torch.randn(3, 120)).requires_grad
    _C.inject_failure(phase)  # of the backward alone, which is another one for other inputs
    ours, theirs = (torch.ones(3, 120, requires_grad=True) for _ in range(2))
    loss = fast(ours).square().sum()
    assert "the backward of a group runs on torch's functions" in capfd.readouterr().err
    assert fast.report.launches == 1
    loss.backward()
    model(theirs).square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_without_a_place_for_the_file(model, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nowhere")
    _C.inject_failure("lower")
    with torch.no_grad(), pytest.raises(CompileError, match="no file to reproduce it") as caught:
        pfcn.compile(model, (torch.randn(3, 120),))
    assert caught.value.reproducer == ""


def test_a_module_of_another_kind_is_no_failure():
    """What a model does wrong is its own error, before and after."""
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        pfcn.compile(nn.Linear(3, 2), (torch.randn(2, 4),))
