"""TorchScript files of somebody who means harm: an import ends, and does nothing but import."""

from __future__ import annotations

import os
import re
import sys
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))
import hostile
from survive import ROOT, run_limited

OPT = ROOT / "build/bin/pfcn-opt"


def opt(path: Path, folder: Path):
    return run_limited([OPT, path, "--input-shapes=2x3xf32"], 300, folder, memory=9 << 30)


@pytest.mark.parametrize("name", hostile.HOSTILE)
def test_an_import_is_harmless(name, tmp_path):
    if name == "loop_2_40" and os.environ.get("PFCN_MUTANTS") != "all":
        pytest.skip("it takes a minute to be stopped: PFCN_MUTANTS=all")
    path = hostile.build(name, tmp_path)
    before = set(tmp_path.rglob("*"))
    outcome = opt(path, tmp_path)
    reason = hostile.HOSTILE[name][1]
    if reason == hostile.RUNS:
        assert outcome.status == 0, str(outcome)
    else:
        assert outcome.status == 1, str(outcome)
        assert re.search(rf"^error: .*({reason})", outcome.text, re.MULTILINE), outcome.text
    assert set(tmp_path.rglob("*")) <= before | {tmp_path / "stderr"}


def rewrite(path: Path, change) -> Path:
    """The archive with its code changed."""
    result = path.with_name("changed_" + path.name)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(result, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename.endswith(".py"):
                text = change(data.decode())
                assert text != data.decode()
                data = text.encode()
            new.writestr(info.filename, data)
    return result


def test_code_that_is_nested_too_deeply_for_libtorch(tmp_path):
    """Its parser overflows the stack."""
    path = hostile.build("prints", tmp_path)
    deep = "(" * 200_000 + "x" + ")" * 200_000
    path = rewrite(path, lambda text: text.replace("return x", f"return {deep}"))
    outcome = opt(path, tmp_path)
    assert outcome.status == 1, str(outcome)
    assert re.match("error: .* is damaged: LibTorch stopped reading it with 'Segm", outcome.text)


def test_methods_that_call_each_other(tmp_path):
    path = hostile.build("prints", tmp_path)
    path = rewrite(path, lambda text: text.replace("return x", "return (self).forward(x, )"))
    outcome = opt(path, tmp_path)
    assert outcome.status == 1, str(outcome)
    assert re.match("error: .*(recursive|too deeply)", outcome.text), outcome.text
