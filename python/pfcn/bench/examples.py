"""The models of `examples/` as workloads: each file there that has `make()` and `inputs(batch)`.

They are models as people write them, so their rivals are what people can do without rewriting them:
eager, and (with `--all`) torch.compile.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from . import systems
from .workload import System, Workload

BATCHES = (1, 16, 128, 1024)
FOLDER = Path(__file__).resolve().parents[3] / "examples"  # there is none where pfcn is installed

SYSTEMS = [
    System("eager loop", systems.eager),
    System("torch.compile", systems.torch_compile, slow=True),
    System("pfcn (live weights)", systems.pfcn(freeze=False)),
    System("pfcn (freeze=True)", systems.pfcn(freeze=True)),
]


def load(path: Path) -> ModuleType:
    """The example as a module; its `__main__` part does not run."""
    spec = importlib.util.spec_from_file_location(f"pfcn_example_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def workload(path: Path) -> Workload:
    """What the file holds; it is executed when the model is made."""
    about = re.match(r'"""(.+?)[.:](?:\s|$)', path.read_text(), re.DOTALL)

    def make(instances: int | None, batch: int) -> tuple[nn.Module, tuple[Any, ...]]:
        if instances is not None:
            raise ValueError("the examples have a size of their own; leave out --instances")
        example = load(path)
        torch.manual_seed(0)
        return example.make(), example.inputs(batch)

    return Workload(
        name=re.sub(r"^\d+_", "", path.stem),
        about=" ".join(about[1].split()) if about else "",
        make=make,
        cost=None,
        systems=SYSTEMS,
    )


def find() -> list[Workload]:
    """One workload per example that is a model to measure, in the order of their numbers."""
    return [
        workload(path) for path in sorted(FOLDER.glob("*.py")) if "def make" in path.read_text()
    ]
