"""What the estimates are made of: measured or set, kept in the cache, and heeded."""

import math

import pytest
import torch
from torch import nn

import pfcn
from pfcn.__main__ import main


class Bank(nn.Module):
    def __init__(self):
        super().__init__()
        self.models = nn.ModuleList(nn.Linear(32, 32) for _ in range(20))

    def forward(self, x):
        return torch.cat([torch.relu(m(x)) for m in self.models], dim=1)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PFCN_CACHE_DIR", str(tmp_path))


def read(text):
    return {name: float(value) for name, value in (line.split("=") for line in text.split())}


def test_numbers_are_measured(cache, capsys):
    threads = torch.get_num_threads()
    assert main(["calibrate"]) == 0
    assert torch.get_num_threads() == threads
    numbers = read(capsys.readouterr().out)
    assert all(math.isfinite(value) and value > 0 for value in numbers.values())
    assert {"library-rate", "operation", "call", "matrix", "memory"} < numbers.keys()


def test_what_is_set_is_kept_and_decides(cache, capsys):
    model, x = Bank().eval(), torch.randn(4, 32)
    [group] = pfcn.compile(model, (x,)).report.groups
    assert group.kernels
    assert "one kernel, " in group.choice
    assert " us; torch's functions at " in group.choice
    assert main(["calibrate", "--set", "library-rate=100;call=0.001;matrix=0.001;operation=9"]) == 0
    assert read(capsys.readouterr().out)["library-rate"] == 100
    fast = pfcn.compile(model, (x,))
    [group] = fast.report.groups
    assert not group.kernels
    assert "estimated faster" in group.declined
    with torch.no_grad():
        torch.testing.assert_close(fast(x), model(x))
    assert main(["calibrate", "--set", "library-rate=0"]) == 0
    [group] = pfcn.compile(model, (x,)).report.groups
    assert group.kernels


def test_what_is_not_known_is_refused(cache, capsys):
    for text in ("cal=3", "call=-1", "call=many", "call"):
        assert main(["calibrate", "--set", text]) == 1
        assert f"'{text}' is not one of library-rate, operation, call" in capsys.readouterr().err
