#!/usr/bin/env python3
"""Writes docs/reference: the dialect, the passes and the pipelines.

The texts are those of the .td files and of `pfcn-opt`; the examples are the lit tests of
test/Dialect and test/Docs, and what `pfcn-opt` makes of them. `--check` only says whether the
pages are stale.

Usage: reference.py [--check]
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = ROOT / "docs" / "reference"
PASSES = ["Transforms", "Conversion/PfcnToLinalg", "Codegen"]
WRITTEN = "<!-- written by tools/dev/reference.py; do not edit -->\n"


def run(*command: str | Path, stdin: str = "") -> str:
    """What a command prints; its errors end this program."""
    done = subprocess.run(
        [str(part) for part in command], cwd=ROOT, input=stdin, text=True, capture_output=True
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def pfcn_opt(*arguments: str | Path, stdin: str = "") -> str:
    return run(ROOT / "build" / "bin" / "pfcn-opt", *arguments, stdin=stdin)


def cmake_variable(name: str) -> Path:
    cache = (ROOT / "build" / "CMakeCache.txt").read_text()
    return Path(re.search(rf"^{name}:\w+=(.*)$", cache, re.MULTILINE)[1])


def tblgen(generator: str, file: str, *arguments: str) -> str:
    """The text that mlir-tblgen makes of a .td file, without its first line."""
    prefix = cmake_variable("MLIR_DIR").parents[2]
    text = run(
        prefix / "bin" / "mlir-tblgen",
        generator,
        *arguments,
        *("-I", ROOT / "include", "-I", (ROOT / file).parent, "-I", prefix / "include"),
        ROOT / file,
    )
    return text.split("-->", 1)[1].strip() + "\n"


def block(text: str) -> str:
    return f"```mlir\n{text.strip()}\n```\n"


# ---- the dialect --------------------------------------------------------------------------------


def without_comments(path: Path) -> list[str]:
    """The lines of a lit test that are MLIR."""
    lines = path.read_text().splitlines()
    return [line for line in lines if not line.lstrip().startswith("//")]


def find_use(op: str) -> str:
    """The first use of an op in the round trips of test/Dialect, with its region if it has one."""
    for path in sorted((ROOT / "test" / "Dialect").glob("*.mlir")):
        if "errors" in path.name:
            continue
        lines = without_comments(path)
        for start, line in enumerate(lines):
            if not re.search(rf'(^|[= ])pfcn\.{op}[ "(]', line.strip()):
                continue
            indent = len(line) - len(line.lstrip())
            end, depth = start + 1, line.count("{") - line.count("}")
            # What is indented deeper, and what closes a region, belongs to it.
            while depth > 0 or lines[end].startswith(" " * (indent + 1)):
                depth += lines[end].count("{") - lines[end].count("}")
                end += 1
            found = [text[indent:] for text in lines[start:end]]
            return block("\n".join(found)) + f"\nfrom `{path.relative_to(ROOT)}`\n"
    sys.exit(f"no test in test/Dialect has a pfcn.{op}: write one, it is the op's example")


def dialect_page() -> str:
    text = tblgen("-gen-dialect-doc", "include/pfcn/Dialect/PfcnOps.td", "-dialect=pfcn")
    text = text.replace("[TOC]\n\n", "")
    sections = re.split(r"(?m)^(?=#{2,3} )", text)
    for i, section in enumerate(sections):
        op = re.match(r"### `pfcn\.(\w+)`", section)
        if op:
            sections[i] = f"{section.strip()}\n\n#### Example:\n\n{find_use(op[1])}\n"
    return "".join(sections)


# ---- passes and pipelines -----------------------------------------------------------------------


def example(name: str) -> str:
    """A lit test of test/Docs and what its RUN line makes of it."""
    path = ROOT / "test" / "Docs" / f"{name}.mlir"
    flags = re.search(r"RUN: pfcn-opt %s (.*) \|", path.read_text())[1].split()
    before = "\n".join(without_comments(path))
    after = pfcn_opt(*flags, stdin=before)
    return (
        f"`pfcn-opt {path.relative_to(ROOT)} {' '.join(flags)}` makes of\n\n"
        f"{block(before)}\nthis:\n\n{block(after)}"
    )


def passes_page() -> str:
    text = (
        "# Passes\n\nRoom by room, in the order in which a model meets them;"
        " [Pipelines](Pipelines.md) has the lists.\n\n"
    )
    for room in PASSES:
        text += f"## `lib/{room}`\n\n"
        for section in re.split(
            r"(?m)^(?=### )", tblgen("-gen-pass-doc", f"include/pfcn/{room}/Passes.td")
        ):
            name = re.match(r"### `-([\w-]+)`", section)
            if name:
                shown = example(name[1].removeprefix("pfcn-"))
                text += f"{section.strip()}\n\n#### Example\n\n{shown}\n"
    return text


def pipelines_page() -> str:
    text = "# Pipelines\n\n"
    text += "Each pass has the reason for its place in `lib/Pipelines/Pipelines.cpp`.\n\n"
    usage = pfcn_opt("--help").splitlines()
    for start, line in enumerate(usage):
        found = re.match(r"\s+--(pfcn-pipeline-\w+)\s+-\s+(.*)", line)
        if not found:
            continue
        name, summary = found.groups()
        text += f"## `--{name}`\n\n{summary[0].upper()}{summary[1:]}.\n\n"
        options = []
        for option in usage[start + 1 :]:
            if not re.match(r"\s{8,}--", option):
                break
            options.append(re.sub(r"\s+-\s+", " : ", option.strip(), count=1))
        if options:
            text += "Options:\n\n```\n" + "\n".join(options) + "\n```\n\n"
        done = subprocess.run(
            [ROOT / "build" / "bin" / "pfcn-opt", f"--{name}", "--dump-pass-pipeline"],
            **{"input": "module {}", "text": True, "capture_output": True, "check": True},
        )
        listed = done.stderr[done.stderr.index("builtin.module") :].strip()
        text += f"Passes:\n\n```\n{listed}\n```\n\n"
        if (ROOT / "test" / "Docs" / f"{name.removeprefix('pfcn-')}.mlir").exists():
            text += example(name.removeprefix("pfcn-")) + "\n"
    return text


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    pages = {"Dialect.md": dialect_page, "Passes.md": passes_page, "Pipelines.md": pipelines_page}
    stale = []
    PAGES.mkdir(parents=True, exist_ok=True)
    for name, write in pages.items():
        path, text = PAGES / name, WRITTEN + "\n" + write().rstrip() + "\n"
        if not path.exists() or path.read_text() != text:
            stale.append(str(path.relative_to(ROOT)))
            if not arguments:
                path.write_text(text)
    if arguments and stale:
        print(f"{', '.join(stale)}: stale; `make docs` writes them")
    return int(bool(arguments and stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
