"""`pfcn.compile`: a module that computes what the given one does, with its parts fused.

Every call goes through a C++ dispatcher first, which answers when a plan fits and nothing has
changed; see `engine.py` for what happens otherwise.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

from . import _C
from .engine import _HOOKS, Engine, Options
from .errors import CaptureError, FusionError, InputError, InputTypeError
from .exported import Exported
from .members import Members
from .report import Report

# What belongs to the compiled module itself; everything else is the model's.
_OWN = frozenset(
    ["training", "_model", "_engine", "_dispatch", "_members"]
    + [name for name in vars(nn.Module()) if "hooks" in name or name == "_is_full_backward_hook"]
)


class Ensemble(nn.ModuleList):
    """Several models as one: the same inputs to each, a tuple of their results."""

    def forward(self, *args: Any, **kwargs: Any) -> tuple:
        return tuple(member(*args, **kwargs) for member in self)


class Compiled(nn.Module):
    """A compiled model. Parameters, buffers, submodules and attributes are the model's own."""

    def __init__(self, model: nn.Module, options: Options):
        super().__init__()
        own = self.__dict__
        own["_model"] = model
        own["training"] = model.training
        for table in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
            if isinstance(vars(model).get(table), (dict, set)):
                own[table] = vars(model)[table]
        hooks = [own[name] for name in _HOOKS]
        own["_engine"] = Engine(model, options, hooks)
        own["_dispatch"] = self._engine.dispatch
        own["_members"] = Members(self._engine)

    @property
    def report(self) -> Report:
        """What was fused and what was not, for the plan that was compiled last."""
        return self._engine.report()

    @property
    def members(self) -> Any:
        """The networks that were fused, one by one; the model's own attribute of that name, if it
        has one."""
        return self._members if not hasattr(self._model, "members") else self._model.members

    def refresh(self) -> None:
        """Forgets what was found out about the model. Nothing that torch knows of needs that: it is
        for code that writes to modules behind torch's back."""
        self._engine.refresh()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():  # torch.compile or torch.export sees the model itself
            return self._model(*args, **kwargs)
        result = self._dispatch(args, kwargs)
        if result is not NotImplemented:
            return result
        return super().__call__(*args, **kwargs)  # with the hooks of this module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._engine.run(args, kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name in _OWN:
                raise
            return getattr(self._model, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OWN:
            object.__setattr__(self, name, value)
        else:
            setattr(self._model, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._model, name)

    def train(self, mode: bool = True) -> Compiled:
        self.__dict__["training"] = mode
        self._model.train(mode)
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self._model.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self._model.load_state_dict(*args, **kwargs)

    def extra_repr(self) -> str:
        return f"compiled {type(self._model).__name__}"

    def __deepcopy__(self, memo: dict) -> Compiled:
        return Compiled(copy.deepcopy(self._model, memo), self._engine.options)

    def __reduce__(self) -> tuple:
        return (Compiled, (self._model, self._engine.options))


def compile(
    model: nn.Module | torch.export.ExportedProgram | Sequence[nn.Module],
    example_inputs: Sequence[Any] | torch.Tensor | None = None,
    example_kwargs: dict[str, Any] | None = None,
    *,
    device: str | torch.device | None = None,
    dynamic_shapes: Any = None,
    freeze: bool = False,
    strict: bool = False,
    dry_run: bool = False,
    on_error: str = "raise",
) -> Compiled | Report:
    """Compiles a model: a module with the same results, parameters and state_dict.

    model: an nn.Module, a ScriptModule, an ExportedProgram (which is called as its `module()` is),
        or a sequence of modules (an ensemble: the same inputs to each, a tuple of results)
    example_inputs, example_kwargs: arguments of one call, to compile for now; without them, the
        first call compiles. Calls with other shapes compile when they come.
    device: "cuda" or "cuda:1" runs kernels on that GPU. For a model and inputs on the CPU it
        copies: weights once, and again where they have changed, inputs and results with every
        call. A model that is on a GPU runs there, whatever is asked for.
    dynamic_shapes: taken for compatibility with torch.export; sizes that vary are found out by
        comparing recordings, and every shape is allowed
    freeze: the weights as they are now are used for good, in the layout that suits the kernels
    strict: raise `FusionError` where nothing is fused, `CaptureError` where the model cannot be
        recorded; otherwise such a model runs in eager, and the report says why
    dry_run: return the report only, and leave the model as it is
    on_error: "raise", or "eager" to run in eager with a warning where compiling fails

    Where autograd follows a call, gradients are computed by kernels too; to train quickly, see
    `pfcn.optim`. With frozen weights and on GPUs such calls run in eager.
    """
    module = _as_module(model)
    if isinstance(module, Exported) and dynamic_shapes is not None:
        raise InputError("an ExportedProgram has the dynamic shapes that it was exported with")
    on = _as_device(device)
    if on_error not in ("raise", "eager"):
        raise InputError(f'on_error is "raise" or "eager", not {on_error!r}')
    if on is not None and on.type == "cuda" and on_error == "raise":
        _C.find_cuda_device(on.index or 0)  # raises at once where there is none
    options = Options(freeze=freeze, strict=strict, on_error=on_error, device=on)
    given = example_inputs is not None or example_kwargs is not None
    args = _as_tuple(example_inputs)
    if dry_run:
        if not given:
            raise InputError("dry_run needs example_inputs, as there is no call to wait for")
        return Engine(module, options, []).explain(args, dict(example_kwargs or {}))
    compiled = Compiled(module, options)
    if given:
        compiled._engine.prepare(args, dict(example_kwargs or {}))
    return compiled


def explain(
    model: nn.Module | Sequence[nn.Module],
    example_inputs: Sequence[Any] | torch.Tensor,
    example_kwargs: dict[str, Any] | None = None,
    *,
    device: str | torch.device | None = None,
    freeze: bool = False,
) -> Report:
    """What `compile` would do with these arguments, and why; the model is left as it is.

    Arguments and errors are those of `compile`.
    """
    report = compile(
        model, example_inputs, example_kwargs, device=device, freeze=freeze, dry_run=True
    )
    assert isinstance(report, Report)
    return report


def _as_module(model: Any) -> nn.Module:
    if isinstance(model, Compiled):
        return model._model
    if isinstance(model, fx.GraphModule) and hasattr(model, "_in_spec"):
        return Exported(model)  # what ExportedProgram.module() returns
    if isinstance(model, nn.Module):
        return model
    if isinstance(model, torch.export.ExportedProgram):
        return Exported(model.module())
    if isinstance(model, Sequence) and model and all(isinstance(m, nn.Module) for m in model):
        return Ensemble(model)
    raise InputTypeError(
        "compile takes an nn.Module, a sequence of them, or an ExportedProgram, not"
        f" {type(model).__name__}"
    )


def _as_device(device: str | torch.device | None) -> torch.device | None:
    try:
        on = None if device is None else torch.device(device)
    except RuntimeError as error:
        raise InputError(f'device is "cpu", "cuda" or "cuda:N", not {device!r}') from error
    if on is not None and on.type not in ("cpu", "cuda"):
        raise InputError(f'device is "cpu", "cuda" or "cuda:N", not "{device}"')
    return on


def _as_tuple(example_inputs: Any) -> tuple:
    if example_inputs is None:
        return ()
    if isinstance(example_inputs, torch.Tensor):
        return (example_inputs,)
    if not isinstance(example_inputs, Sequence) or isinstance(example_inputs, str):
        raise InputTypeError(
            f"example_inputs is a tuple of arguments, not {type(example_inputs).__name__}"
        )
    return tuple(example_inputs)


__all__ = ["CaptureError", "Compiled", "Ensemble", "FusionError", "compile", "explain"]
