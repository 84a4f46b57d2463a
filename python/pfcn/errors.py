"""The exceptions of pfcn, all under `Error`. None prints the contents of a tensor."""

from __future__ import annotations

import tempfile


class Error(RuntimeError):
    """What pfcn raises."""


class CaptureError(Error):
    """A model that cannot be recorded. It still runs in eager.

    reason: what it does that a recording cannot repeat
    where: the module's path and the line of the user's code, as far as known
    remedy: what to change
    """

    def __init__(self, reason: str, where: str = "", remedy: str = ""):
        self.reason, self.where, self.remedy = reason, where, remedy
        place = f" in {where}" if where else ""
        advice = f"\n  remedy: {remedy}" if remedy else ""
        super().__init__(f"cannot capture the model: {reason}{place}{advice}")


class ImportError_(Error):
    """A file or ScriptModule that cannot be imported."""


class FusionError(Error):
    """With `strict=True`: a model in which nothing was fused."""


class CompileError(Error):
    """A recorded model that could not be compiled: a defect of pfcn, not of the model.

    phase: of the compiler: detect, lower, kernels, plan; empty where it is none of these
    reproducer: a file that fails again, without values of the user's; empty where there is none
    """

    def __init__(self, message: str, phase: str = "", reproducer: str = ""):
        self.phase, self.reproducer = phase, reproducer
        super().__init__(message)

    def __reduce__(self) -> tuple:
        return (CompileError, (str(self), self.phase, self.reproducer))


def compile_failure(phase: str, message: str, text: str, flags: str) -> CompileError:
    """For the compiler: the error, and the file that goes with it."""
    first = message.removeprefix("pfcn: ")
    path = ""
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix=f"pfcn-{phase}-", suffix=".mlir", delete=False
        ) as file:
            path = file.name
            file.write(f"// pfcn-opt {path} {flags}\n{text}")
    except OSError as error:
        where = f"no file to reproduce it could be written: {error.strerror}"
    else:
        where = f"it is reproduced by: pfcn-opt {path} {flags}".rstrip()
    return CompileError(f"phase {phase}: {first}\n  {where}", phase, path)


def as_compile_error(error: Exception, advice: str) -> CompileError:
    """What a failed compilation raises: with `advice`, what runs the model meanwhile."""
    phase, reproducer = getattr(error, "phase", ""), getattr(error, "reproducer", "")
    message = f"compiling failed: {error}\n  remedy: report it; {advice} in eager meanwhile"
    return CompileError(message, phase, reproducer)


class CudaError(Error):
    """A call of the CUDA driver that failed, or a driver that is not there.

    name: as the driver spells it, such as CUDA_ERROR_OUT_OF_MEMORY
    remedy: what to do
    """

    def __init__(self, name: str, message: str, remedy: str):
        self.name, self.remedy = name, remedy
        super().__init__(message)

    def __reduce__(self) -> tuple:
        return (CudaError, (self.name, str(self), self.remedy))


class InputError(Error, ValueError):
    """An argument of a pfcn function that it cannot work with."""


class InputTypeError(InputError, TypeError):
    """The same, where the argument is of the wrong type."""
