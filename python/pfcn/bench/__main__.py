"""`python -m pfcn.bench WORKLOAD`: times a workload under pfcn and its rivals."""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch.utils import _pytree as pytree

from . import examples, matrix
from .bound import bound
from .layers import BATCHES as LAYER_BATCHES
from .layers import LAYERS
from .measure import Row, measure
from .seed import SEED
from .table import plot, show, times, write_figures
from .train import TRAIN
from .workload import Workload

WORKLOADS = {workload.name: workload for workload in [SEED, TRAIN, *LAYERS, *examples.find()]}


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("pfcn.bench", description=__doc__)
    parser.add_argument(
        "workload",
        choices=[*WORKLOADS, "examples", "layers", "matrix", "list"],
        metavar="WORKLOAD",
        help="`list` names them; `examples` is all models of examples/ at several batches, "
        "`layers` all banks of convolutions, LSTMs and the like, "
        "`matrix` banks of many sizes (hours; --json FILE is gone on with)",
    )
    parser.add_argument("--instances", type=positive, metavar="N", help="default: as is usual")
    parser.add_argument("--batch", type=positive, default=1, metavar="B")
    parser.add_argument("--threads", type=positive, default=1, metavar="T")
    parser.add_argument(
        "--device", default="cpu", metavar="D", help="cpu (default), cuda, cuda:1 …"
    )
    parser.add_argument("--all", action="store_true", help="also what takes minutes to set up")
    parser.add_argument(
        "--rounds", type=positive, default=20, metavar="R", help="interleaved rounds"
    )
    parser.add_argument(
        "--seconds", type=float, default=1.0, metavar="S", help="for which each system is timed"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the rows (.png, .svg, .pdf)"
    )
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="of the matrix, the cells whose name has it"
    )
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="of the matrix: write the figures into a page"
    )
    return parser.parse_args(argv)


def meaning(rows: list[Row], workload: Workload = SEED) -> str:
    """One line on what the table says, and where to look next; from its figures, not by heart."""
    by_name = {row.system: row for row in rows if row.us_median is not None}
    pfcn, eager = by_name.get(workload.ours), by_name.get(workload.baseline)
    if pfcn is None or eager is None:
        return "pfcn itself has no row here: see the reason above."
    kind = workload.ours.partition("pfcn")[0]
    no_rivals = {"bound"} | {s.name for s in workload.systems if s.ceiling}
    others = [
        r
        for r in by_name.values()
        if r.system.startswith(kind) and "pfcn" not in r.system and r.system not in no_rivals
    ]
    best = min(others, key=lambda row: row.us_median)
    # Either way round: the line is to be true on a machine where pfcn loses, too.
    if abs(pfcn.us_median - best.us_median) < 0.1 * best.us_median:
        rest = f"about as fast as the best of the rest ({best.system})"
    elif pfcn.us_median < best.us_median:
        rest = f"{times(best, pfcn)} as fast as the best of the rest ({best.system})"
    else:
        rest = f"the best of the rest ({best.system}) is {times(pfcn, best)} as fast as pfcn"
    return (
        f"pfcn runs the unmodified model {times(eager, pfcn)} as fast as PyTorch does, and {rest}. "
        "Next: examples/01_seed_model.py shows what was fused, and why."
    )


def find_device(name: str) -> torch.device:
    """The device; RuntimeError where torch has none of the name."""
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        built = torch.version.cuda
        why = (
            f"torch finds none, with CUDA {built}" if built else "this torch was built without CUDA"
        )
        raise RuntimeError(
            f"no CUDA device: {why}; see nvidia-smi, and pytorch.org for a build with CUDA"
        )
    return device


