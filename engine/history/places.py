"""Places: what was seen of every tile of worlds that are seen from above, and when.

The newest sight of a tile wins, so what is kept is bounded by the area explored and not by time: a tile takes 104 bytes
at 48 numbers in 16 bits, so a player who sees something new in every frame fills 34 MB in 36,000 frames, and one who
stays where he is fills nothing. See `engine.history.chunks` for what a copy costs, and what goes to disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.history.chunks import SIDE, At, Map, chunk_bytes
from engine.history.cold import RAM_BYTES
from engine.model.generator import GeneratorConfig
from engine.model.sights import CHANGED, Layout, apart, sights_of, view_changed

FARTHEST = 2**40
"""Tiles from the beginning beyond which no map may claim to know anything."""


@dataclass(frozen=True)
class Part:
    """Where some of a view's tiles lie: the chunk, seen from the player's own; tiles of the view (K,); cells (K,)."""

    east: int
    north: int
    tiles: np.ndarray
    cells: np.ndarray


class Places:
    """The maps of B worlds, by the pose of the player: whole tiles to the east and north of where each world began.

    config: of a generator that takes sights. dtype: what latents are rounded to, and read back as. ram_bytes: of all
    maps together, beyond which what is far away goes to disk.
    """

    def __init__(
        self,
        config: GeneratorConfig,
        batch: int,
        device: torch.device,
        dtype: torch.dtype,
        ram_bytes: int = RAM_BYTES,
    ) -> None:
        self.config, self.batch, self.device, self.dtype = config, batch, device, dtype
        self.layout = Layout.of(config)
        self.ram_bytes = ram_bytes
        self._maps = [self._empty() for _ in range(batch)]
        self._parts: dict[tuple[int, int], list[Part]] = {}  # of a view, by where in its chunk the player stands

    @property
    def bytes(self) -> int:
        """Bytes of all maps in RAM."""
        return sum(known.bytes for known in self._maps)

    @property
    def disk_bytes(self) -> int:
        """Bytes of all maps on disk."""
        return sum(known.disk_bytes for known in self._maps)

    def file_bytes(self, world: int) -> int:
        """Bytes of the file that a world's map has gone to, which copies of these places have a part in."""
        return self._maps[world].file_bytes

    def tiles(self, world: int) -> int:
        """How many tiles of a world are known."""
        return self._maps[world].tiles

    def sights(self, pose: np.ndarray, count: np.ndarray, last: Tensor, only_last: bool = False) -> Tensor:
        """What is known of what frames will show, float32 (B, N, C + 2); see `engine.model.sights`.

        Args:
            pose: (B, 3), where they will be seen from.
            count: (B,), their numbers; a world's first frame has no sights.
            last: (B, N, C), latents of the frames before, which tokens that stand still are sights of.
            only_last: read nothing that is older than the frame before.
        """
        moving, still = self.layout.moving, self.layout.still
        c = self.config
        found = np.zeros((self.batch, c.tokens, c.channels), _bits(self.dtype))
        age = np.zeros((self.batch, c.tokens), np.int64)
        for b in np.flatnonzero(count).tolist():
            seen, time = self._seen(b, pose[b])
            known = time >= 0 if not only_last else time == count[b] - 1
            found[b, moving] = seen
            age[b, moving] = np.where(known, count[b] - time, 0)
            age[b, still] = 1
        latents = self._numbers(found).to(self.device)
        latents[:, still] = last[:, still].to(self.dtype).float()
        return sights_of(latents, torch.from_numpy(age).to(self.device))

    def record(self, pose: np.ndarray, number: np.ndarray, latents: Tensor, worlds: Iterable[int]) -> None:
        """Take in what frames show, in some worlds.

        Where the view as a whole is another one than is known of this place (see `view_changed`), only tiles that were
        never seen are recorded.

        Args:
            pose: (B, 3), where they are seen from.
            number: (B,), the frames' numbers.
            latents: (B, N, C).
            worlds: which of the B.
        """
        bits = _bits_of(latents.detach().to(self.dtype).cpu())[:, self.layout.moving]
        values = self._numbers(bits).numpy()
        for b in worlds:
            seen, time = self._seen(b, pose[b])
            known = time >= 0
            fresh = np.ones(len(time), bool)
            if view_changed(values[b, known], self._numbers(seen[known]).numpy()):
                fresh = ~known
            self._write(b, pose[b], fresh, bits[b], int(number[b]))

    def misfit(self, world: int, pose: np.ndarray, latents: Tensor) -> tuple[int, int]:
        """How many tiles a frame's latents (N, C) would show changed, if it were seen from a pose (3,), of how many."""
        seen, time = self._seen(world, pose)
        known = time >= 0
        new = latents.detach().to(self.dtype).float().cpu().numpy()[self.layout.moving[known]]
        return int((apart(new, self._numbers(seen[known]).numpy()) > CHANGED).sum()), int(known.sum())

    def clear(self, worlds: Iterable[int]) -> None:
        """Forget all of some worlds."""
        for b in worlds:
            self._maps[b] = self._empty()

    def copy(self) -> Places:
        """Independent copy; what both know is shared."""
        other = Places.__new__(Places)
        other.__dict__.update(self.__dict__)
        other._maps = [known.copy() for known in self._maps]
        return other

    def arrays(self, world: int) -> tuple[Tensor, Tensor]:
        """A world's map, to be kept in a file: x, y and frame number int64 (K, 3) of known tiles, latents (K, C)."""
        places, latents = [np.zeros((0, 3), np.int64)], [np.zeros((0, self.config.channels), _bits(self.dtype))]
        for (column, row), chunk in self._maps[world].items():
            cells = np.flatnonzero(chunk.time >= 0)
            x, y = column * SIDE + cells % SIDE, row * SIDE + cells // SIDE
            places.append(np.stack((x, y, chunk.time[cells]), 1))
            latents.append(chunk.latents[cells])
        return torch.from_numpy(np.concatenate(places)), torch.from_numpy(np.concatenate(latents)).view(self.dtype)

    def put(self, world: int, tiles: Tensor, latents: Tensor) -> None:
        """Take a map that `arrays` gave in place of a world's own. It must be whole: see `engine.history.state`."""
        places, bits = tiles.numpy(), _bits_of(latents.to(self.dtype))
        chunks, cells = places[:, :2] // SIDE, places[:, 1] % SIDE * SIDE + places[:, 0] % SIDE
        order = np.lexsort((chunks[:, 1], chunks[:, 0]))
        edges = np.flatnonzero(np.diff(chunks[order], axis=0, prepend=chunks[order[:1]] - 1).any(1))
        self._maps[world] = self._empty()
        for rows in np.split(order, edges[1:]) if len(order) else []:
            column, row = chunks[rows[0]].tolist()
            self._maps[world].put((column, row), cells[rows], bits[rows], places[rows, 2])

    def bytes_of(self, tiles: Tensor) -> int:
        """Bytes that a map of these tiles (K, 3), as `arrays` gives them, would take."""
        chunks = len(np.unique(tiles.numpy()[:, :2] // SIDE, axis=0))
        return chunks * chunk_bytes(self.config.channels, _bits(self.dtype))

    def _empty(self) -> Map:
        return Map(self.config.channels, _bits(self.dtype), self.ram_bytes // self.batch)

    def _numbers(self, bits: np.ndarray) -> Tensor:
        """What bits of latents say, float32."""
        return torch.from_numpy(bits).view(self.dtype).float()

    def _seen(self, world: int, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bits (S, C) of the newest sights of the tiles that are in view at a pose (3,), and their frames (S,), or -1.

        Where there is no sight, the bits are 0.
        """
        known, size = self._maps[world], len(self.layout.moving)
        bits = np.zeros((size, self.config.channels), _bits(self.dtype))
        time = np.full(size, -1, np.int64)
        for at, part in self._in_view(pose):
            if (chunk := known.get(at)) is not None:
                bits[part.tiles] = chunk.latents[part.cells]
                time[part.tiles] = chunk.time[part.cells]
        return bits, time

    def _write(self, world: int, pose: np.ndarray, fresh: np.ndarray, bits: np.ndarray, number: int) -> None:
        """Record those tiles in view that are `fresh` (S,) bool, with bits (S, C), as seen in frame `number`."""
        known = self._maps[world]
        for at, part in self._in_view(pose):
            chosen = fresh[part.tiles]
            if chosen.any():
                cells, tiles = part.cells[chosen], part.tiles[chosen]
                known.put(at, cells, bits[tiles], number)

    def _in_view(self, pose: np.ndarray) -> Iterator[tuple[At, Part]]:
        """The chunks that are in view at a pose (3,), and which tiles of them."""
        x, y = int(np.rint(pose[0])), int(np.rint(pose[1]))
        inside = (x % SIDE, y % SIDE)
        parts = self._parts.get(inside)
        if parts is None:
            parts = self._parts[inside] = self._parts_from(*inside)
        for part in parts:
            yield (x // SIDE + part.east, y // SIDE + part.north), part

    def _parts_from(self, x: int, y: int) -> list[Part]:
        """The parts of a view, where the player stands at (x, y) of his chunk."""
        x_of, y_of = x + self.layout.east, y + self.layout.north
        cells = y_of % SIDE * SIDE + x_of % SIDE
        found = sorted({*zip((x_of // SIDE).tolist(), (y_of // SIDE).tolist(), strict=True)})
        tiles = [np.flatnonzero((x_of // SIDE == east) & (y_of // SIDE == north)) for east, north in found]
        return [Part(*at, here, cells[here]) for at, here in zip(found, tiles, strict=True)]


def _bits(dtype: torch.dtype) -> np.dtype:
    """What numpy, which knows no bfloat16, keeps numbers of a type as."""
    return np.dtype({1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}[dtype.itemsize])


def _bits_of(latents: Tensor) -> np.ndarray:
    """Latents on the CPU, bit for bit, as numpy keeps them."""
    kinds = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return latents.contiguous().view(kinds[latents.dtype.itemsize]).numpy()
