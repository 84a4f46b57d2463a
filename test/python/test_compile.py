"""pfcn.compile against eager: sizes, layouts, modes, and everything that must go to eager."""

from __future__ import annotations

import copy
import gc
import io
import json
import os
import pickle
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import models
import pytest
import torch
from torch import nn

import pfcn
from pfcn import _C
from pfcn import __main__ as shell
from pfcn.engine import Engine, Options
from pfcn.testing import assert_matches


def kinds(fast: pfcn.Compiled) -> set[str]:
    return {kind for kind, _ in fast.report.steps}


def hits(fast: pfcn.Compiled) -> int:
    """Calls that C++ answered by itself."""
    return fast._engine.dispatcher.hits


def test_one_import_is_enough():
    check = (
        "import pfcn, torch; pfcn.testing.assert_matches(torch.nn.Linear(3, 2), torch.ones(4, 3))"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


# --- Numerics ------------------------------------------------------------------------------------


@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [0, 1, 2, 15, 16, 17, 33])
@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 100])
def test_slices(n, batch, dtype, freeze):
    model = models.make(models.Slices(n), seed=n, dtype=dtype)
    x = torch.randn(batch, 5 * n, dtype=dtype, generator=torch.Generator().manual_seed(batch))
    fast = assert_matches(model, (x,), freeze=freeze)
    if n >= 2 and batch >= 2:
        assert fast.report.groups[0].instances == n
        assert fast.report.launches == 1


@pytest.mark.parametrize("batch", [1, 16, 17])
def test_thousand(batch):
    model = models.make(models.Slices(1000))
    fast = assert_matches(model, (torch.randn(batch, 5000),), strict=True)
    assert fast.report.launches == 1
    assert kinds(fast) == {"kernel", "allocation"}


@pytest.mark.parametrize("batch", [1, 3, 16])
@pytest.mark.parametrize("n", [1, 2, 17, 64])
@pytest.mark.parametrize(
    "kind", [models.Shared, models.OneByOne, models.Summed, models.Columns, models.TwoClasses]
)
def test_results(kind, n, batch):
    model = models.make(kind(n), seed=n)
    width = 5 if issubclass(kind, models.Shared) else 6 * n if kind is models.TwoClasses else 5 * n
    x = torch.randn(batch, width, generator=torch.Generator().manual_seed(batch))
    assert_matches(model, (x,))


@pytest.mark.parametrize(
    "act", [nn.ReLU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Softplus, nn.ELU, nn.LeakyReLU]
)
def test_activations(act):
    model = models.make(models.Slices(7, act=act))
    assert_matches(model, (torch.randn(5, 35),), strict=True)


class Normalised(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Dropout(0.5), nn.Linear(8, 3))
            for _ in range(n)
        )

    def forward(self, x):
        return torch.stack([head(x).softmax(-1) for head in self.heads], 1)


def test_layer_norm_and_softmax():
    assert_matches(models.make(Normalised(9)), (torch.randn(4, 6),))


def layouts() -> dict[str, torch.Tensor]:
    """[4, 30] in memory as callers may have it."""
    base = torch.randn(8, 60, generator=torch.Generator().manual_seed(3))
    wide = base[:4, :30]
    return {
        "contiguous": wide.contiguous(),
        "rows of a wider tensor": wide,
        "every second column": base[:4, ::2],
        "every second row": base[::2, :30],
        "transposed": wide.contiguous().T.contiguous().T,
        "one row for all": wide[:1].expand(4, 30),
        "misaligned": base.flatten()[1:121].view(4, 30),
    }


@pytest.mark.parametrize("layout", layouts())
@pytest.mark.parametrize("freeze", [False, True])
def test_layouts(layout, freeze):
    model = models.make(models.Slices(6))
    x = layouts()[layout]
    with torch.no_grad():
        fast = pfcn.compile(model, (layouts()["contiguous"],), freeze=freeze)
        for _ in range(2):
            result = fast(x)
            torch.testing.assert_close(result, model(x))
            assert result.stride() == model(x).stride()


