#!/usr/bin/env python3
"""Runs all that can fail: lit, C++ unit tests, pytest, the README's code, formatting and lint.

Each stage counts from its tool's own machine-readable report; a tool that crashes, or finds no
test, is one failure more. The last line is `N passed, N failed[, N skipped]`.

Usage: run_all.py [STAGE …]
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
RESULTS = BUILD / "test-results"
BIN = ROOT / ".venv" / "bin"
TIDY_SECONDS = 240


@dataclass
class Outcome:
    """What a stage counted, and the text to show if something in it failed."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    log: str = ""

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(
            self.passed + other.passed,
            self.failed + other.failed,
            self.skipped + other.skipped,
            self.log + other.log,
        )

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed" + (
            f", {self.skipped} skipped" if self.skipped else ""
        )


# ---- reading the tools' reports -----------------------------------------------------------------


def count_lit(report: dict) -> Outcome:
    """Counts lit's `--output` JSON. A code this does not know counts as a failure."""
    outcome = Outcome()
    for test in report["tests"]:
        if test["code"] in ("PASS", "XFAIL", "FLAKYPASS"):
            outcome.passed += 1
        elif test["code"] in ("UNSUPPORTED", "SKIPPED", "EXCLUDED"):
            outcome.skipped += 1
        else:
            outcome.failed += 1
    return outcome


def count_junit(xml: str) -> Outcome:
    """Counts JUnit XML, as pytest (`--junitxml`) and GoogleTest (`--gtest_output=xml`) write it."""
    outcome = Outcome()
    for case in ElementTree.fromstring(xml).iter("testcase"):
        children = {child.tag for child in case}
        if children & {"failure", "error"}:
            outcome.failed += 1
        elif "skipped" in children or case.get("status") == "notrun":
            outcome.skipped += 1
        else:
            outcome.passed += 1
    return outcome


def settle(outcome: Outcome, returncode: int, log: str) -> Outcome:
    """Adds the failure that no report shows: no test at all, or a tool that died naming none."""
    outcome.log = log
    if outcome.passed + outcome.failed + outcome.skipped == 0:
        outcome.failed, outcome.log = 1, log + "\nno test was found"
    elif returncode != 0 and outcome.failed == 0:
        outcome.failed, outcome.log = (
            1,
            log + f"\nno test failed, but the exit status was {returncode}",
        )
    return outcome


@dataclass
class Block:
    """A fenced code block of a Markdown file; `info` is what follows the language."""

    language: str
    info: str
    line: int
    text: str


def code_blocks(markdown: str) -> Iterator[Block]:
    """Yields the fenced blocks of a Markdown text, in order."""
    block = None
    for number, line in enumerate(markdown.splitlines(), start=1):
        fence = re.match(r"```(\S*)\s*(.*)$", line)
        if block is None and fence:
            block = Block(fence[1], fence[2], number, "")
        elif block is not None and line.rstrip() == "```":
            yield block
            block = None
        elif block is not None:
            block.text += line + "\n"
    if block is not None:
        raise ValueError(f"the block that opens at line {block.line} is never closed")


def excerpt(log: str, lines: int = 200, width: int = 400) -> str:
    """The end of a log, where the failures are summed up, and its beginning; no line too long."""
    shown = [line if len(line) <= width else line[:width] + " …" for line in log.splitlines()]
    if len(shown) > 2 * lines:
        left_out = f"… {len(shown) - 2 * lines} lines left out …"
        shown = [*shown[:lines], left_out, *shown[-lines:]]
    return "\n".join(shown)


# ---- stages -------------------------------------------------------------------------------------


def run(command: list[str | Path], **kwargs) -> subprocess.CompletedProcess[str]:
    """Runs a command in the root with stdout and stderr as one text."""
    return subprocess.run(
        [str(c) for c in command],
        cwd=ROOT,
        text=True,
        errors="replace",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **kwargs,
    )


def single(command: list[str | Path], **kwargs) -> Outcome:
    """A check that passes or fails as a whole; only a failure leaves its text."""
    done = run(command, **kwargs)
    return Outcome(failed=1, log=done.stdout) if done.returncode else Outcome(passed=1)


def with_report(
    command: list[str | Path], report: Path, count: Callable[[str], Outcome]
) -> Outcome:
    """Runs a tool that writes `report`, and counts that; an earlier run's report never counts."""
    report.unlink(missing_ok=True)
    done = run(command)
    try:
        outcome = count(report.read_text())
    except (OSError, ValueError, KeyError, ElementTree.ParseError) as error:
        return Outcome(
            failed=1, log=f"{done.stdout}\nno report ({error}); exit status {done.returncode}"
        )
    return settle(outcome, done.returncode, done.stdout)


def lit() -> Outcome:
    report = RESULTS / "lit.json"
    command = [BIN / "lit", "-sv", "--output", report, BUILD / "test"]
    return with_report(command, report, lambda text: count_lit(json.loads(text)))


def unit() -> Outcome:
    report = RESULTS / "unit.xml"
    binary = BUILD / "bin" / "pfcn-unittests"
    if not binary.exists():
        return Outcome(failed=1, log=f"{binary} was not built")
    return with_report([binary, f"--gtest_output=xml:{report}"], report, count_junit)


