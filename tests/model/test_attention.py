"""The written-out attention of training gives what masked attention gives, forwards and backwards."""

import torch
from torch.nn import functional as F

from engine.model.attention import two_streams


def test_two_streams_equal_masked_attention_and_its_gradient() -> None:
    frames, length, n, e = 5, 3, 4, 16
    random = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(2, 3, (frames + length) * n, e, generator=random, requires_grad=True) for _ in range(3))
    frame = torch.arange(frames + length).repeat_interleave(n)
    row, column = frame[:, None], frame[None]
    clean = (row < frames) & (column <= row)
    noisy = (row >= frames) & ((column < row - length) | (column == row))
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=clean | noisy)
    out = two_streams(q, k, v, frames, n)
    torch.testing.assert_close(out, expected)
    weight = torch.randn(out.shape, generator=random)
    for a, b in zip(
        torch.autograd.grad((out * weight).sum(), (q, k, v)),
        torch.autograd.grad((expected * weight).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_folded_keys_reach_every_token_of_both_streams_with_their_gradient() -> None:
    frames, length, n, e, prefix = 4, 3, 4, 16, 10
    random = torch.Generator().manual_seed(3)
    q = torch.randn(2, 3, (frames + length) * n, e, generator=random, requires_grad=True)
    k, v = (torch.randn(2, 3, prefix + q.shape[2], e, generator=random, requires_grad=True) for _ in range(2))
    frame = torch.arange(frames + length).repeat_interleave(n)
    row, column = frame[:, None], frame[None]
    clean = (row < frames) & (column <= row)
    noisy = (row >= frames) & ((column < row - length) | (column == row))
    mask = torch.cat((torch.ones(len(frame), prefix, dtype=torch.bool), clean | noisy), 1)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    out = two_streams(q, k, v, frames, n)
    torch.testing.assert_close(out, expected)
    weight = torch.randn(out.shape, generator=random)
    for a, b in zip(
        torch.autograd.grad((out * weight).sum(), (q, k, v)),
        torch.autograd.grad((expected * weight).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