@pytest.mark.parametrize("seed", range(3))
def test_fused_equals_unfused_equals_eager(seed):
    model = models.make(models.TwoClasses(11), seed=seed)
    x = torch.randn(13, 66, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        expected = model(x)
        for use_kernels in (False, True):
            for fuse in (False, True):
                options = Options(use_kernels=use_kernels, fuse=fuse)
                engine = Engine(model, options, [])
                torch.testing.assert_close(engine.run((x,), {}), expected)
                assert engine.report().launches == (2 if use_kernels and fuse else 0)
                assert len(engine.report().groups) == (2 if fuse else 0)


def test_threads():
    model = models.make(models.Slices(1000))
    x = torch.randn(300, 5000)
    before = torch.get_num_threads()
    try:
        with torch.no_grad():
            expected = model(x)
            fast = pfcn.compile(model, (x,))
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                torch.testing.assert_close(fast(x), expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_waits(enabled):
    """And is as it was when all is done, or fails."""
    seen = []  # of a recording; the model's own attributes would be put back

    class Watched(nn.Module):
        def __init__(self, error=None):
            super().__init__()
            self.error = error

        def forward(self, x):
            seen.append(gc.isenabled())
            if self.error:
                raise self.error
            return x + 1

    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        pfcn.compile(Watched(), (torch.ones(3),))
        assert gc.isenabled() == enabled
        assert seen and not any(seen)
        with pytest.raises(KeyError):
            pfcn.compile(Watched(KeyError("no")), (torch.ones(3),))
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()


def test_calls_from_several_threads():
    model = models.make(models.Slices(50))
    fast = pfcn.compile(model)
    inputs = [torch.randn(batch, 250) for batch in (1, 2, 3, 5, 8, 13)]
    with torch.no_grad():
        expected = [model(x) for x in inputs]
    failures = []

    def work(number):
        try:
            with torch.no_grad():
                for turn in range(30):
                    which = (number + turn) % len(inputs)
                    torch.testing.assert_close(fast(inputs[which]), expected[which])
        except Exception as error:
            failures.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


# --- Shapes, arguments, results ------------------------------------------------------------------


def test_new_shapes_share_a_plan():
    model = models.make(models.Slices(20))
    fast = pfcn.compile(model)
    with torch.no_grad():
        for batch in (4, 7, 9, 1, 30, 0, 2):
            x = torch.randn(batch, 100)
            torch.testing.assert_close(fast(x), model(x))
    # 4 alone, then one plan for 7, 9, 30, 2; 0 and 1 are never generalised.
    assert fast.report.plans == 4


class Branches(nn.Module):
    """Sizes decide: each shape is recorded by itself."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(4))

    def forward(self, x):
        batch = x.shape[0]
        if batch > 5:
            x = x * 2
        x = torch.cat([layer(x) for layer in self.layers], 1)
        return x[: min(batch, 4)] / (batch // 2 + 1)


def test_sizes_that_decide():
    model = models.make(Branches())
    fast = pfcn.compile(model)
    with torch.no_grad():
        for batch in (2, 3, 4, 5, 6, 7, 1, 9, 3):
            x = torch.randn(batch, 3)
            for _ in range(2):
                torch.testing.assert_close(fast(x), model(x))


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 2)
        self.b = nn.Linear(3, 2)

    def forward(self, pair, *, scale=1.0, extra=None):
        x, y = pair["x"], pair["y"][0]
        result = {"sum": self.a(x) + self.b(y), "same": x, "number": 3, "none": None}
        if extra is not None:
            result["extra"] = (self.a(extra) * scale,)
        return result


def test_nested_arguments_and_results():
    model = models.make(Nested())
    x, y, z = (torch.randn(4, 3) for _ in range(3))
    assert_matches(model, ({"x": x, "y": [y]},))
    assert_matches(model, ({"x": x, "y": [y]},), {"scale": 2.0, "extra": z})
    fast = pfcn.compile(model)
    with torch.no_grad():
        for scale in (1.0, 2.0, 1.0, True):
            expected = model({"x": x, "y": [y]}, scale=scale, extra=z)
            actual = fast({"x": x, "y": [y]}, scale=scale, extra=z)
            torch.testing.assert_close(actual["extra"][0], expected["extra"][0])
            assert actual["none"] is None


def test_results_may_be_written_into():
    model = models.make(models.OneByOne(6))
    x = torch.randn(3, 30)
    with torch.no_grad():
        fast = pfcn.compile(model, (x,))
        for _ in range(2):
            expected = [result.clone() for result in model(x)]
            results = fast(x)
            for result in results:
                result.fill_(7)
            torch.testing.assert_close(fast(x), expected)
            assert len({result.untyped_storage().data_ptr() for result in results}) == 6


def test_wrong_arguments_raise_what_eager_raises():
    model = models.make(models.Slices(4))
    fast = pfcn.compile(model, (torch.randn(2, 20),))
    for wrong in (torch.randn(2, 3), torch.randn(2, 20).double(), torch.randn(20)):
        with torch.no_grad():
            with pytest.raises(Exception) as eager:
                model(wrong)
            with pytest.raises(type(eager.value)) as mine:
                fast(wrong)
        assert str(mine.value) == str(eager.value)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        fast()


# --- Calls that C++ answers ----------------------------------------------------------------------


def test_common_call_stays_in_cpp():
    model = models.make(models.Slices(10))
    x = torch.randn(2, 50)
    fast = pfcn.compile(model, (x,))
    with torch.no_grad():
        fast(x)
        before = hits(fast)
        for _ in range(5):
            fast(x)
    assert hits(fast) == before + 5


def test_inference_mode():
    model = models.make(models.Slices(10))
    x = torch.randn(2, 50)
    fast = pfcn.compile(model, (x,))
    with torch.inference_mode():
        for _ in range(3):
            result = fast(x)
            torch.testing.assert_close(result, model(x))
            assert result.is_inference()
        assert hits(fast) >= 1
        inside = torch.randn(2, 50)
        torch.testing.assert_close(fast(inside), model(inside))
    with torch.no_grad():
        assert not fast(x).is_inference()


def test_grad_mode_without_parameters_that_need_it():
    model = models.make(models.Slices(10)).requires_grad_(False)
    x = torch.randn(2, 50)
    fast = pfcn.compile(model, (x,))
    for _ in range(3):
        torch.testing.assert_close(fast(x), model(x))
    assert hits(fast) >= 1
    model.models[3][0].weight.requires_grad_(True)
    assert fast(x).requires_grad
    model.models[3][0].weight.requires_grad_(False)
    assert not fast(x).requires_grad
    assert fast(x.requires_grad_()).requires_grad


def test_training():
    model = models.make(models.Slices(8))
    reference = copy.deepcopy(model)
    x = torch.randn(6, 40)
    fast = pfcn.compile(model, (x,))
    for module in (fast, reference):
        module.train()
        module(x).square().sum().backward()
    assert fast.report.tracked_calls == 0
    for mine, theirs in zip(fast.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


# --- What must go to eager -----------------------------------------------------------------------


@pytest.fixture
def fused():
    model = models.make(models.Slices(5))
    x = torch.randn(3, 25)
    fast = pfcn.compile(model, (x,))
    with torch.no_grad():
        fast(x), fast(x)
        assert hits(fast) >= 1
    return model, fast, x


def test_autocast(fused):
    model, fast, x = fused
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        result = fast(x)
        assert result.dtype == model(x).dtype == torch.bfloat16
        torch.testing.assert_close(result, model(x), rtol=0, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(fast(x), model(x))


def test_functorch(fused):
    model, fast, x = fused
    with torch.no_grad():
        result = torch.vmap(fast)(x.unsqueeze(1))
        torch.testing.assert_close(result, model(x).unsqueeze(1))
    jacobian = torch.func.jacrev(lambda y: fast(y).sum(0))(x)
    torch.testing.assert_close(jacobian, torch.func.jacrev(lambda y: model(y).sum(0))(x))


class Counting(torch.utils._python_dispatch.TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls += 1
        return func(*args, **(kwargs or {}))


class CountingFunctions(torch.overrides.TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.calls += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", [Counting, CountingFunctions])
def test_modes_see_the_operators(fused, mode):
    model, fast, x = fused
    with torch.no_grad(), mode() as counted:
        result = fast(x)
    assert counted.calls >= 15
    with torch.no_grad():
        torch.testing.assert_close(result, model(x))


def test_subclasses_see_the_operators(fused):
    model, fast, x = fused

    class Tagged(torch.Tensor):
        pass

    with torch.no_grad():
        result = fast(x.as_subclass(Tagged))
        assert type(result) is Tagged
        torch.testing.assert_close(result.as_subclass(torch.Tensor), model(x))


def test_lazy_conjugates():
    class Real(nn.Module):
        def forward(self, z):
            return torch.cat([z.real + 1, z.imag * 2])

    z = torch.randn(4, dtype=torch.complex64)
    fast = pfcn.compile(Real(), (z,))
    torch.testing.assert_close(fast(z.conj()), Real()(z.conj()))


@pytest.mark.parametrize("where", ["inner", "root", "outer", "global"])
def test_hooks_run(fused, where):
    model, fast, x = fused
    seen = []

    def hook(module, args, result):
        seen.append(module)
        return result + 1

    owner = {"inner": model.models[2], "root": model, "outer": fast}
    if where == "global":
        handle = nn.modules.module.register_module_forward_hook(
            lambda module, args, result: seen.append(module)
        )
    else:
        handle = owner[where].register_forward_hook(hook)
    with torch.no_grad():
        try:
            result = fast(x)
            assert seen
            if where != "outer":
                torch.testing.assert_close(result, model(x))
        finally:
            handle.remove()
        count = len(seen)
        result = fast(x)
        assert len(seen) == count
        torch.testing.assert_close(result, model(x))
        fast(x)
        before = hits(fast)
        fast(x)
        assert hits(fast) == before + 1  # back on the short way


def test_hooks_from_before_are_in_no_plan():
    model = models.make(models.Slices(4))
    x = torch.randn(2, 20)
    handle = model.models[1].register_forward_hook(lambda module, args, result: result + 1)
    fast = pfcn.compile(model, (x,))
    assert "hooks" in fast.report.eager
    with torch.no_grad():
        torch.testing.assert_close(fast(x), model(x))
        handle.remove()
        for _ in range(2):
            torch.testing.assert_close(fast(x), model(x))
    assert fast.report.eager == ""


class Refused(nn.Module):
    """Asks for a value: no recording holds for another."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(3))

    def forward(self, x):
        if x.sum().item() > 0:
            x = -x
        return torch.cat([layer(x) for layer in self.layers], 1)


def test_refused_capture_runs_in_eager():
    model = models.make(Refused())
    fast = pfcn.compile(model, (torch.ones(2, 3),))
    assert "item" in fast.report.eager
    assert "item" in str(fast.report)
    with torch.no_grad():
        for x in (torch.ones(2, 3), -torch.ones(2, 3)):
            torch.testing.assert_close(fast(x), model(x), rtol=0, atol=0)
    with pytest.raises(pfcn.CaptureError, match="item"):
        pfcn.compile(model, (torch.ones(2, 3),), strict=True)


class Counter(nn.Module):
    """Leaves something behind at every call."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(3))
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return torch.cat([layer(x) for layer in self.layers], 1)


def test_a_model_that_changes_at_every_call():
    model = models.make(Counter())
    fast = pfcn.compile(model)
    x = torch.randn(2, 3)
    with torch.no_grad():
        for _ in range(20):
            torch.testing.assert_close(fast(x), copy.deepcopy(model)(x))
    assert model.calls == 20
    assert fast.calls == 20


class Noisy(models.Slices):
    def forward(self, x):
        return super().forward(x) + torch.randn(x.shape[0], 1)


def test_random_numbers_are_eagers():
    model = models.make(Noisy(4))
    x = torch.randn(3, 20)
    fast = pfcn.compile(model, (x,))
    with torch.no_grad():
        torch.manual_seed(5)
        expected = [model(x) for _ in range(3)]
        torch.manual_seed(5)
        for result in expected:
            torch.testing.assert_close(fast(x), result)


def test_dropout_in_training():
    model = nn.Sequential(models.make(models.Slices(4)), nn.Dropout(0.5))
    x = torch.randn(3, 20)
    fast = pfcn.compile(model, (x,))
    with torch.no_grad():
        for training in (True, False, True):
            fast.train(training)
            assert model.training is training and fast.training is training
            torch.manual_seed(1)
            expected = model(x)
            torch.manual_seed(1)
            torch.testing.assert_close(fast(x), expected)
        model[1].eval()  # one submodule alone
        model.eval()
        torch.testing.assert_close(fast(x), model(x))
        model[1].train()
        torch.manual_seed(1)
        expected = model(x)
        torch.manual_seed(1)
        torch.testing.assert_close(fast(x), expected)


# --- The module ----------------------------------------------------------------------------------


def test_shares_the_model():
    model = models.make(models.Slices(4))
    fast = pfcn.compile(model, (torch.randn(2, 20),))
    assert isinstance(fast, nn.Module)
    assert fast.state_dict().keys() == model.state_dict().keys()
    assert dict(fast.named_parameters()).keys() == dict(model.named_parameters()).keys()
    assert all(a is b for a, b in zip(fast.parameters(), model.parameters(), strict=True))
    assert fast.width == 5
    assert fast.models is model.models
    fast.width = 5
    fast.note = "mine"
    assert model.note == "mine"
    with pytest.raises(AttributeError, match="nothing_like_it"):
        fast.nothing_like_it  # noqa: B018
    optimizer = torch.optim.SGD(fast.parameters(), lr=0.1)
    assert optimizer.param_groups[0]["params"][0] is model.models[0][0].weight


def test_deepcopy_pickle_and_save():
    model = models.make(models.Slices(4))
    x = torch.randn(2, 20)
    fast = pfcn.compile(model, (x,))
    with torch.no_grad():
        expected = model(x)
        twin = copy.deepcopy(fast)
        assert isinstance(twin, pfcn.Compiled)
        assert twin.models[0][0].weight is not model.models[0][0].weight
        twin.models[0][0].weight.zero_()
        torch.testing.assert_close(fast(x), expected)
        torch.testing.assert_close(twin(x), copy.deepcopy(twin._model)(x))
        loaded = pickle.loads(pickle.dumps(fast))
        torch.testing.assert_close(loaded(x), expected)
        buffer = io.BytesIO()
        torch.save(model.models[0].state_dict(), buffer)
        assert len(buffer.getvalue()) < 6000  # its own slices of the home, not the home


def test_ensemble():
    members = [models.make(nn.Linear(4, 3), seed=seed) for seed in range(5)]
    x = torch.randn(6, 4)
    fast = pfcn.compile(members, (x,), strict=True)
    with torch.no_grad():
        results = fast(x)
        assert type(results) is tuple
        for result, member in zip(results, members, strict=True):
            torch.testing.assert_close(result, member(x))
        members[2].weight.mul_(2)
        torch.testing.assert_close(fast(x)[2], members[2](x))
    assert fast.report.groups[0].instances == 5


def test_script_module():
    model = models.make(models.Slices(6))
    x = torch.randn(3, 30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(model, (x,))
    fast = pfcn.compile(scripted, (x,))
    with torch.no_grad():
        for _ in range(3):
            torch.testing.assert_close(fast(x), scripted(x))
        assert hits(fast) >= 1
        next(scripted.parameters()).mul_(3)
        torch.testing.assert_close(fast(x), scripted(x))
        weight = nn.Parameter(torch.randn(4, 5))
        getattr(getattr(scripted.models, "0"), "0").weight = weight
        torch.testing.assert_close(fast(x), scripted(x))


def test_compiling_a_compiled_model():
    model = models.make(models.Slices(4))
    x = torch.randn(2, 20)
    first = pfcn.compile(model, (x,))
    second = pfcn.compile(first, (x,))
    with torch.no_grad():
        for _ in range(3):
            torch.testing.assert_close(first(x), model(x))
            torch.testing.assert_close(second(x), model(x))
        assert not first.report.copies and not second.report.copies


# --- Options and the report ----------------------------------------------------------------------


def test_report():
    model = models.make(models.Slices(12))
    report = pfcn.compile(model, (torch.randn(4, 60),)).report
    (group,) = report.groups
    assert group.instances == 12
    assert group.ops == ["pfcn.linear", "pfcn.tanh", "pfcn.linear"]
    assert len(group.operands) == 5
    assert len(group.kernels) == report.launches == 1
    assert "equal up to their weights" in group.reason
    assert group.declined == ""
    assert report.compile_seconds > 0
    assert report.compile_seconds == pytest.approx(sum(report.phase_seconds.values()))
    as_dict = report.to_dict()
    assert as_dict["groups"][0]["instances"] == 12
    assert as_dict["groups"][0]["operators"] == 36
    assert as_dict["launches"] == 1
    assert "12 instances in 1 groups" in str(report)
    assert group.name in str(report)


def test_kernels_have_names_in_the_profiler():
    fast = pfcn.compile(models.make(models.Slices(12)), (torch.randn(4, 60),))
    with torch.no_grad(), torch.profiler.profile() as profile:
        fast(torch.randn(4, 60))
    assert fast.report.groups[0].kernels[0] in {event.name for event in profile.events()}


def test_kernels_have_names_in_perf(monkeypatch):
    """A sampled address lies between the beginning and the end of a line of the process' map."""
    path = Path(f"/tmp/perf-{os.getpid()}.map")
    path.unlink(missing_ok=True)
    try:
        pfcn.compile(models.make(models.Slices(12)), (torch.randn(4, 60),))
        assert not path.exists()
        monkeypatch.setenv("PFCN_PERF", "1")
        fast = pfcn.compile(models.make(models.Slices(13)), (torch.randn(4, 65),))
        lines = [line.split(" ") for line in path.read_text().splitlines()]
        sizes = {name: int(size, 16) for _, size, name in lines}
        assert sizes[fast.report.groups[0].kernels[0]] > 0
    finally:
        path.unlink(missing_ok=True)


def test_picture(tmp_path):
    model = models.make(models.Slices(1000))
    report = pfcn.explain(model, (torch.randn(4, 5000),))
    report.to_svg(tmp_path / "report.svg")
    svg = (tmp_path / "report.svg").read_text()
    assert svg.count("× 1000") == 2  # a box, and the edge to it
    assert "tanh" in svg and report.groups[0].name in svg
    assert len(svg) < 20_000
    page = report._repr_html_()
    assert "<svg" in page and "1000 instances in 1 groups" in page


def test_picture_without_graphviz(tmp_path, monkeypatch):
    report = pfcn.explain(models.make(models.Slices(4)), (torch.randn(2, 20),))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pfcn.Error, match="apt-get install graphviz"):
        report.to_svg(tmp_path / "report.svg")
    assert not (tmp_path / "report.svg").exists()
    assert "4 instances" in report._repr_html_()


def test_explain_from_the_shell(tmp_path, capsys):
    scripted = torch.jit.trace(models.make(models.Slices(6)), torch.randn(2, 30))
    scripted.save(tmp_path / "model.pt")
    command = ["explain", str(tmp_path / "model.pt"), "--input-shapes=?x30xf32"]
    assert shell.main(command) == 0
    assert "6 instances in 1 groups" in capsys.readouterr().out
    assert shell.main([*command, "--json", "--svg", str(tmp_path / "model.svg")]) == 0
    assert json.loads(capsys.readouterr().out)["groups"][0]["instances"] == 6
    assert "× 6" in (tmp_path / "model.svg").read_text()


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ("2x30xf33", "'2x30xf33' is no shape"),
        ("x3f32", "is no shape"),
        ("2x3xf32", "mat1 and mat2 shapes"),
    ],
)
def test_explain_from_the_shell_says_what_is_wrong(tmp_path, capsys, shapes, says):
    scripted = torch.jit.trace(models.make(models.Slices(6)), torch.randn(2, 30))
    scripted.save(tmp_path / "model.pt")
    assert shell.main(["explain", str(tmp_path / "model.pt"), f"--input-shapes={shapes}"]) == 1
    assert says in capsys.readouterr().err
    assert shell.main(["explain", str(tmp_path / "none.pt"), "--input-shapes=2xf32"]) == 1
    assert "there is no file" in capsys.readouterr().err


