"""`python -m pfcn explain model.pt --input-shapes=1x20000xf32`: what would be fused, and why;
`python -m pfcn calibrate`: measures what the estimates are made of."""

from __future__ import annotations

import argparse
import json
import re
import sys
import warnings
from pathlib import Path

import torch

from . import _C
from .compile import explain
from .errors import Error, InputError

_DTYPES = {
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "f32": torch.float32,
    "f64": torch.float64,
    "i1": torch.bool,
    "i8": torch.int8,
    "i16": torch.int16,
    "i32": torch.int32,
    "i64": torch.int64,
}
_DYNAMIC = 2  # the size that stands for a `?`


def parse_shape(text: str) -> torch.Tensor:
    """An input of a shape such as `1x20000xf32`, or `?x3xi64`: random floats, zeros otherwise."""
    match = re.fullmatch(r"((?:(?:\d+|\?)x)*)(\w+)", text.strip())
    if match is None or match[2] not in _DTYPES:
        raise InputError(
            f"{text!r} is no shape: sizes and one of {', '.join(_DTYPES)}, as in 1x20000xf32"
        )
    sizes = [_DYNAMIC if s == "?" else int(s) for s in match[1].split("x") if s]
    dtype = _DTYPES[match[2]]
    if not dtype.is_floating_point:
        return torch.zeros(sizes, dtype=dtype)
    return torch.rand(sizes).to(dtype)


def load(path: Path) -> torch.nn.Module:
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and still what people have
        try:
            return torch.jit.load(path, map_location="cpu")
        except RuntimeError as error:
            first = str(error).strip().splitlines()[0]
            raise InputError(f"{path} is no TorchScript file: {first}") from error


def calibrate(text: str) -> int:
    """Stores the numbers in the cache of compiled kernels, and prints them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        print("\n".join(_C.calibrate(text).split(";")))
    except ValueError as error:
        print(f"pfcn calibrate: error: {error}", file=sys.stderr)
        return 1
    finally:
        torch.set_num_threads(threads)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 1 with one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m pfcn", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("explain", help="what would be fused, without running it")
    command.add_argument("model", type=Path, help="TorchScript (.pt)")
    command.add_argument("--input-shapes", required=True, metavar="SHAPES",
                         help="one for each input, separated by commas")  # fmt: skip
    command.add_argument("--json", action="store_true", help="the report as JSON")
    command.add_argument("--svg", type=Path, metavar="FILE", help="draw before and after")
    command = commands.add_parser(
        "calibrate", help="measure this machine, for compilations to come"
    )
    command.add_argument("--set", metavar="TEXT", default="",
                         help="instead of measuring: 'call=3000;library-rate=0.4'")  # fmt: skip
    args = parser.parse_args(argv)
    if args.command == "calibrate":
        return calibrate(args.set)
    try:
        inputs = tuple(map(parse_shape, args.input_shapes.split(",")))
        report = explain(load(args.model), inputs)
        if args.svg:
            report.to_svg(args.svg)
    except (Error, OSError, RuntimeError) as error:
        # What the model itself raises ends with the reason.
        text = error if isinstance(error, Error) else str(error).strip().splitlines()[-1]
        print(f"pfcn explain: error: {text}", file=sys.stderr)
        return 1
    print(json.dumps(report.to_dict(), indent=1) if args.json else report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
