"""Many at once, again and again, and on a machine that is not well."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import pfcn
from pfcn.bench.seed import ParallelFCN

ROOT = Path(__file__).parents[2]
ALL = os.environ.get("PFCN_LOAD") == "all"


def start(*arguments, **env):
    return subprocess.Popen(
        [sys.executable, ROOT / "test/python/load.py", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "python"), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(*arguments, **env) -> str:
    process = start(*arguments, **env)
    output, _ = process.communicate(timeout=7200 if ALL else 600)
    assert process.returncode == 0, output
    return output


def make(n=8, seed=0):
    torch.manual_seed(seed)
    return ParallelFCN(n).eval()


@pytest.mark.parametrize("compiled_before", [True, False])
def test_sixteen_threads_call_one_model(compiled_before):
    model, rounds = make(), 40
    inputs = [torch.randn(1 + i % 5, 160) for i in range(16)]
    with torch.no_grad():
        expected = [model(x) for x in inputs]
        fast = pfcn.compile(model, (inputs[0],) if compiled_before else None)

    def work(i):
        with torch.no_grad():
            for k in range(rounds):
                j = (i + k) % 16
                torch.testing.assert_close(fast(inputs[j]), expected[j])
        return True

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(16)))
    assert not fast.report.eager and fast.report.launches == 1


def test_eight_threads_compile_different_models():
    def work(i):
        with torch.no_grad():
            for k in range(3):
                model, x = make(3 + i, seed=8 * k + i), torch.randn(2 + k, 20 * (3 + i))
                fast = pfcn.compile(copy.deepcopy(model), (x,), freeze=i % 2 == 1)
                torch.testing.assert_close(fast(x), model(x))
                assert fast.report.launches == 1
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_eight_threads_compile_one_model():
    model, x = make(), torch.randn(3, 160)
    with torch.no_grad():
        expected = model(x)

    def work(_):
        with torch.no_grad():
            fast = pfcn.compile(model, (x,))
            for _ in range(20):
                torch.testing.assert_close(fast(x), expected)
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_calls_while_another_thread_trains():
    """A reader sees each parameter before a step or after it; in the end all is as in eager."""
    model = make().train()
    plain = copy.deepcopy(model)
    fast = pfcn.compile(model, (torch.randn(3, 160),))
    x, target, steps = torch.randn(16, 160), torch.randn(16, 8), 60
    done = False

    def read():
        calls = 0
        with torch.no_grad():
            while not done or calls == 0:
                assert torch.isfinite(fast(x)).all()
                calls += 1
        return calls

    def train(one):
        optimizer = torch.optim.SGD(one.parameters(), lr=0.01, momentum=0.9)
        for _ in range(steps):
            optimizer.zero_grad()
            (one(x) - target).square().mean().backward()
            optimizer.step()

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        try:
            train(fast)
        finally:
            done = True
        assert all(reader.result() > 0 for reader in readers)
    train(plain)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    with torch.no_grad():
        torch.testing.assert_close(fast(x), model(x))


class Answers(Dataset):
    """Computed by the compiled model, in the worker."""

    def __init__(self, fast, x):
        self.fast, self.x = fast, x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        with torch.no_grad():
            known = self.fast(self.x[i : i + 1])  # compiled before the fork
            again = self.fast(self.x[i : i + 1].expand(2 + i % 3, -1))  # and after it
        return known[0], again[-1]


def test_fork_after_compile():
    model, x = make(), torch.randn(12, 160)
    with torch.no_grad():
        fast = pfcn.compile(model, (x[:1],))
        fast(x)
        expected = model(x)
        loader = DataLoader(Answers(fast, x), batch_size=4, num_workers=3, timeout=300,
                            multiprocessing_context="fork")  # fmt: skip
        for number, (known, again) in enumerate(loader):
            part = expected[4 * number : 4 * number + 4]
            torch.testing.assert_close(known, part)
            torch.testing.assert_close(again, part)
        torch.testing.assert_close(fast(x), expected)  # and the parent goes on


def test_compile_and_drop():
    """5,000 cycles with PFCN_LOAD=all."""
    print(run("cycles", 5000 if ALL else 250))


def test_interrupted_compilations():
    assert "interrupted" in run("interrupt", PFCN_CACHE_DIR="")


def test_a_full_disk(tmp_path):
    run("full_disk", PFCN_CACHE_DIR=str(tmp_path))
    assert not list(tmp_path.glob("llvmcache-*")), "an entry that is cut short"


def test_a_cache_that_cannot_be_written(tmp_path):
    """Of somebody else, as for a user who shares one that was filled before."""
    run("same_entry", 0, PFCN_CACHE_DIR=str(tmp_path))
    before = sorted(tmp_path.iterdir())
    tmp_path.chmod(0o500)
    try:
        output = run("same_entry", 0, PFCN_CACHE_DIR=str(tmp_path), PFCN_LOG="cache")
    finally:
        tmp_path.chmod(0o700)
    assert "found" in output
    assert sorted(tmp_path.iterdir()) == before
    run("same_entry", 0, PFCN_CACHE_DIR="/proc/self/nowhere")


def test_processes_that_write_the_same_entries(tmp_path):
    begin = time.time() + 8
    writers = [start("same_entry", begin, PFCN_CACHE_DIR=str(tmp_path)) for _ in range(4)]
    for writer in writers:
        output, _ = writer.communicate(timeout=600)
        assert writer.returncode == 0, output
    names = [path.name for path in tmp_path.iterdir() if path.suffix != ".timestamp"]
    assert len(names) == 6 and all(name.startswith("llvmcache-") for name in names)
    log = run("same_entry", 0, PFCN_CACHE_DIR=str(tmp_path), PFCN_LOG="cache")
    assert log.count("found") == 6 and "stored" not in log and "damaged" not in log


def test_a_corrupt_cache(tmp_path):
    run("same_entry", 0, PFCN_CACHE_DIR=str(tmp_path))
    entries = sorted(tmp_path.glob("llvmcache-*"))
    for number, path in enumerate(entries):
        data = path.read_bytes()
        middle = len(data) // 2
        path.write_bytes([b"", data[:middle], data[:middle] + b"\0\0\0\0" + data[middle + 4 :],
                          b"x" * len(data), data + b"more"][number % 5])  # fmt: skip
    log = run("same_entry", 0, PFCN_CACHE_DIR=str(tmp_path), PFCN_LOG="cache")
    assert log.count("damaged") == log.count("stored") == len(entries) == 6
