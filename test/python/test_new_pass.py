"""The scaffolder of passes writes what builds, and tests that fail until they are written."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
TOOL = ROOT / "tools" / "dev" / "new_pass.py"


@pytest.fixture
def checkout(tmp_path):
    """The files of a checkout that the tool reads."""
    for name in ("include/pfcn/Transforms", "lib/Transforms", "test/Transforms", "test/Docs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def scaffold(checkout, *arguments):
    return subprocess.run(
        [sys.executable, TOOL, "--root", checkout, *arguments], capture_output=True, text=True
    )


def test_it_builds(checkout):
    done = scaffold(checkout, "Transforms", "ShareOperands", "Read what is shared once")
    assert done.returncode == 0, done.stderr
    include = checkout / "include" / "pfcn" / "Transforms"
    assert 'Pass<"pfcn-share-operands"' in (include / "Passes.td").read_text()
    assert " ShareOperands.cpp " in (checkout / "lib/Transforms/CMakeLists.txt").read_text()
    cache = (ROOT / "build" / "CMakeCache.txt").read_text()
    mlir = Path(
        next(line for line in cache.splitlines() if line.startswith("MLIR_DIR:")).split("=")[1]
    )
    prefix = mlir.parents[2]
    subprocess.run(
        [
            *(prefix / "bin" / "mlir-tblgen", "-gen-pass-decls", "-name", "PfcnTransforms"),
            *("-I", prefix / "include", include / "Passes.td", "-o", include / "Passes.h.inc"),
        ],
        check=True,
    )
    entries = json.loads((ROOT / "build" / "compile_commands.json").read_text())
    entry = next(e for e in entries if e["file"].endswith("Transforms/SplitInstances.cpp"))
    flags = entry["command"].split(" -o ")[0].split()
    compiler = next(i for i, word in enumerate(flags) if "clang++" in word)
    built = subprocess.run(
        [
            *(flags[compiler], f"-I{checkout / 'include'}", *flags[compiler + 1 :]),
            *("-fsyntax-only", checkout / "lib/Transforms/ShareOperands.cpp"),
        ],
        cwd=ROOT / "build",
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    for folder in ("Transforms", "Docs"):
        assert (
            "what the pass makes of it"
            in (checkout / f"test/{folder}/share-operands.mlir").read_text()
        )


def test_what_is_there_stays(checkout):
    before = (checkout / "include/pfcn/Transforms/Passes.td").read_text()
    done = scaffold(checkout, "Transforms", "SplitInstances", "Again")
    assert done.returncode == 2 and "exists" in done.stderr
    assert (checkout / "include/pfcn/Transforms/Passes.td").read_text() == before
    assert scaffold(checkout, "Transforms", "not-camel", "x").returncode == 2
