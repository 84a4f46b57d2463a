"""pfcn: a graph compiler for PyTorch that fuses many small, alike, independent submodules.

fast = pfcn.compile(model, (x,))   # an nn.Module that shares the model's parameters
print(fast.report)                 # what was fused, what was not, and why
"""

from . import optim, testing
from .compile import Compiled, compile, explain
from .errors import (
    CaptureError,
    CompileError,
    CudaError,
    Error,
    FusionError,
    InputError,
)
from .report import Group, Miss, Report

__version__ = "0.1.0"
__all__ = [
    "CaptureError",
    "CompileError",
    "Compiled",
    "CudaError",
    "Error",
    "FusionError",
    "Group",
    "InputError",
    "Miss",
    "Report",
    "compile",
    "explain",
    "optim",
    "testing",
]