def test_dry_run_leaves_the_model_alone():
    model = models.make(models.Slices(4))
    before = [p.data_ptr() for p in model.parameters()]
    report = pfcn.compile(model, (torch.randn(2, 20),), dry_run=True)
    assert isinstance(report, pfcn.Report)
    assert report.groups[0].instances == 4
    assert before == [p.data_ptr() for p in model.parameters()]
    with pytest.raises(pfcn.InputError, match="example_inputs"):
        pfcn.compile(model, dry_run=True)


def test_strict():
    with pytest.raises(pfcn.FusionError, match="nothing was fused"):
        pfcn.compile(nn.Linear(3, 2), (torch.randn(4, 3),), strict=True)
    pfcn.compile(models.make(models.Slices(4)), (torch.randn(2, 20),), strict=True)
    late = pfcn.compile(nn.Linear(3, 2), strict=True)
    with torch.no_grad(), pytest.raises(pfcn.FusionError):
        late(torch.randn(4, 3))


def test_on_error(monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("a pass fell over")

    model = models.make(models.Slices(4))
    x = torch.randn(2, 20)
    monkeypatch.setattr(_C, "compile", fail)
    with pytest.raises(pfcn.CompileError, match="a pass fell over"):
        pfcn.compile(model, (x,))
    with pytest.warns(UserWarning, match="a pass fell over"):
        fast = pfcn.compile(model, (x,), on_error="eager")
    with torch.no_grad():
        torch.testing.assert_close(fast(x), model(x))
    assert "a pass fell over" in fast.report.eager


def test_disabled(monkeypatch):
    monkeypatch.setenv("PFCN_DISABLE", "1")
    model = models.make(models.Slices(4))
    x = torch.randn(2, 20)
    fast = pfcn.compile(model, (x,), strict=True)
    with torch.no_grad():
        torch.testing.assert_close(fast(x), model(x), rtol=0, atol=0)
    assert hits(fast) == 0
    assert fast.report.plans == 0
    assert "PFCN_DISABLE" in fast.report.eager


def test_log(monkeypatch, capsys):
    monkeypatch.setenv("PFCN_LOG", "fusion,plan,ir")
    pfcn.compile(models.make(models.Slices(4)), (torch.randn(2, 20),))
    told = capsys.readouterr().err
    assert "4 instances in 1 groups" in told
    assert "step 0: " in told
    assert "pfcn.kernel" in told and "pfcn.launch" in told


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((3,), {}, TypeError, "not int"),
        (([nn.Linear(1, 1), 3],), {}, pfcn.InputError, "not list"),
        ((nn.Linear(1, 1), "x"), {}, TypeError, "not str"),
        ((nn.Linear(1, 1),), {"device": "cuda"}, pfcn.Error, "cuda"),
        ((nn.Linear(1, 1),), {"on_error": "ignore"}, ValueError, "on_error"),
    ],
)
def test_wrong_options(arguments, options, error, message):
    with pytest.raises(error, match=message) as raised:
        pfcn.compile(*arguments, **options)
    assert isinstance(raised.value, pfcn.Error)


def test_assert_matches_finds_differences(monkeypatch):
    model = models.make(models.Slices(4))
    x = torch.randn(2, 20)
    true_run = pfcn.Compiled.__call__
    monkeypatch.setattr(pfcn.Compiled, "__call__", lambda self, *args: true_run(self, *args) + 1e-3)
    with pytest.raises(AssertionError, match="result 0"):
        assert_matches(model, (x,))
    assert_matches(model, (x,), rtol=0, atol=1e-2)
    monkeypatch.setattr(
        pfcn.Compiled, "__call__", lambda self, *args: true_run(self, *args).T.contiguous().T
    )
    with pytest.raises(AssertionError, match="strides"):
        assert_matches(model, (x,))
