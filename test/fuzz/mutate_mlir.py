"""Mutated `.mlir` for pfcn-opt: `mutate_mlir.py [--count N] [--seed S]`.

Each mutant is a module out of `test/**/*.mlir` with some tokens, lines or bytes changed. A
diagnostic is fine, and so is success; a signal, an abort, a hang or boundless memory is not. Many
mutants go through one process, and a batch that fails is taken apart. Prints the seed and the path
of each mutant that breaks something.
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from survive import BUILD, ROOT, Outcome, keep_mutant, main, run_limited

SEPARATOR = "\n// -----\n"
BATCH = 40
FLAGS = [
    [],
    ["--mlir-print-op-generic"],
    ["--pfcn-pipeline-fuse"],
    ["--pfcn-pipeline-cpu"],
    ["--pfcn-pipeline-nvvm"],
    ["--pfcn-form-instances", "--pfcn-differentiate", "--pfcn-batch-instances"],
    ["--pfcn-expand-recurrences", "--pfcn-split-instances", "--pfcn-lower-kernels"],
    ["--convert-pfcn-to-linalg", "--pfcn-fuse-elementwise", "--canonicalize"],
    ["--pfcn-lower-kernels-to-gpu=chip=sm_90"],
]
NUMBERS = ["0", "1", "-1", "2", "3", "7", "127", "4294967296", "4611686018427387904",
           "9223372036854775807", "-9223372036854775808", "99999999999999999999"]  # fmt: skip
ELEMENTS = [
    "f16",
    "bf16",
    "f32",
    "f64",
    "i1",
    "i8",
    "ui8",
    "i32",
    "i64",
    "index",
    "f8E5M2",
    "i7",
    "!x",
]
TOKEN = re.compile(
    r'"(?:[^"\\]|\\.)*"|[%@#!^]?[A-Za-z_][\w.$-]*|%\d+|-?\d+(?:\.\d+)?|->|::|[^\s\w]|\s+'
)


def load_modules() -> list[str]:
    """The modules of all tests, without the lines that say how to run them."""
    modules = []
    for path in sorted((ROOT / "test").rglob("*.mlir")):
        for part in path.read_text().split("// -----"):
            lines = [line for line in part.splitlines() if not line.strip().startswith("//")]
            if any(line.strip() for line in lines):
                modules.append("\n".join(lines) + "\n")
    return modules


class Mutator:
    def __init__(self, modules: list[str]):
        self.modules = modules
        self.tokens = sorted({t for m in modules for t in TOKEN.findall(m) if not t.isspace()})

    def make(self, seed: int) -> bytes:
        rng = random.Random(seed)
        text = rng.choice(self.modules)
        for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
            change = rng.choices(
                [self.change_tokens, self.change_everywhere, self.change_number, self.change_lines],
                [4, 4, 4, 1],
            )[0]
            text = change(text, rng)
        data = text.encode()
        return self.change_bytes(data, rng) if rng.random() < 0.15 else data

    def change_tokens(self, text: str, rng: random.Random) -> str:
        tokens = TOKEN.findall(text)
        places = [i for i, token in enumerate(tokens) if not token.isspace()]
        if not places:
            return text
        i, j = rng.choice(places), rng.choice(places)
        match rng.randrange(6):
            case 0:
                del tokens[i]
            case 1:
                tokens.insert(i, tokens[j])
            case 2:
                tokens[i], tokens[j] = tokens[j], tokens[i]
            case 3:
                tokens[i] = rng.choice(self.tokens)
            case 4:  # one of the same kind
                kind = tokens[i][0]
                tokens[i] = rng.choice([t for t in self.tokens if t[0] == kind] or [""])
            case _:  # an op or a keyword, wherever it stands
                other = rng.choice([t for t in self.tokens if t[0] == tokens[i][0]] or [""])
                tokens = [other if token == tokens[i] else token for token in tokens]
        return "".join(tokens)

    @staticmethod
    def change_everywhere(text: str, rng: random.Random) -> str:
        """One type becomes another, wherever it stands, so that more of the module still fits."""
        types = sorted(set(re.findall(r"tensor<([^<>]*)>", text)))
        if not types:
            return text
        old = rng.choice(types)
        if rng.random() < 0.3:
            new = rng.choice(types)
        elif rng.random() < 0.3:
            new = re.sub(r"\w+$", rng.choice(ELEMENTS), old.replace("x", " x ")).replace(" ", "")
        else:
            sizes = old.split("x")
            i = rng.randrange(len(sizes))
            sizes[i : i + rng.randrange(2)] = [rng.choice([*NUMBERS, "?"])]
            new = "x".join(sizes)
        return text.replace(f"tensor<{old}>", f"tensor<{new}>")

    @staticmethod
    def change_number(text: str, rng: random.Random) -> str:
        """A number that is no size, here or everywhere."""
        places = list(re.finditer(r"(?<![\w%#x.])-?\d+(?![\w.])", text))
        if not places:
            return text
        place = rng.choice(places)
        number = rng.choice(NUMBERS)
        if rng.random() < 0.3:
            return re.sub(rf"(?<![\w%#x.]){place[0]}(?![\w.])", number, text)
        return text[: place.start()] + number + text[place.end() :]

    def change_lines(self, text: str, rng: random.Random) -> str:
        lines = text.splitlines(keepends=True)
        i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
        match rng.randrange(4):
            case 0:
                del lines[i]
            case 1:
                lines.insert(i, lines[j])
            case 2:
                lines[i], lines[j] = lines[j], lines[i]
            case _:
                lines.insert(i, rng.choice(rng.choice(self.modules).splitlines(keepends=True)))
        return "".join(lines)

    @staticmethod
    def change_bytes(data: bytes, rng: random.Random) -> bytes:
        changed = bytearray(data or b" ")
        for _ in range(rng.choice([1, 2, 5])):
            i = rng.randrange(len(changed))
            match rng.randrange(4):
                case 0:
                    changed[i] ^= 1 << rng.randrange(8)
                case 1:
                    changed[i:i] = bytes([rng.randrange(256)])
                case 2:
                    del changed[i : i + rng.randrange(1, 9)]
                case _:
                    del changed[i:]
            if not changed:
                break
        return bytes(changed)


def run(mutants: list[bytes], flags: list[str], folder: Path) -> Outcome:
    path = folder / "mutant.mlir"
    path.write_bytes(SEPARATOR.encode().join(mutants))
    command = [BUILD / "bin/pfcn-opt", "--split-input-file", *flags, path]
    return run_limited(command, seconds=20 + len(mutants), folder=folder)


def find_broken(
    mutants: list[tuple[int, bytes]], flags: list[str], folder: Path
) -> Iterator[tuple[int, bytes, Outcome]]:
    """The mutants that break something on their own."""
    outcome = run([data for _, data in mutants], flags, folder)
    if outcome.is_fine:
        return
    if len(mutants) == 1:
        yield (*mutants[0], outcome)
        return
    middle = len(mutants) // 2
    yield from find_broken(mutants[:middle], flags, folder)
    yield from find_broken(mutants[middle:], flags, folder)


def is_upstream(outcome: Outcome) -> bool:
    """Whether the parser of types and attributes crashed, with none of our code on top of it."""
    frames = [line for line in outcome.text.splitlines() if re.match(r" *#\d+ ", line)]
    innermost = next((f for f in frames if "mlir::" in f and "Type::" not in f), "")
    return "mlir::detail::Parser::" in innermost


def check(seeds: range, keep: Path | None = None) -> list[str]:
    """What broke: seed, flags and outcome of each."""
    mutator = Mutator(load_modules())
    broken = []
    with tempfile.TemporaryDirectory() as folder:
        for first in range(seeds.start, seeds.stop, BATCH):
            flags = FLAGS[first // BATCH % len(FLAGS)]
            batch = [
                (seed, mutator.make(seed)) for seed in range(first, min(first + BATCH, seeds.stop))
            ]
            for seed, data, outcome in find_broken(batch, flags, Path(folder)):
                if is_upstream(outcome):
                    print(f"seed {seed}: LLVM's own parser crashes", flush=True)
                    continue
                broken.append(f"seed {seed} {' '.join(flags)}: {outcome}")
                print(broken[-1], flush=True)
                keep_mutant(keep, f"{seed}.mlir", data)
    return broken


if __name__ == "__main__":
    sys.exit(main(__doc__, 10_000, check))
