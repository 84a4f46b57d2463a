"""A process within limits, and whether it ended as a process should."""

from __future__ import annotations

import argparse
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("PFCN_BUILD", "build")  # build-asan: under its sanitizers
MEMORY = 4 << 30


@dataclass
class Outcome:
    status: int | None  # None: it did not end
    text: str

    @property
    def is_fine(self) -> bool:
        """Success, or a failure that says why."""
        if self.status == 1:
            return "error" in self.text.lower() and "PLEASE submit a bug report" not in self.text
        return self.status == 0

    def __str__(self) -> str:
        if self.status is None:
            return "does not end"
        if self.status < 0:
            return f"{signal.Signals(-self.status).name}: {self.text.strip()[-300:]}"
        return f"exit status {self.status}: {self.text.strip()[-300:]}"


def limit(seconds: int, memory: int = MEMORY) -> None:
    """Of this process: time, memory, and no files beyond a few bytes."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    if "asan" not in BUILD.name:  # which maps all memory for its own use
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run_limited(command: list, seconds: int, folder: Path, memory: int = MEMORY) -> Outcome:
    log = folder / "stderr"
    with log.open("wb") as stderr, open(os.devnull, "wb") as stdout:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            preexec_fn=lambda: limit(seconds, memory),
        )
        try:
            process.wait(timeout=10 * seconds)  # of the clock: the machine may be busy
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return Outcome(None, "")
    with log.open("rb") as stderr:
        stderr.seek(max(0, log.stat().st_size - 20_000))
        text = stderr.read().decode(errors="replace")
    if process.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return Outcome(None, text)
    return Outcome(process.returncode, text)


def keep_mutant(keep: Path | None, name: str, data: bytes) -> None:
    """Writes what broke something into the folder that was asked for, if one was."""
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
        (keep / name).write_bytes(data)


def main(about: str, count: int, check: Callable[[range, Path | None], list[str]]) -> int:
    """The command line of a kind of mutants, of which `check` names what broke something."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder for what breaks something")
    options = parser.parse_args()
    begin = time.time()
    broken = check(range(options.seed, options.seed + options.count), options.keep)
    print(f"{options.count} mutants from seed {options.seed} in {time.time() - begin:.0f} s,"
          f" {len(broken)} broke something")  # fmt: skip
    return bool(broken)