def run(workload: Workload, args: argparse.Namespace, console: Console) -> list[Row]:
    """Measures one workload and shows it; returns all rows, those without figures too."""
    torch.set_num_threads(args.threads)
    device = find_device(args.device)
    model, inputs = workload.make(args.instances, args.batch)
    model, inputs = model.to(device), pytree.tree_map(lambda x: x.to(device), inputs)
    systems = [s for s in workload.systems if args.all or not s.slow]
    errors = Console(stderr=True)
    # Progress goes to stderr: a live line in a terminal; elsewhere a line for every slow step.
    with errors.status(workload.name) as status, tempfile.TemporaryDirectory() as caches:
        # Empty caches, so that the set-up times are those of a first run, on every run.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{caches}/inductor"
        os.environ["PFCN_CACHE_DIR"] = f"{caches}/pfcn"

        def progress(text: str) -> None:
            if errors.is_terminal:
                status.update(text)
            elif not text.startswith("round"):
                print(f"{workload.name}: {text}", file=sys.stderr, flush=True)

        rows = measure(
            systems, model, inputs, rounds=args.rounds, seconds=args.seconds, progress=progress
        )
        if workload.cost is not None:
            progress("measuring the machine")
            rows.append(bound(workload.cost(args.instances, args.batch), args.threads, device.type))
    left_out = [
        Row(s.name, reason="minutes to set up; --all runs it")
        for s in workload.systems
        if s not in systems
    ]
    title = (
        f"{workload.name}: "
        + (f"n={args.instances}, " if args.instances else "")
        + f"batch {args.batch}, {args.threads} "
        f"thread{'s' if args.threads > 1 else ''}, {args.device}, torch {torch.__version__}, "
        f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
        + (f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else "")
    )
    show(console, title, rows, left_out)
    if args.plot:
        plot(args.plot, title, rows)
    return rows + left_out


def run_matrix(args: argparse.Namespace, console: Console) -> int:
    """Measures the cells that the file does not have yet, and shows all."""
    if args.json is None:
        raise ValueError("the matrix takes hours: name a file to go on with, --json FILE")
    done = matrix.run(
        args.json,
        threads=(1, args.threads),
        rounds=args.rounds,
        seconds=args.seconds,
        everything=args.all,
        only=args.only,
        progress=lambda text: print(f"matrix: {text}", file=sys.stderr, flush=True),
    )
    matrix.show(console, done)
    if args.plot:
        matrix.heat_map(args.plot, done)
    if args.page:
        write_figures(args.page, f"\n{matrix.markdown(done)}\n")
    return 0


def run_all(
    workloads: list[Workload],
    batches: tuple[int, ...],
    title: str,
    compare: Callable[[list[Row]], str],
    args: argparse.Namespace,
    console: Console,
) -> list[dict]:
    """Measures workloads at several batches; shows one table, a cell being what `compare` says."""
    quiet = Console(file=io.StringIO())
    found, table = [], Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(title)
    for batch in batches:
        table.add_column(f"batch {batch}", justify="right")
    for workload in workloads:
        cells = []
        for batch in batches:
            args.batch = batch
            rows = run(workload, args, quiet)
            tags = {"workload": workload.name, "batch": batch}
            found += [tags | row.to_dict() for row in rows]
            cells.append(compare(rows))
        table.add_row(workload.name, *cells)
    console.print(table)
    return found


def over_eager(rows: list[Row]) -> str:
    eager, live, frozen = (row for row in rows if not row.system.startswith("torch"))
    return f"{times(eager, live) or '–'} · {times(eager, frozen) or '–'}"


def over_best(rows: list[Row]) -> str:
    """With live and with frozen weights, and which alternative it is."""
    live, frozen = (row for row in rows if row.system.startswith("pfcn"))
    rest = [
        r for r in rows if r.us_median is not None and not r.system.startswith(("pfcn", "bound"))
    ]
    if not rest:
        return "–"
    best = min(rest, key=lambda row: row.us_median)
    return f"{times(best, live) or '–'} · {times(best, frozen) or '–'} {best.system}"


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    # Piped into a file there is no width to keep to, and no row should lose its end.
    console = Console(width=None if sys.stdout.isatty() else 140)
    if args.workload == "list":
        for workload in WORKLOADS.values():
            console.print(f"{workload.name}: {workload.about}", highlight=False, markup=False)
        return 0
    try:
        if args.workload == "matrix":
            return run_matrix(args, console)
        if args.workload == "examples":
            title = "eager ÷ pfcn, live · frozen"
            workloads = examples.find()
            found = run_all(workloads, examples.BATCHES, title, over_eager, args, console)
        elif args.workload == "layers":
            title = "best of the rest ÷ pfcn, live · frozen"
            found = run_all(LAYERS, LAYER_BATCHES, title, over_best, args, console)
        else:
            rows = run(WORKLOADS[args.workload], args, console)
            console.print(meaning(rows, WORKLOADS[args.workload]), highlight=False, markup=False)
            found = [row.to_dict() for row in rows]
    except (AssertionError, RuntimeError, ValueError) as error:  # no such device, no such size
        print(f"pfcn.bench: {error}", file=sys.stderr)
        return 1
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
