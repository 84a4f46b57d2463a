"""The fast path of a TransformerEncoder gives zeros for padding: such calls stay in eager."""

import torch
from torch import nn

import pfcn


def test_an_encoder_with_a_padding_mask_is_left_to_eager():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    model = nn.TransformerEncoder(layer, 1).eval()
    x, mask = torch.randn(2, 3, 4), torch.tensor([[False, False, True]] * 2)
    fast = pfcn.compile(model)
    with torch.no_grad():
        expected = model(x, src_key_padding_mask=mask)
        assert not expected[:, 2].any()
        torch.testing.assert_close(fast(x, src_key_padding_mask=mask), expected)
        assert "src_key_padding_mask" in fast.report.eager
        torch.testing.assert_close(pfcn.compile(model)(x, None, mask), expected)
