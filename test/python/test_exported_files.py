"""Archives of torch.export read by pfcn-opt, without torch: the module that it prints, run with the
program's weights, is eager's; and what is damaged is told in one line."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import models
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.export import Dim, export, save

from pfcn import _C

ROOT = Path(__file__).parents[2]
PFCN_OPT = ROOT / "build" / "bin" / "pfcn-opt"
HEADS = ROOT / "test" / "Import" / "Inputs" / "heads.pt2"


def pfcn_opt(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run([PFCN_OPT, *map(str, arguments)], capture_output=True, text=True)


def assert_reads_alike(model, args, tmp_path, dynamic_shapes=None, others=(), flags=()):
    """The module of the archive computes what the model does, for `args` and for `others`."""
    program = export(model, args, dynamic_shapes=dynamic_shapes)
    for name in ("training", "decomposed"):
        if name == "decomposed":
            program = program.run_decompositions()
        save(program, tmp_path / f"{name}.pt2")
        result = pfcn_opt(tmp_path / f"{name}.pt2", *flags)
        assert result.returncode == 0, result.stderr
        tensors = {**program.state_dict, **program.constants}
        tensors = {key: value.detach() for key, value in tensors.items()}
        module = _C.parse(result.stdout, tensors)
        bound = _C.BoundPlan(_C.compile(module).plan, tensors, _C.Weights())
        for inputs in (args, *others):
            with torch.no_grad():
                wanted = torch.utils._pytree.tree_leaves(model(*inputs))
                got = bound.run(torch.utils._pytree.tree_leaves(inputs))
            torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize(
    "kind", [models.Slices, models.Columns, models.OneByOne, models.TwoClasses]
)
def test_banks(kind, tmp_path):
    model = models.make(kind(4))
    width = 24 if kind is models.TwoClasses else 20
    shapes = ({0: Dim("batch", max=4096)},)
    others = [(torch.randn(batch, width),) for batch in (2, 15, 17)]
    assert_reads_alike(model, (torch.randn(4, width),), tmp_path, shapes, others)


class Many(nn.Module):
    """Arguments of every kind: defaults, keywords, lists, numbers, None, types, reshapes."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.conv = nn.Conv1d(2, 3, 2, padding=1, dilation=2)
        self.table = nn.Embedding(5, 6)
        self.register_buffer("large", torch.randn(12, 12), persistent=False)
        self.number = 3

    def forward(self, x, index):
        y = self.norm(x) + self.table(index).mean(1, keepdim=True).squeeze(1)
        z = self.conv(x.reshape(-1, 2, 3)).flatten(1)
        y = torch.where(y > 0.25, y, y.clamp(min=-0.5)).to(torch.float64) * self.number
        parts = y.split([2, 4], dim=-1)
        w = torch.cat(
            [F.pad(parts[0], (1, 0), value=2.5), F.gelu(parts[1], approximate="tanh")], -1
        )
        scores = torch.softmax(w @ w.mT, dim=-1)
        return {"w": w.sum(), "s": (scores, z), "t": x @ self.large[:6, :6], "n": x.new_ones(2)}


def test_arguments_of_every_kind(tmp_path):
    batch = Dim("batch", max=4096)
    others = [(torch.randn(n, 6), torch.randint(5, (n, 3))) for n in (2, 9)]
    args = (torch.randn(4, 6), torch.randint(5, (4, 3)))
    assert_reads_alike(Many().eval(), args, tmp_path, ({0: batch}, {0: batch}), others)


class Sizes(nn.Module):
    def forward(self, x):
        n, k = x.shape
        y = x.reshape(n * k).view(n, k)
        return y[: n - 1].sum(0), x.flatten(), torch.cat([x, x], 0)


SIZES = ({0: Dim("n", min=4), 1: Dim("k", min=2)},)


def test_sizes(tmp_path):
    """What does not follow from the inputs' sizes alone takes given sizes."""
    program = export(Sizes(), (torch.randn(4, 6),), dynamic_shapes=SIZES)
    save(program, tmp_path / "sizes.pt2")
    result = pfcn_opt(tmp_path / "sizes.pt2")
    assert result.returncode == 1
    assert "give --input-shapes without ?" in result.stderr
    assert_reads_alike(Sizes(), (torch.randn(4, 6),), tmp_path, SIZES,
                       flags=["--input-shapes=4x6xf32"])  # fmt: skip


def test_in_place_is_told(tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True))
    program = export(model, (torch.randn(2, 3),))
    save(program, tmp_path / "a.pt2")
    result = pfcn_opt(tmp_path / "a.pt2")
    assert "aten::relu_ writes to its arguments" in result.stderr
    save(program.run_decompositions({}), tmp_path / "b.pt2")
    assert pfcn_opt(tmp_path / "b.pt2").returncode == 0


def test_statistics_and_dropout_in_training(tmp_path):
    norm = nn.BatchNorm1d(3).train()
    norm.num_batches_tracked = None  # which is counted in place
    save(export(norm, (torch.randn(2, 3),)), tmp_path / "a.pt2")
    assert "model.eval()" in pfcn_opt(tmp_path / "a.pt2").stderr
    save(export(nn.Dropout().train(), (torch.randn(2, 3),)), tmp_path / "b.pt2")
    assert 'pfcn.opaque "aten::dropout"' in pfcn_opt(tmp_path / "b.pt2").stdout
    save(export(nn.Dropout().eval(), (torch.randn(2, 3),)), tmp_path / "c.pt2")
    assert "dropout" not in pfcn_opt(tmp_path / "c.pt2").stdout


def test_thousand_are_one_kernel(tmp_path):
    save(export(models.make(models.Slices(1000)), (torch.randn(2, 5000),)), tmp_path / "a.pt2")
    text = pfcn_opt(tmp_path / "a.pt2", "--pfcn-pipeline-cpu").stdout
    assert text.count("pfcn.launch ") == 1
    assert "count 1000" in text


@pytest.mark.parametrize("seed", range(20))
def test_damaged_archives(seed, tmp_path):
    """Cut short, or with bytes changed: one line, or a module where nobody reads what changed."""
    rng, data = random.Random(seed), bytearray(HEADS.read_bytes())
    if seed % 2:
        del data[rng.randrange(len(data)) :]
    for _ in range(rng.choice([1, 3, 50])):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
    (tmp_path / "a.pt2").write_bytes(data)
    result = pfcn_opt(tmp_path / "a.pt2")
    assert result.returncode in (0, 1), result.stderr
    if result.returncode:
        assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


def test_schemas_are_those_of_torch():
    script = ROOT / "tools" / "dev" / "aten_schemas.py"
    written = subprocess.run([sys.executable, script], capture_output=True, text=True).stdout
    kept = (ROOT / "lib" / "Import" / "Standalone" / "AtenSchemas.inc").read_text()
    assert written == kept, "run tools/dev/aten_schemas.py"
