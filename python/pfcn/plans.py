"""Plans: compiled recordings, and which of them fits a new one.

Recordings that agree share a plan; recordings that differ only in sizes get one plan for all
sizes.
"""

from __future__ import annotations

import os
import sys
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch

from . import _C, capture
from .errors import CaptureError, FusionError
from .report import Group, Miss, Report

_MAX_PLANS = 32  # compiled plans
_MAX_RECORDINGS = 8  # with which a new one is compared

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Options:
    freeze: bool = False
    strict: bool = False
    on_error: str = "raise"
    use_kernels: bool = True
    fuse: bool = True
    device: torch.device | None = None


@dataclass
class Plan:
    """A compiled recording."""

    compilation: _C.Compilation
    recording: capture.Capture
    constants: dict[str, torch.Tensor]  # that the recording has beside the model's own tensors
    seconds: float
    phases: dict[str, float]


class Plans:
    """The plans of one model or graph."""

    def __init__(self, options: Options):
        self.options = options
        self.plans: OrderedDict[tuple, Plan] = OrderedDict()
        self.recordings: list[capture.Capture] = []
        self.general: list[capture.Capture] = []
        self.latest: Plan | None = None

    def __len__(self) -> int:
        return len(self.plans)

    def _find_target(self, recording: capture.Capture, own: Tensors) -> dict[str, Any]:
        """What to compile for, as arguments of `_C.compile`."""
        precision = {"allow_tf32": _C.allows_tf32()}
        devices = recording.devices | {tensor.device for tensor in own.values()}
        device, asked = _only(devices), self.options.device
        if device.type == "cuda":
            return {"cuda_device": device.index, "cuda_copies": False, **precision}
        if asked is not None and asked.type == "cuda":
            return {"cuda_device": asked.index or 0, "cuda_copies": True, **precision}
        return {}

    def find(self, recording: capture.Capture, own: Tensors, followed: bool = False) -> Plan:
        """The plan of a recording: its own, one that covers it, or one that is made now. `own` are
        the tensors of the model by name; `followed`: autograd will follow it."""
        target = {**self._find_target(recording, own), "differentiate": followed}
        layout = (*map(_order, recording.out_strides), tuple(target.items()))
        plan = self.plans.get((recording.tape_key, layout))
        if plan is not None:
            return plan
        for general in self.general:
            if (general.tape_key, layout) in self.plans and capture.matches(general, recording):
                return self.plans[general.tape_key, layout]
        for earlier in self.recordings:
            joined = capture.unify(recording, earlier)
            if joined is None or (earlier.tape_key, layout) not in self.plans:
                continue
            if not capture.matches(joined, recording):
                continue
            joined.seconds = recording.seconds
            self.general.append(joined)
            return self._compile(joined, own, layout, target)
        self.recordings = [recording, *self.recordings][:_MAX_RECORDINGS]
        return self._compile(recording, own, layout, target)

    def _compile(
        self, recording: capture.Capture, own: Tensors, layout: tuple, target: dict[str, Any]
    ) -> Plan:
        started = time.perf_counter()
        model = recording.model
        _only({tensor.device for tensor in model.tensors.values()})
        imported = time.perf_counter()
        compilation = _C.compile(
            model,
            freeze=self.options.freeze,
            use_kernels=self.options.use_kernels,
            fuse=self.options.fuse,
            output_strides=[list(strides) for strides in recording.out_strides],
            **target,
        )
        phases = {"record": recording.seconds, "import": imported - started}
        phases.update(compilation.seconds)
        constants = {name: t for name, t in model.tensors.items() if name not in own}
        plan = Plan(compilation, recording, constants, sum(phases.values()), phases)
        # A plan outlives the parameters that it was made with.
        recording.tape.release_leaves()
        vars(recording).pop("model", None)
        self.plans[recording.tape_key, layout] = plan
        if len(self.plans) > _MAX_PLANS:
            self._forget_plan()
        self.latest = plan
        _log(self.report(), compilation)
        if self.options.strict and not compilation.groups:
            raise FusionError(_nothing_fused(self.report()))
        return plan

    def _forget_plan(self) -> None:
        """The oldest plan goes; calls that are at hand keep theirs."""
        _key, plan = self.plans.popitem(last=False)
        self.general = [general for general in self.general if general is not plan.recording]
        self.recordings = [kept for kept in self.recordings if kept is not plan.recording]

    def report(self) -> Report:
        """Of the plan that was compiled last."""
        report = Report(plans=len(self.plans))
        if self.latest is None:
            return report
        compilation = self.latest.compilation
        report.groups = [Group(**group) for group in compilation.groups]
        report.missed = [Miss(**miss) for miss in compilation.missed]
        report.steps = list(compilation.plan.steps)
        report.launches = sum(kind == "kernel" for kind, _ in report.steps)
        report.compile_seconds = self.latest.seconds
        report.phase_seconds = dict(self.latest.phases)
        return report


def prepared(recording: capture.Capture, started: float) -> capture.Capture:
    """A recording that is to be kept: with the devices of its inputs instead of their data."""
    recording.devices = {tensor.device for tensor in recording.inputs}
    recording.inputs = list(map(_without_data, recording.inputs))
    recording.seconds = time.perf_counter() - started
    return recording


def _only(devices: set[torch.device]) -> torch.device:
    """The one device of all tensors."""
    if len(devices) > 1:
        names = " and ".join(sorted(map(str, devices)))
        raise CaptureError(f"it has tensors on {names}", remedy="move them all to one device")
    return next(iter(devices), torch.device("cpu"))


def _without_data(tensor: torch.Tensor) -> torch.Tensor:
    """Shape, strides and dtype of an input; its data are the caller's to free."""
    return torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta", requires_grad=False
    )


def _order(strides: tuple[int, ...]) -> tuple:
    """The dimensions from the outermost to the innermost, and which ones repeat their elements."""
    dims = sorted(range(len(strides)), key=lambda dim: -strides[dim])
    return (*dims, *(stride == 0 for stride in strides))


def _nothing_fused(report: Report) -> str:
    text = "nothing was fused"
    if report.missed:
        text += "; the nearest miss: " + report.missed[0].reason
    return text + "\n  remedy: leave out strict=True to run the model as it is"


def _log(report: Report, compilation: _C.Compilation) -> None:
    """What PFCN_LOG asks for, a list of fusion, plan and ir, on stderr."""
    wanted = set(filter(None, os.environ.get("PFCN_LOG", "").split(",")))
    if "fusion" in wanted:
        print(report, file=sys.stderr)
    if "plan" in wanted:
        for number, (kind, name) in enumerate(report.steps):
            print(f"pfcn: step {number}: {kind} {name}", file=sys.stderr)
    if "ir" in wanted:
        print("// pfcn: after detection\n" + compilation.fused_text, file=sys.stderr)
        print("// pfcn: as executed\n" + compilation.lowered_text, file=sys.stderr)


__all__ = ["Options", "Plan", "Plans", "prepared"]
