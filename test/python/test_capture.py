"""Recording a forward: the IR it becomes, what is refused, and what is left as it was."""

import pytest
import torch
from torch import nn

from pfcn import capture
from pfcn.bench.seed import ParallelFCN
from pfcn.capture import CaptureError, matches, record, unify


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


class Forward(nn.Module):
    """A module of the given forward."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.call = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args, **kwargs):
        return self.call(self, *args, **kwargs)


def text(forward, *inputs, **parts):
    return record(Forward(forward, **parts), inputs).model.text()


def test_the_seed_model():
    capture = record(ParallelFCN(2), (torch.rand(3, 40),))
    assert capture.model.text().splitlines()[2:6] == [
        "    %0 = pfcn.slice %arg0 dim 1 from 0 to 20 : tensor<3x40xf32> -> tensor<3x20xf32>",
        '    %1 = pfcn.parameter "models.0.0.weight" : tensor<10x20xf32>',
        '    %2 = pfcn.parameter "models.0.0.bias" : tensor<10xf32>',
        "    %3 = pfcn.linear %0, %1, %2 : tensor<3x20xf32>, tensor<10x20xf32>, tensor<10xf32> ->"
        " tensor<3x10xf32>",
    ]
    assert "opaque" not in capture.model.text()
    assert capture.model.tensors["models.1.0.weight"] is not None
    assert len(capture.model.tensor_names) == 8


def test_locations_name_the_module_and_the_users_line():
    capture = record(ParallelFCN(2), (torch.rand(3, 40),))
    places = dict.fromkeys(place for _, place in capture.tape.calls)
    assert [p.split(" ")[0] for p in places][:3] == [
        next(iter(places)).split(" ")[0], "models.0.0", "models.0.1",
    ]  # fmt: skip
    assert all("bench/seed.py:" in place for place in places)
    assert 'loc("models.0.1"(' in capture.model.text(locations=True)


def test_the_model_keeps_the_live_parameters():
    model = ParallelFCN(1)
    tensors = record(model, (torch.rand(1, 20),)).model.tensors
    assert tensors["models.0.0.weight"].data_ptr() == model.models[0][0].weight.data_ptr()


def test_a_scalar_operand_takes_the_type_of_the_result():
    assert "dense<5.000000e-01> : tensor<f64>" in text(
        lambda self, x: x * 0.5, torch.rand(2, dtype=torch.float64)
    )


class Traps:
    """What depends on a size or on data."""

    item = lambda self, x: x * x.sum().item()
    truth = lambda self, x: x if x.sum() > 0 else -x
    numpy = lambda self, x: x * float(x.detach().numpy().sum())
    tolist = lambda self, x: x * x.tolist()[0][0]


@pytest.mark.parametrize(
    "trap, reason",
    [("item", "item"), ("truth", "__bool__"), ("numpy", "numpy"), ("tolist", "tolist")],
)
def test_data_that_leaves_the_tensors_is_refused(trap, reason):
    with pytest.raises(CaptureError, match=reason) as error:
        text(getattr(Traps, trap), torch.rand(2, 3))
    assert "test_capture.py:" in error.value.where
    assert error.value.remedy


def test_recordings_of_two_sizes_become_a_general_one():
    model = ParallelFCN(2)
    a, b, c = (record(model, (torch.rand(batch, 40),)) for batch in (3, 5, 7))
    general = unify(a, b)
    assert "pfcn.linear %0, %1, %2 : tensor<?x20xf32>" in general.model.text()
    assert matches(general, c)
    assert not matches(general, record(model, (torch.rand(1, 40),)))
    assert not matches(general, record(ParallelFCN(3), (torch.rand(7, 60),)))


@pytest.mark.parametrize("grad", [False, True])
def test_random_state_and_gradients_are_left_alone(grad):
    model = Forward(
        lambda self, x: self.drop(self.linear(x)), linear=nn.Linear(3, 3), drop=nn.Dropout()
    )
    state = torch.get_rng_state()
    with torch.set_grad_enabled(grad):
        capture_text = record(model, (torch.rand(2, 3),)).model.text()
    x = torch.rand(2, 3)
    torch.set_rng_state(state)
    torch.rand(2, 3)
    assert torch.equal(torch.rand(2, 3), x)
    assert model.linear.weight.grad is None
    assert 'pfcn.opaque "aten::dropout"' in capture_text and " random " in capture_text


def test_recording_ends_after_an_error_of_the_model():
    def fail(self, x):
        raise ValueError("the model's own")

    with pytest.raises(ValueError, match="the model's own"):
        text(fail, torch.rand(2))
    assert capture.record(ParallelFCN(1), (torch.rand(1, 20),)).model.text()


def test_small_operators_run_on_one_thread():
    """A fork and join for each step of an LSTM takes seconds where others use the machine."""
    seen = []
    with torch.library._scoped_library("pfcn_test", "FRAGMENT") as library:
        library.define("look(Tensor x, Tensor y) -> Tensor")

        def look(x, y):
            seen.append(torch.get_num_threads())
            if x.numel() == 0:
                raise RuntimeError("nothing to see")
            return x + y

        library.impl("look", look, "CPU")
        before = torch.get_num_threads()
        torch.set_num_threads(3)
        try:
            with torch.no_grad():
                call = Forward(lambda self, x, y: torch.ops.pfcn_test.look(x, y))
                record(call, (torch.ones(8), torch.ones(8)))
                record(call, (torch.ones(8), torch.ones(300, 300, 8)))
                with pytest.raises(RuntimeError, match="nothing to see"):
                    record(call, (torch.ones(0), torch.ones(0)))
            assert seen == [1, 3, 1]
            assert torch.get_num_threads() == 3
        finally:
            torch.set_num_threads(before)
