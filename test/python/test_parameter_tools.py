"""What torch and others do with parameters does the same to those of a compiled model."""

import copy
import io
import pickle

import models
import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import pfcn

N = 12


class Pair:
    """A compiled model, whose parameters lie in homes, and its twin in eager."""

    def __init__(self, seed=0):
        self.plain = models.make(models.Slices(N), seed=seed)
        self.model = copy.deepcopy(self.plain)
        self.x = torch.randn(3, 5 * N, generator=torch.Generator().manual_seed(1))
        self.fast = pfcn.compile(self.model, (self.x,))
        with torch.no_grad():
            self.fast(self.x)
        assert not self.fast.report.copies

    def both(self):
        return self.fast, self.plain

    def train(self, optimizers, steps=3):
        for _ in range(steps):
            for module, optimizer in zip(self.both(), optimizers, strict=True):
                optimizer.zero_grad()
                module(self.x).square().mean().backward()
                optimizer.step()
        self.check()

    def check(self):
        for ours, theirs in zip(self.model.parameters(), self.plain.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs)
        with torch.no_grad():
            for _ in range(2):
                torch.testing.assert_close(self.fast(self.x), self.plain(self.x))


@pytest.fixture
def pair():
    return Pair()


def saved_size(thing):
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return len(buffer.getvalue())


def test_files_are_as_large_as_the_plain_model_s(pair):
    ours, theirs = pair.both()
    assert saved_size(ours.state_dict()) <= 1.01 * saved_size(theirs.state_dict())
    assert saved_size(pair.model) <= 1.01 * saved_size(theirs)
    member, other = pair.model.models[3], theirs.models[3]
    assert saved_size(member.state_dict()) <= 1.01 * saved_size(other.state_dict())
    assert len(pickle.dumps(member)) <= 1.01 * len(pickle.dumps(other))
    assert len(pickle.dumps(pair.model)) <= 1.01 * len(pickle.dumps(theirs))


