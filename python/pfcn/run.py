"""The runner: a model from a file, inputs and outputs as .npy files.

pfcn-run model.pt2 --input x.npy --output y.npy
pfcn-run model.mlir --params weights.npz --input x.npy --repeat 100 --json
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from . import _C
from .compile import compile
from .errors import Error, InputError

Call = Callable[[list[torch.Tensor]], list[torch.Tensor]]


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 1 with one line on stderr."""
    arguments = _parser().parse_args(argv)
    try:
        _run(arguments)
    except (Error, OSError, RuntimeError, ValueError) as error:
        print(f"pfcn-run: error: {_one_line(error)}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pfcn-run", description="Compiles a model and runs it on inputs from files."
    )
    parser.add_argument(
        "model", type=Path, help="torch.export (.pt2), TorchScript (.pt) or pfcn dialect (.mlir)"
    )
    parser.add_argument("--target", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--input", type=Path, action="append", default=[], metavar="X.npy",
                        help="one for each input, in order")  # fmt: skip
    parser.add_argument("--output", type=Path, action="append", default=[], metavar="Y.npy",
                        help="one for each result, in order")  # fmt: skip
    parser.add_argument("--params", type=Path, help="weights of an .mlir: .npz or .safetensors")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="time N calls")
    parser.add_argument("--json", action="store_true", help="times and shapes as JSON on stdout")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    if arguments.repeat < 1:
        raise InputError(f"--repeat takes a number of calls, not {arguments.repeat}")
    inputs = [_read_array(path) for path in arguments.input]
    started = time.perf_counter()
    call = _load(arguments.model, arguments.params, inputs, arguments.target)
    seconds = time.perf_counter() - started
    outputs, times = _time(call, inputs, arguments.repeat)
    if arguments.output and len(arguments.output) != len(outputs):
        raise InputError(
            f"the model has {len(outputs)} results, and {len(arguments.output)} outputs are named"
        )
    for path, output in zip(arguments.output, outputs, strict=False):
        np.save(path, output.numpy())
    _tell(outputs, times, seconds, arguments.json)


def _load(path: Path, params: Path | None, inputs: list[torch.Tensor], target: str) -> Call:
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    loaders = {".mlir": _load_mlir, ".pt": _load_script, ".pt2": _load_exported}
    if path.suffix not in loaders:
        kinds = ", ".join(sorted(loaders))
        raise InputError(f"{path} is of no kind that is supported: {kinds}")
    return loaders[path.suffix](path, params, inputs, target)


def _load_mlir(path: Path, params: Path | None, inputs: list[torch.Tensor], target: str) -> Call:
    tensors = _read_params(params) if params else {}
    on = {"cuda_device": 0, "cuda_copies": True} if target == "cuda" else {}
    compilation = _C.compile(_C.parse(path.read_text(), tensors), freeze=True, **on)
    bound = _C.BoundPlan(compilation.plan, tensors, _C.Weights(), freeze=True)
    return bound.run


def _load_exported(
    path: Path, params: Path | None, inputs: list[torch.Tensor], target: str
) -> Call:
    if params:
        raise InputError("--params goes with .mlir; a .pt2 file has its own weights")
    logging.disable(logging.WARNING)  # it logs a stack trace, and raises without a reason
    try:
        program = torch.export.load(path)
    except Exception as error:  # of many kinds
        raise InputError(
            f"{path} is no archive of torch.export: {_one_line(error.__context__ or error)}"
        ) from error
    finally:
        logging.disable(logging.NOTSET)
    specs = program.call_spec.in_spec
    if specs is not None and specs.num_leaves != len(inputs):
        raise InputError(f"the model has {specs.num_leaves} inputs, and {len(inputs)} are given")
    args, kwargs = torch.utils._pytree.tree_unflatten(inputs, specs)
    try:
        fast = compile(program, tuple(args), kwargs, freeze=True, device=target)
    except AssertionError as error:  # what the program was not exported for
        raise InputError(_one_line(error)) from error

    def call(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        args, kwargs = torch.utils._pytree.tree_unflatten(tensors, specs)
        return torch.utils._pytree.tree_leaves(fast(*args, **kwargs))

    return call


def _load_script(path: Path, params: Path | None, inputs: list[torch.Tensor], target: str) -> Call:
    if params:
        raise InputError("--params goes with .mlir; a TorchScript file has its own weights")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and still what people have
        try:
            model = torch.jit.load(path, map_location="cpu")
        except RuntimeError as error:
            raise InputError(f"{path} is no TorchScript file: {_one_line(error)}") from error
    fast = compile(model, tuple(inputs), freeze=True, device=target)
    return lambda tensors: torch.utils._pytree.tree_leaves(fast(*tensors))


def _read_array(path: Path) -> torch.Tensor:
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    try:
        return torch.from_numpy(np.load(path, allow_pickle=False))
    except (ValueError, TypeError, EOFError) as error:
        raise InputError(f"{path} is no .npy array: {_one_line(error)}") from error


def _read_params(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except Exception as error:
        raise InputError(f"{path} cannot be read: {_one_line(error)}") from error
    raise InputError(f"{path} is neither .npz nor .safetensors")


def _time(
    call: Call, inputs: list[torch.Tensor], repeat: int
) -> tuple[list[torch.Tensor], list[float]]:
    """The results, and the seconds of each call."""
    times = []
    with torch.no_grad():
        for _ in range(repeat):
            started = time.perf_counter()
            outputs = call(inputs)
            times.append(time.perf_counter() - started)
    return outputs, times


def _tell(
    outputs: list[torch.Tensor], times: list[float], setup_seconds: float, as_json: bool
) -> None:
    micros = [seconds * 1e6 for seconds in times]
    median, least = statistics.median(micros), min(micros)
    shapes = [list(output.shape) for output in outputs]
    if as_json:
        row = {"calls": len(times), "us_median": median, "us_min": least, "outputs": shapes,
               "setup_seconds": setup_seconds}  # fmt: skip
        print(json.dumps(row))
    elif len(times) > 1:
        print(f"{len(times)} calls, median {median:.1f} µs, least {least:.1f} µs")


def _one_line(error: BaseException) -> str:
    """The message without the stack traces of torch and of TorchScript."""
    text = str(error).split("\nException raised from")[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if "Traceback of TorchScript" in text else "; ".join(lines)


if __name__ == "__main__":
    sys.exit(main())
