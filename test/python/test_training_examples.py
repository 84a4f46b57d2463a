"""Every model of examples/ trains as in eager: gradients of all parameters and all inputs."""

import copy
import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from test_training import loss_of
from torch.utils import _pytree as pytree

import pfcn

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
BANKS = [path for path in EXAMPLES if "def make()" in path.read_text()]


def load(path):
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def gradients(model, inputs):
    leaves, spec = pytree.tree_flatten(inputs)
    leaves = [leaf.detach().clone() for leaf in leaves]
    for leaf in leaves:
        leaf.requires_grad_(leaf.is_floating_point())
    model.zero_grad()
    loss_of(pytree.tree_leaves(model(*pytree.tree_unflatten(leaves, spec)))).backward()
    tensors = {**dict(model.named_parameters()), **dict(enumerate(leaves))}
    return {name: None if t.grad is None else t.grad.clone() for name, t in tensors.items()}


@pytest.mark.parametrize("path", BANKS, ids=lambda path: path.stem)
def test_gradients(path):
    torch.manual_seed(0)
    example = load(path)
    model = example.make().double()
    plain, fast = copy.deepcopy(model), pfcn.compile(model)
    for batch in (3, 5):
        inputs = pytree.tree_map(
            lambda x: x.double() if x.is_floating_point() else x, example.inputs(batch)
        )
        torch.testing.assert_close(gradients(fast, inputs), gradients(plain, inputs))
    assert fast.report.eager == "" and fast.report.tracked_calls == 0, fast.report
    assert fast.report.groups


def test_there_are_examples():
    assert len(BANKS) >= 12
