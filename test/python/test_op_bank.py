"""Banks of each pointwise operator, reduction and product of torch's `op_db` against eager.

A sample of them, or all samples in all types with PFCN_OP_DB=all.
"""

from __future__ import annotations

import os

import op_bank
import pytest
import torch

ALL = os.environ.get("PFCN_OP_DB") == "all"
DTYPES = [torch.float32, torch.bfloat16, torch.int64]
MORE_DTYPES = [torch.float64, torch.float16, torch.int8, torch.int32, torch.uint8, torch.bool]


@pytest.mark.parametrize("name", sorted(op_bank.OPS))
def test_operator(name):
    """No wrong result, and no exception that eager does not raise."""
    row = op_bank.run_op(name, DTYPES + (MORE_DTYPES if ALL else []), None if ALL else 1)
    assert not row.errors, "\n".join(row.errors)


def test_fused():
    """What the dialect has ops for, or is composed of them, becomes one kernel."""
    names = """exp tan sinc logit floor_divide remainder logical_and isfinite clamp lerp where
        masked_fill sum mean amax any all argmax var_mean linalg.vector_norm logsumexp cumsum
        softmax nn.functional.huber_loss nn.functional.rms_norm einsum outer addmv mv bmm
        nn.functional.bilinear""".split()
    rows = [op_bank.run_op(name, [torch.float32], 2) for name in names]
    left = {row.name: row.reasons for row in rows if row.fused == 0}
    assert not left
