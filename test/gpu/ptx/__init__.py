"""A PTX interpreter on numpy: runs kernels without a GPU, checks all that a GPU would not say, and
counts what a GPU would do. See `machine.Program.launch`; faults are `PtxFault`.

What it does not know is an error. Not modelled: time, caches, weak memory order between warps
(a race is reported instead), calls, textures, clusters, wgmma and TMA.
"""

from .faults import PtxFault
from .machine import Program, Stats, Traffic
from .memory import Buffer, Memory

__all__ = ["Buffer", "Memory", "Program", "PtxFault", "Stats", "Traffic"]
