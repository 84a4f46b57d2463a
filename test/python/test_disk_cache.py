"""Compiled code on disk: used by the next process, never wrong, and never in the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import pfcn
from pfcn.bench.seed import ParallelFCN


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("PFCN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PFCN_LOG", "cache")
    return tmp_path / "cache"


def entries(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.suffix != ".timestamp"]


def compile_and_check(n: int = 6, seed: int = 0) -> None:
    torch.manual_seed(seed)
    model, x = ParallelFCN(n).eval(), torch.randn(3, 20 * n)
    with torch.no_grad():
        fast = pfcn.compile(model, (x,))
        assert fast.report.launches == 1
        torch.testing.assert_close(fast(x), model(x))


def test_the_second_time_no_code_is_generated(cache, capfd):
    compile_and_check()
    assert "stored" in capfd.readouterr().err
    assert len(entries(cache)) == 1
    compile_and_check(seed=1)  # other weights, the same kernel
    log = capfd.readouterr().err
    assert "found" in log and "stored" not in log
    assert len(entries(cache)) == 1


def test_another_kernel_is_another_entry(cache):
    compile_and_check(6)
    compile_and_check(7)
    assert len(entries(cache)) == 2


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "swap"])
def test_a_damaged_entry_is_compiled_again(cache, capfd, damage):
    compile_and_check(6)
    (path,) = entries(cache)
    good = path.read_bytes()
    if damage == "swap":  # a whole entry, of other code
        compile_and_check(7)
        (other,) = set(entries(cache)) - {path}
        path.write_bytes(other.read_bytes())
    else:
        middle = len(good) // 2
        bad = good[:middle] + bytes([good[middle] ^ 4]) + good[middle + 1 :]
        path.write_bytes({"flip": bad, "cut": good[:middle], "empty": b""}[damage])
    capfd.readouterr()
    compile_and_check(6)
    assert "damaged" in capfd.readouterr().err
    assert path.read_bytes() == good


def test_without_a_place_for_it(tmp_path, monkeypatch, capfd):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PFCN_LOG", "cache")
    monkeypatch.setenv("PFCN_CACHE_DIR", str(tmp_path / "file"))
    compile_and_check()
    assert "cannot store" in capfd.readouterr().err
    monkeypatch.setenv("PFCN_CACHE_DIR", "")
    compile_and_check()
    monkeypatch.delenv("PFCN_LOG")
    monkeypatch.setenv("PFCN_CACHE_DIR", "/proc/nowhere")
    compile_and_check()
    assert capfd.readouterr().err == ""


def test_only_the_user_may_write_it(cache):
    compile_and_check()
    assert os.stat(cache).st_mode & 0o077 == 0