def test_safetensors(pair, tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(pair.fast.state_dict(), path)
    fresh = models.make(models.Slices(N), seed=7)
    fresh.load_state_dict(safetensors.torch.load_file(path))
    with torch.no_grad():
        torch.testing.assert_close(fresh(pair.x), pair.fast(pair.x))
    other = models.make(models.Slices(N), seed=8)
    safetensors.torch.save_model(other, str(path))
    safetensors.torch.load_model(pair.model, str(path))
    pair.plain.load_state_dict(other.state_dict())
    pair.check()


def test_copies_are_models_of_their_own(pair):
    twin = copy.deepcopy(pair.model)
    with torch.no_grad():
        pair.model.models[3][0].weight.zero_()
        torch.testing.assert_close(twin(pair.x), pair.plain(pair.x))
        for parameter in twin.parameters():
            parameter.fill_(0.1)
        pair.plain.models[3][0].weight.zero_()
    pair.check()


def test_vectors_of_parameters(pair):
    vector = parameters_to_vector(pair.fast.parameters())
    torch.testing.assert_close(vector, parameters_to_vector(pair.plain.parameters()))
    for module in pair.both():
        vector_to_parameters(vector * 0.5, module.parameters())
    pair.check()
    with torch.no_grad():
        vector.fill_(3.0)
    pair.check()


@pytest.mark.parametrize("kind", ["Adam", "SGD"])
def test_optimizer_state_of_the_plain_model(pair, kind):
    options = {"lr": 0.05, **({"momentum": 0.9} if kind == "SGD" else {})}
    make = getattr(torch.optim, kind)
    ours, theirs = (make(module.parameters(), **options) for module in pair.both())
    for _ in range(3):
        theirs.zero_grad()
        pair.plain(pair.x).square().mean().backward()
        theirs.step()
    pair.fast.load_state_dict(pair.plain.state_dict())
    ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    pair.train((ours, theirs))
    back = make(pair.plain.parameters(), **options)
    back.load_state_dict(copy.deepcopy(ours.state_dict()))
    pair.train((ours, back))


def test_weight_decay_groups(pair):
    def groups(module):
        named = list(module.named_parameters())
        return [
            {"params": [p for n, p in named if n.endswith("bias")], "weight_decay": 0.0},
            {"params": [p for n, p in named if n.endswith("weight")], "weight_decay": 0.3},
        ]

    pair.train([torch.optim.AdamW(groups(module), lr=0.05) for module in pair.both()])


def test_averaged_model(pair):
    average_of = get_ema_multi_avg_fn(0.5)
    averages = [AveragedModel(m, multi_avg_fn=average_of) for m in (pair.model, pair.plain)]
    optimizers = [torch.optim.SGD(module.parameters(), lr=0.1) for module in pair.both()]
    for _ in range(3):
        pair.train(optimizers, steps=1)
        for average, module in zip(averages, (pair.model, pair.plain), strict=True):
            average.update_parameters(module)
    with torch.no_grad():
        torch.testing.assert_close(*(average(pair.x) for average in averages))


def test_clipping(pair):
    for module in pair.both():
        (100 * module(pair.x)).square().mean().backward()
    norms = [nn.utils.clip_grad_norm_(module.parameters(), 0.1) for module in pair.both()]
    torch.testing.assert_close(*norms)
    for ours, theirs in zip(pair.model.parameters(), pair.plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_hooks_of_modules(pair):
    """A hook makes calls run in eager, which runs it, until it is gone."""
    calls = []
    handles = [
        module.models[3][0].register_forward_hook(lambda m, i, out: calls.append(1) or 2 * out)
        for module in (pair.model, pair.plain)
    ]
    pair.check()
    assert len(calls) == 4
    for handle in handles:
        handle.remove()
    pair.check()
    assert len(calls) == 4


class Dropping(models.Slices):
    def __init__(self, n):
        super().__init__(n)
        self.drops = nn.ModuleList(nn.Dropout(0.5) for _ in range(n))

    def forward(self, x):
        parts = zip(self.drops, self.models, x.chunk(len(self.models), 1), strict=True)
        return torch.cat([drop(m(p)) for drop, m, p in parts], 1)


def test_training_flags_of_submodules():
    model = models.make(Dropping(N))
    x = torch.randn(3, 5 * N)
    fast = pfcn.compile(model, (x,))
    with torch.no_grad():
        torch.testing.assert_close(fast(x), model(x))
        for change in (True, False):
            model.drops[3].training = change  # the attribute itself
            for _ in range(2):
                torch.manual_seed(5)
                expected = model(x)
                torch.manual_seed(5)
                torch.testing.assert_close(fast(x), expected)


class Scaled(torch.Tensor):
    """A subclass that does something of its own at each call."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        result = super().__torch_function__(func, types, args, kwargs)
        return result * 2 if func is nn.functional.linear else result


def test_parameters_of_a_subclass():
    model = models.make(models.Slices(N))
    layer = model.models[3][0]
    layer.weight = nn.Parameter(layer.weight.detach().as_subclass(Scaled))
    x = torch.randn(3, 5 * N)
    fast = pfcn.compile(model, (x,))
    for value in (None, 0.3):
        with torch.no_grad():
            if value is not None:
                layer.weight.fill_(value)
            for _ in range(2):
                result, expected = fast(x), model(x)
                torch.testing.assert_close(torch.Tensor(result), torch.Tensor(expected))
    assert "tensor subclass Scaled" in fast.report.eager


def test_parameters_that_dispatch_for_themselves():
    from torch.testing._internal.two_tensor import TwoTensor

    model = models.make(models.Slices(N))
    layer = model.models[3][0]
    data = layer.weight.detach()
    layer.weight = nn.Parameter(TwoTensor(data.clone(), data.clone()))
    x = torch.randn(3, 5 * N)
    fast = pfcn.compile(model, (x,))
    for scale in (1.0, 0.5):
        with torch.no_grad():
            layer.weight.mul_(scale)
            for _ in range(2):
                result, expected = fast(x), model(x)
                assert type(result) is type(expected) is TwoTensor
                torch.testing.assert_close(result.a, expected.a)
    assert "tensor subclass TwoTensor" in fast.report.eager


@pytest.fixture
def process_group(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_distributed_tensors():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = models.make(models.Slices(N))
    x = torch.randn(3, 5 * N)
    with torch.no_grad():
        expected = model(x)
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    fast = pfcn.compile(model)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(fast(x), expected)
    fast(x).square().mean().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert fast.report.eager, fast.report


@pytest.mark.usefixtures("process_group")
def test_data_parallel(pair):
    """DistributedDataParallel around the compiled model: hooks on each parameter's edge."""
    wrapped = nn.parallel.DistributedDataParallel(pair.fast)
    optimizers = [torch.optim.SGD(module.parameters(), lr=0.1) for module in pair.both()]
    for _ in range(3):
        for module, optimizer in zip((wrapped, pair.plain), optimizers, strict=True):
            optimizer.zero_grad()
            module(pair.x).square().mean().backward()
            optimizer.step()
    pair.check()


def write(parameter, value):
    with torch.no_grad():
        parameter.fill_(value)


def test_another_process_writes():
    """Hogwild: parameters in shared memory, which another process updates, are read in place."""
    model = models.make(models.Slices(N))
    model.share_memory()
    x = torch.randn(3, 5 * N)
    fast = pfcn.compile(model, (x,))
    assert any("shared" in line for line in fast.report.copies)
    for value in (0.5, -0.25):
        worker = torch.multiprocessing.get_context("spawn").Process(
            target=write, args=(model.models[3][0].weight, value)
        )
        worker.start()
        worker.join()
        assert worker.exitcode == 0
        assert model.models[3][0].weight[0, 0] == value
        with torch.no_grad():
            torch.testing.assert_close(fast(x), model(x))
