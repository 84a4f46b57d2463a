"""Results of torch.compile that were wrong once."""

import pytest
import torch

import pfcn  # noqa: F401 - the backend


def views_of_input(x):
    return x[:, :, 0:1].unflatten(2, (1, 1)).select(3, 0), x.transpose(0, 2)[1:], x * 2


def views_of_result(x):
    h = x.sin() + 1
    return h, h[:, :, 1], h.transpose(0, 1)[:, 1:]


def views_of_intermediate(x):
    h = x.sin() + 1
    return h[:, :, 1:], h.transpose(0, 1)[:, 1:]


def view_of_written(x):
    h = x * 2
    x.mul_(3)
    return x[:, :, 1:], h[1:]


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize(
    "function", [views_of_input, views_of_result, views_of_intermediate, view_of_written]
)
def test_views_where_sizes_vary(function, grad):
    """AOTAutograd made views of inputs anew with the strides of a tensor that was none."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    fast = torch.compile(function, backend="pfcn")
    for size in (2, 3, 2, 4, 2):
        x = torch.randn(size, 3, 2)
        ours, theirs = (x.clone().requires_grad_(grad) for _ in range(2))
        given = [t * 1 if function is view_of_written else t for t in (ours, theirs)]
        actual, expected = fast(given[0]), function(given[1])
        torch.testing.assert_close(actual, expected)
        torch.testing.assert_close(*given)
        if function is views_of_input:
            assert [t.stride() for t in actual] == [t.stride() for t in expected]
            assert actual[0].untyped_storage().data_ptr() == ours.untyped_storage().data_ptr()
        if grad:
            for results in (actual, expected):
                sum((t * (i + 1)).square().sum() for i, t in enumerate(results)).backward()
            torch.testing.assert_close(ours.grad, theirs.grad)