def pytest() -> Outcome:
    report = RESULTS / "pytest.xml"
    command = [BIN / "python", "-m", "pytest", "-q", "-n2", f"--junitxml={report}"]
    return with_report(command, report, count_junit)


def readme() -> Outcome:
    """Runs the README's bash, python and mlir blocks as written.

    ```LANGUAGE norun    leaves one out.
    ```mlir fuse=FLAGS   holds what `pfcn-opt FLAGS` prints for the mlir block before it.
    """
    outcome = Outcome()
    previous_mlir = ""
    env = os.environ | {
        "PATH": os.pathsep.join([str(BUILD / "bin"), str(BIN), os.environ.get("PATH", "")])
    }
    for block in code_blocks((ROOT / "README.md").read_text()):
        if block.language not in ("bash", "python", "mlir") or block.info == "norun":
            continue
        expected = None
        if block.language == "bash":
            command = ["bash", "-euo", "pipefail", "-c", block.text]
            stdin = ""
        elif block.language == "python":
            command, stdin = [BIN / "python", "-"], block.text
        elif block.info.startswith("fuse="):
            command = [BUILD / "bin" / "pfcn-opt", *block.info.removeprefix("fuse=").split()]
            stdin, expected = previous_mlir, block.text
        else:
            command, stdin = [BUILD / "bin" / "pfcn-opt"], block.text
            previous_mlir = block.text
        done = run(command, input=stdin, env=env)
        # Blank lines and indentation are the README's own; every other character is compared.
        same = expected is None or done.stdout.split() == expected.split()
        if done.returncode == 0 and same:
            outcome.passed += 1
        else:
            outcome.failed += 1
            outcome.log += f"README.md:{block.line}: exit status {done.returncode}\n{done.stdout}\n"
    return settle(outcome, 0, outcome.log)


def tracked(*patterns: str) -> list[str]:
    return run(["git", "ls-files", "--", *patterns]).stdout.split()


def clang_format() -> Outcome:
    files = tracked("*.cpp", "*.h")
    if not files:
        return Outcome(failed=1, log="no C++ file is tracked")
    done = run(["clang-format-22", "--dry-run", "-Werror", *files])
    if done.returncode == 0:
        return Outcome(passed=1)
    # One line a file says what there is to know; `make format` does the rest.
    wrong = sorted(set(re.findall(r"^(\S+?):\d+:\d+: error", done.stdout, re.MULTILINE)))
    return Outcome(failed=1, log="`make format` rewrites\n" + "\n".join(wrong or [done.stdout]))


def ruff_format() -> Outcome:
    done = run([BIN / "ruff", "format", "--check", "--no-cache", "--output-format", "concise"])
    if done.returncode == 0:
        return Outcome(passed=1)
    return Outcome(failed=1, log=f"`make format` rewrites\n{done.stdout}")


def changed_since_main() -> list[str]:
    """The files changed since the branch left origin/main, or on main since the last commit."""
    head = run(["git", "rev-parse", "HEAD"]).stdout.strip()
    base = run(["git", "merge-base", "origin/main", "HEAD"])
    start = base.stdout.strip() if base.returncode == 0 else head
    if start == head:
        start = "HEAD~1"
    diff = run(["git", "diff", "--name-only", "--diff-filter=d", start])
    return diff.stdout.split() if diff.returncode == 0 else []


def clang_tidy() -> Outcome:
    """Lints the changed files that the build compiles, and names those that time left out."""
    database = BUILD / "compile_commands.json"
    if not database.exists():
        return Outcome(skipped=1, log="no compile_commands.json")
    compiled = {entry["file"] for entry in json.loads(database.read_text())}
    files = [f for f in changed_since_main() if str(ROOT / f) in compiled]
    end = time.monotonic() + TIDY_SECONDS

    def lint(file: str) -> Outcome:
        try:
            return single(
                ["clang-tidy-22", "-p", BUILD, "--quiet", file],
                timeout=max(0.0, end - time.monotonic()),
            )
        except subprocess.TimeoutExpired:
            print(f"   out of time: {file} was not linted")
            return Outcome(skipped=1)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return sum(pool.map(lint, files), Outcome())


STAGES: dict[str, Callable[[], Outcome]] = {
    "lit": lit,
    "unit": unit,
    "pytest": pytest,
    "readme": readme,
    "clang-format": clang_format,
    "clang-tidy": clang_tidy,
    "ruff": lambda: single([BIN / "ruff", "check", "--no-cache"]),
    "ruff-format": ruff_format,
}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in STAGES]
    if unknown:
        print(f"unknown stage {', '.join(unknown)}; there are {', '.join(STAGES)}", file=sys.stderr)
        return 2
    RESULTS.mkdir(parents=True, exist_ok=True)
    # A worktree may share another checkout's .venv: its tests still see its own pfcn.
    os.environ["PYTHONPATH"] = str(ROOT / "python")
    total = Outcome()
    for name in names or STAGES:
        start = time.monotonic()
        print(f"== {name}", flush=True)
        try:
            outcome = STAGES[name]()
        except Exception as error:  # a stage that cannot run is a failure, and the others still run
            outcome = Outcome(failed=1, log=f"{type(error).__name__}: {error}")
        if outcome.failed:
            print(excerpt(outcome.log))
        print(f"   {outcome}  ({time.monotonic() - start:.1f} s)", flush=True)
        total += outcome
    print(total, flush=True)
    return int(total.failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
