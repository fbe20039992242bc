"""Attention for training: a clean stream and a noisy stream over one clip, computing nothing that is masked.

A dense mask would throw away more than half of the products, and PyTorch's masked attention on a CPU runs at a
third of its plain matrix products' rate. So the forward and backward passes are written out, frame by frame, as
two opaque operators that `torch.compile` leaves alone.
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.library.custom_op("loci::two_streams_forward", mutates_args=())
def _forward(q: Tensor, k: Tensor, v: Tensor, frames: int, tokens: int) -> tuple[Tensor, Tensor]:
    """Returns the output, (B, H, T, E), and all attention weights, flat, in the order of frames."""
    n, first = (
        tokens,
        2 * frames - q.shape[2] // tokens,
    )  # `first`: the context frame that noisy frame 0 stands for
    prefix = k.shape[2] - q.shape[2]
    q = q * q.shape[-1] ** -0.5
    out = torch.empty_like(q)
    kept = []
    for i in range(frames):
        here, seen = slice(i * n, (i + 1) * n), prefix + (i + 1) * n
        keys, values = k[:, :, :seen], v[:, :, :seen]
        weights = torch.softmax(q[:, :, here] @ keys.transpose(-1, -2), -1)
        out[:, :, here] = weights @ values
        kept.append(weights.flatten())
        if i >= first:
            row = slice((frames + i - first) * n, (frames + i - first + 1) * n)
            own, past = slice(prefix + row.start, prefix + row.stop), slice(0, seen - n)
            mine = q[:, :, row]
            scores = torch.cat(
                (mine @ k[:, :, past].transpose(-1, -2), mine @ k[:, :, own].transpose(-1, -2)),
                -1,
            )
            weights = torch.softmax(scores, -1)
            out[:, :, row] = weights[..., past] @ v[:, :, past] + weights[..., seen - n :] @ v[:, :, own]
            kept.append(weights.flatten())
    return out, torch.cat(kept)


@_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, frames: int, tokens: int) -> tuple[Tensor, Tensor]:
    length, prefix = q.shape[2] // tokens - frames, k.shape[2] - q.shape[2]
    first = frames - length
    pairs = frames * (frames + 1) // 2 + sum(i + 1 for i in range(first, frames))
    width = tokens * pairs + prefix * (frames + length)
    return torch.empty_like(q), v.new_empty(q.shape[0] * q.shape[1] * tokens * width)


@torch.library.custom_op("loci::two_streams_backward", mutates_args=())
def _backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, weights: Tensor, frames: int, tokens: int
) -> tuple[Tensor, Tensor, Tensor]:
    b, h, _, e = q.shape
    n, first, prefix = tokens, 2 * frames - q.shape[2] // tokens, k.shape[2] - q.shape[2]
    scale = e**-0.5
    dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
    at = 0

    def take(width: int) -> Tensor:
        nonlocal at
        size = b * h * n * width
        at += size
        return weights[at - size : at].view(b, h, n, width)

    def through_softmax(p: Tensor, dp: Tensor) -> Tensor:
        return p * (dp - (p * dp).sum(-1, keepdim=True)) * scale

    for i in range(frames):
        here, width = slice(i * n, (i + 1) * n), prefix + (i + 1) * n
        seen, past = slice(0, width), slice(0, width - n)
        p = take(width)
        g = grad[:, :, here]
        ds = through_softmax(p, g @ v[:, :, seen].transpose(-1, -2))
        dq[:, :, here] = ds @ k[:, :, seen]
        dk[:, :, seen] += ds.transpose(-1, -2) @ q[:, :, here]
        dv[:, :, seen] += p.transpose(-1, -2) @ g
        if i >= first:
            row = slice((frames + i - first) * n, (frames + i - first + 1) * n)
            own = slice(prefix + row.start, prefix + row.stop)
            p = take(width)
            g = grad[:, :, row]
            dp = torch.cat((g @ v[:, :, past].transpose(-1, -2), g @ v[:, :, own].transpose(-1, -2)), -1)
            ds = through_softmax(p, dp)
            ds_past, ds_own = ds[..., past], ds[..., width - n :]
            dq[:, :, row] = ds_past @ k[:, :, past] + ds_own @ k[:, :, own]
            dk[:, :, past] += ds_past.transpose(-1, -2) @ q[:, :, row]
            dk[:, :, own] = ds_own.transpose(-1, -2) @ q[:, :, row]
            dv[:, :, past] += p[..., past].transpose(-1, -2) @ g
            dv[:, :, own] = p[..., width - n :].transpose(-1, -2) @ g
    return dq, dk, dv


@_backward.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, weights: Tensor, frames: int, tokens: int
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _setup(ctx, inputs, output) -> None:
    q, k, v, ctx.frames, ctx.tokens = inputs
    ctx.save_for_backward(q, k, v, output[1])


def _grad(ctx, grad: Tensor, _: Tensor | None):
    q, k, v, weights = ctx.saved_tensors
    dq, dk, dv = _backward(grad.contiguous(), q, k, v, weights, ctx.frames, ctx.tokens)
    return dq, dk, dv, None, None


_forward.register_autograd(_grad, setup_context=_setup)


def two_streams(q: Tensor, k: Tensor, v: Tensor, frames: int, tokens: int) -> Tensor:
    """Attention of `frames` context frames and L noisy ones.

    Context frame i sees context frames 0..i. Noisy frame j, which stands for context frame i = frames - L + j,
    sees context frames 0..i-1 and itself. q: (B, heads, (frames + L) * tokens, head_dim), context first. k, v: the
    same, after any number of tokens that everybody sees (folded memory).
    """
    q, k = q.to(v.dtype), k.to(v.dtype)
    return _forward(q.contiguous(), k.contiguous(), v.contiguous(), frames, tokens)[0]
