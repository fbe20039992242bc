"""The codec: principal components, exact where they can be, and never out of range."""

import pytest
import torch

from engine.model.codec import Codec, CodecConfig


def fitted(channels: int, frames: torch.Tensor) -> Codec:
    codec = Codec(CodecConfig(32, 48, 16, channels, deblock=8))
    x = codec.patches(frames).reshape(-1, 768)
    codec.fit(torch.cov(x.T, correction=0), x.mean(0))
    return codec.eval().requires_grad_(False)


def some_frames(count: int = 40) -> torch.Tensor:
    """Smooth pictures: a few sinusoids each."""
    random = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(48.0), indexing="ij")
    a, b, c = torch.rand(3, count, 3, 1, 1, generator=random)
    picture = 127 + 60 * torch.sin(a * y / 3 + 6 * c) + 60 * torch.cos(b * x / 3)
    return picture.round().to(torch.uint8).movedim(1, -1).contiguous()


def test_all_components_reproduce_the_frame_within_rounding() -> None:
    frames = some_frames()
    codec = fitted(768, frames)
    assert (codec.decode(codec.encode(frames)).int() - frames.int()).abs().max() <= 1


def test_more_components_are_closer() -> None:
    frames = some_frames()
    errors = []
    for channels in (2, 8, 32):
        codec = fitted(channels, frames)
        errors.append((codec.decode(codec.encode(frames)).float() - frames.float()).square().mean().item())
    assert errors[0] > 1.5 * errors[1] > 2 * errors[2]


def test_latents_have_unit_mean_square_and_falling_deviations() -> None:
    frames = some_frames()
    codec = fitted(16, frames)
    z = codec.encode(frames).reshape(-1, 16)
    assert z.square().mean().item() == pytest.approx(1, rel=1e-3)
    deviations = z.std(0)
    assert (deviations[:-1] >= deviations[1:] * 0.99).all()


def test_wild_latents_decode_into_range() -> None:
    codec = fitted(16, some_frames())
    decoded = codec.decode(torch.randn(2, 6, 16) * 1e4)
    assert decoded.dtype == torch.uint8 and decoded.shape == (2, 32, 48, 3)


def test_fitting_is_deterministic_up_to_nothing() -> None:
    frames = some_frames()
    assert torch.equal(fitted(16, frames).basis, fitted(16, frames).basis)


@pytest.mark.parametrize("frames", [torch.zeros(1, 32, 48, 3), torch.zeros(1, 48, 32, 3, dtype=torch.uint8)])
def test_other_frames_are_refused(frames: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="expected uint8 frames"):
        fitted(16, some_frames()).encode(frames)


def test_a_frame_that_patches_do_not_fill_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of the patch"):
        CodecConfig(30, 48, 16, 8)
