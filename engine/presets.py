"""Sizes of world by name: one block of numbers for each."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One size of world: the picture, the generator's shape, and how much history it sees.

    height, width: of a frame, in pixels, multiples of `patch`. patch: side of a square patch in pixels; a patch is a
    token. channels: numbers of a token's latent, C. deblock: channels of the codec's deblocking pass, 0 for none.

    dim: width of the generator, a multiple of `heads`. depth: its layers. heads: of its attention.

    window: the last frames that are attended to. sink: the first frames, which always are. far: the greatest age in
    frames that training shows; older frames are read as if they were `far` old.

    sights: whether it takes what places tell of each tile, for which the world needs a geometry seen from above. Then
    the window may be 0, and each frame sees nothing else of what was before.
    """

    name: str

    height: int
    width: int
    patch: int = 16
    channels: int
    deblock: int = 24

    dim: int
    depth: int
    heads: int

    window: int
    sink: int = 2
    far: int = 32

    sights: bool = False

    def __post_init__(self) -> None:
        assert self.height % self.patch == 0 and self.width % self.patch == 0, self
        assert self.dim % self.heads == 0, self

    @property
    def rows(self) -> int:
        """Patches from top to bottom."""
        return self.height // self.patch

    @property
    def columns(self) -> int:
        """Patches from left to right."""
        return self.width // self.patch

    @property
    def tokens(self) -> int:
        """Tokens of one frame, one a patch, N."""
        return self.rows * self.columns

    @property
    def clip(self) -> int:
        """Consecutive frames of a training clip: the window and the frame that is drawn."""
        return self.window + 1


TILE = Preset(  # worlds of 9x9 tiles, a token each, whose edges are no seams; what was seen comes from places alone
    name="tile",
    height=144,
    width=144,
    channels=48,
    deblock=0,
    dim=192,
    depth=5,
    heads=3,
    window=0,
    sink=0,
    far=2,
    sights=True,
)

PICO = Preset(  # for agents: fast, and remembers 4 frames
    name="pico",
    height=48,
    width=64,
    channels=64,
    dim=128,
    depth=4,
    heads=2,
    window=4,
    sink=1,
    far=8,
)

NANO = Preset(
    name="nano",
    height=48,
    width=64,
    channels=64,
    dim=192,
    depth=6,
    heads=3,
    window=12,
)

LITE = Preset(
    name="lite",
    height=96,
    width=128,
    channels=96,
    dim=256,
    depth=8,
    heads=4,
    window=8,
)

BASE = Preset(
    name="base",
    height=96,
    width=128,
    patch=8,
    channels=48,
    dim=512,
    depth=12,
    heads=8,
    window=8,
)

PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in (PICO, NANO, LITE, BASE, TILE)}
"""Every preset by its name; those for views in perspective first, the smallest of them first."""
