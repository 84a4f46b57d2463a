"""Mutated `.pt` and `.pt2` files for pfcn-opt: `mutate_pt.py [--count N] [--seed S]`.

Bytes of the archive, its members, the code and the tables inside are changed. A diagnostic is fine,
and so is success; a signal, a hang, boundless memory or a file that was not there is not.
"""

from __future__ import annotations

import io
import random
import re
import sys
import tempfile
import warnings
import zipfile
from functools import cache
from pathlib import Path

import torch
from survive import BUILD, ROOT, Outcome, keep_mutant, main, run_limited
from torch import nn

NUMBERS = ["0", "-1", "1", "3", "4611686018427387904", "9223372036854775807", "1e308",
           "-9223372036854775808", "99999999999999999999"]  # fmt: skip
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[A-Za-z_][\w.]*|\d+|\s+|[^\s\w]')


class Mixed(nn.Module):
    """Loops, lists, dicts and strings beside the tensors."""

    def __init__(self):
        super().__init__()
        self.nets = nn.ModuleList(nn.Linear(3, 2) for _ in range(3))
        self.names = ["a", "b", "c"]

    def forward(self, x):
        results = {}
        for i, net in enumerate(self.nets):
            part = x[:, i * 3 : i * 3 + 3]
            results[self.names[i] + str(i)] = torch.relu(net(part))
        total = torch.zeros([x.size(0), 2])
        for name in results:
            if len(name) > 1:
                total = total + results[name]
        steps = [k // 2 for k in range(4)]
        return total.unsqueeze(0).expand(steps[2] + 1, -1, -1), list(results.values())


@cache
def load_archives() -> list[tuple[str, str, bytes]]:
    """(suffix, input shapes, contents)."""
    torch.manual_seed(0)
    x = torch.randn(2, 9)
    conv = nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2), nn.ReLU(), nn.Flatten()).eval()
    made = [(Mixed(), "2x9xf32", False), (Mixed(), "2x9xf32", True), (conv, "2x1x9xf32", False),
            (nn.LSTM(3, 2), "4x2x3xf32", False)]  # fmt: skip
    archives = []
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        for model, shapes, is_traced in made:
            path = str(Path(folder) / "model.pt")
            script = torch.jit.trace(model, x) if is_traced else torch.jit.script(model)
            script.save(path)
            archives.append((".pt", shapes, Path(path).read_bytes()))
    heads = (ROOT / "test/Import/Inputs/heads.pt2").read_bytes()
    archives.append((".pt2", "", heads))
    return archives


def change_bytes(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        i = rng.randrange(len(changed)) if changed else 0
        match rng.randrange(5):
            case 0:
                changed[i : i + 1] = bytes([rng.randrange(256)])
            case 1:
                changed[i : i + 1] = (
                    bytes([changed[i] ^ (1 << rng.randrange(8))]) if changed else b""
                )
            case 2:
                changed[i:i] = rng.randbytes(rng.randrange(1, 9))
            case 3:
                del changed[i : i + rng.randrange(1, 33)]
            case _:
                changed[i : i + 8] = rng.choice([b"\0", b"\xff"]) * 8
    return (
        bytes(changed[: rng.randrange(len(changed) + 1)]) if rng.random() < 0.05 else bytes(changed)
    )


def change_text(data: bytes, rng: random.Random) -> bytes:
    tokens = TOKEN.findall(data.decode(errors="replace"))
    places = [i for i, token in enumerate(tokens) if not token.isspace()]
    for _ in range(rng.choice([1, 1, 2, 4])):
        if not places:
            break
        i, j = rng.choice(places), rng.choice(places)
        match rng.randrange(5):
            case 0:
                tokens[i] = ""
            case 1:
                tokens[i], tokens[j] = tokens[j], tokens[i]
            case 2:
                tokens[i] = tokens[j]
            case 3:
                tokens[i] += " " + tokens[j]
            case _:
                numbers = [k for k in places if tokens[k].isdigit()]
                if numbers:
                    tokens[rng.choice(numbers)] = rng.choice(NUMBERS)
    return "".join(tokens).encode()


def change_members(members: list[tuple[str, bytes]], rng: random.Random) -> None:
    i = rng.randrange(len(members))
    name, data = members[i]
    match rng.randrange(8):
        case 0:
            del members[i]
        case 1:
            members[i] = (rng.choice(members)[0], data)
        case 2:
            members[i] = ("../" * rng.randrange(1, 4) + name, data)
        case 3:
            members[i] = (name, rng.choice(members)[1])
        case _:  # of code and of tables more often than of weights
            texts = [k for k, (n, _) in enumerate(members) if n.endswith((".py", ".json"))]
            if texts and rng.random() < 0.7:
                k = rng.choice(texts)
                members[k] = (members[k][0], change_text(members[k][1], rng))
            else:
                pickles = [k for k, (n, _) in enumerate(members) if n.endswith((".pkl", "version"))]
                k = rng.choice(pickles or [i])
                members[k] = (members[k][0], change_bytes(members[k][1], rng))


def make(seed: int) -> tuple[str, str, bytes]:
    rng = random.Random(seed)
    suffix, shapes, data = rng.choice(load_archives())
    if rng.random() < 0.25:
        return suffix, shapes, change_bytes(data, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    change_members(members, rng)
    result = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(result, "w") as archive:
        warnings.simplefilter("ignore")  # two members of one name
        for name, contents in members:
            archive.writestr(name, contents)
    if rng.random() < 0.1:
        shapes = rng.choice(["", "0x9xf32", "?x9xf32", "2x4611686018427387904xf32", "1", "2x9xi64"])
    return suffix, shapes, result.getvalue()


def run(seed: int, folder: Path) -> Outcome:
    suffix, shapes, data = make(seed)
    path = folder / ("mutant" + suffix)
    path.write_bytes(data)
    command = [BUILD / "bin/pfcn-opt", path, "--pfcn-pipeline-cpu"]
    command += [f"--input-shapes={shapes}"] if shapes else []
    outcome = run_limited(command, seconds=60, folder=folder, memory=9 << 30)
    others = {p.name for p in folder.rglob("*")} - {path.name, "stderr"}
    path.unlink()
    return Outcome(3, f"wrote {others}") if others else outcome


def check(seeds: range, keep: Path | None = None) -> list[str]:
    """What broke: seed and outcome of each."""
    broken = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            outcome = run(seed, Path(folder))
            if "LibTorch stopped" in outcome.text or "LibTorch ended" in outcome.text:
                print(f"seed {seed}: {outcome.text.strip()}", flush=True)  # contained, and said
            if not outcome.is_fine:
                broken.append(f"seed {seed}: {outcome}")
                print(broken[-1], flush=True)
                suffix, _, data = make(seed)
                keep_mutant(keep, f"{seed}{suffix}", data)
    return broken


if __name__ == "__main__":
    sys.exit(main(__doc__, 2_000, check))
