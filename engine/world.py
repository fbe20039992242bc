"""The heart: a batch of generated worlds behind `reset`, `render`, `commit`, `step`, `snapshot`, `restore`.

Knows nothing of files, screens or Gymnasium. The order of one frame is render (to the pixels), then commit (to
the cache), so that a game loop can show the frame before it pays for remembering it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.history.cache import MODES, Cache, Mode
from engine.history.state import cache_from, state_of
from engine.model import odometry
from engine.model.codec import Codec
from engine.model.generator import Generator
from engine.model.heads import Heads
from engine.model.layers import Rotation
from engine.model.memory import Memory
from engine.model.sampler import MAX_STEPS, denoising_step_list, noise_for, sample


@dataclass(frozen=True)
class Snapshot:
    """A moment of a world: everything that the frames to come depend on, beside the weights."""

    cache: Cache
    seeds: tuple[int, ...]
    frame: np.ndarray
    drawn: tuple[Tensor, Tensor, np.ndarray] | None

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The same as plain values for JSON and tensors on the CPU; `World.snapshot_from` reads them."""
        meta, tensors = state_of(self.cache)
        named = {f"cache.{name}": tensor for name, tensor in tensors.items()}
        named["frame"] = torch.from_numpy(self.frame.copy())
        if self.drawn is not None:
            latents, action, pose = self.drawn
            named["drawn.latents"], named["drawn.action"] = latents.cpu().contiguous(), action.cpu().contiguous()
            named["drawn.pose"] = torch.from_numpy(pose.copy())
        return {"seeds": list(self.seeds), "cache": meta}, named


class World:
    """B worlds that share weights. Frames are uint8 (B, H, W, 3), actions uint8 (B, A), one 0/1 per button.

    codec, generator: the networks, which are moved to `device` and `dtype`. buttons: A names. memory: `window`
    (constant cost, forgets), `full` (every frame ever) or `mag` (folded history, for which memory_model is needed).
    heads: with them, `commit` sets `reward` and `termination`, float32 (B,): the reward of the frame's step, and the
    probability that the episode ends with it; None without heads, and before the first commit.
    memory_budget: tokens of folded history attended to; recall: see `Cache`. steps: passes a frame,
    `denoising_step_list`.
    """

    def __init__(
        self,
        codec: Codec,
        generator: Generator,
        buttons: Sequence[str],
        *,
        memory_model: Memory | None = None,
        heads: Heads | None = None,
        batch: int = 1,
        memory: str = "window",
        memory_budget: int | None = None,
        recall: str = "relevance",
        steps: int = 2,
        timestep_shift: float = 1.0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if len(buttons) != generator.config.actions:
            raise ValueError(f"world: {len(buttons)} buttons, but the generator takes {generator.config.actions}")
        if batch < 1:
            raise ValueError(f"world: batch must be at least 1, got {batch}")
        found, need = (codec.config.rows, codec.config.columns, codec.config.channels), generator.config
        if found != (need.rows, need.columns, need.channels):
            raise ValueError(
                f"world: the codec gives latents (rows, columns, channels) = {found}, the generator takes "
                f"{(need.rows, need.columns, need.channels)}"
            )
        self.device, self.dtype, self.batch = torch.device(device), dtype, batch
        self.buttons = tuple(buttons)
        self.codec = codec.to(self.device).eval().requires_grad_(False)
        self.generator = generator.to(self.device, dtype).eval().requires_grad_(False)
        self.height, self.width = codec.config.height, codec.config.width
        self.timestep_shift = timestep_shift
        self.set_steps(steps)
        self.memory_model = memory_model
        if memory_model is not None:
            own, need = memory_model.net.config, generator.config
            if replace(own, window=need.window, sink=need.sink) != need:
                raise ValueError("world: the memory model does not fit the generator: it has another shape")
            self.memory_model = memory_model.to(self.device, dtype).eval().requires_grad_(False)
        if heads is not None and max(heads.config.layers) >= generator.config.depth:
            raise ValueError(f"world: the heads read layer {max(heads.config.layers)}, which the generator has not")
        self.heads = heads.to(self.device, torch.float32).eval().requires_grad_(False) if heads is not None else None
        self.reward: np.ndarray | None = None
        self.termination: np.ndarray | None = None
        shape = memory_model.config if memory_model is not None else None
        mode = self._mode(memory)
        self.cache = Cache(generator.config, batch, mode, self.device, dtype, shape, memory_budget, recall)
        self.seeds = [0] * batch
        self.frame = np.zeros((batch, self.height, self.width, 3), np.uint8)
        self.latents: Tensor | None = None  # (B, N, C) float32, of the frame that was rendered last
        self._drawn: tuple[Tensor, Tensor, np.ndarray] | None = None

    @property
    def mode(self) -> str:
        """How the world remembers: window, full or mag."""
        return self.cache.mode

    def set_mode(self, mode: str) -> None:
        """Switch how the world remembers, in play. What `window` has forgotten does not come back."""
        new = self._mode(mode)
        if new == self.cache.mode:
            return
        with torch.inference_mode():
            self.cache = self.cache.converted(new)
            if new == "mag" and self.memory_model is not None:
                self.cache.fold(self.memory_model, all_at_once=True)
                self.cache = self.cache.converted(new)  # without the room that the folded frames took

    @property
    def modes(self) -> tuple[str, ...]:
        """The memory modes that this world has."""
        return tuple(mode for mode in MODES if mode != "mag" or self.memory_model is not None)

    def _mode(self, name: str) -> Mode:
        for mode in MODES:
            if name == mode:
                if mode == "mag" and self.memory_model is None:
                    raise ValueError("world: memory mag needs a checkpoint with a memory model")
                return mode
        raise ValueError(f"world: memory must be one of {', '.join(MODES)}, got {name!r}")

    def set_steps(self, steps: int) -> None:
        """Passes a frame: 1, 2 or 4 in play, at most 64."""
        if not 1 <= steps <= MAX_STEPS:
            raise ValueError(f"world: steps must be in 1..{MAX_STEPS}, got {steps}")
        self.steps = steps
        self.levels = denoising_step_list(steps, self.timestep_shift)

    @torch.inference_mode()
    def reset(
        self,
        seed: int | Sequence[int],
        frames: np.ndarray,
        actions: np.ndarray | None = None,
        only: np.ndarray | None = None,
    ) -> np.ndarray:
        """Begin anew from real frames (B, n, H, W, 3), n >= 1; returns the last as (B, H, W, 3).

        seed: one for each world, or one number from which each world gets its own (seed + index). actions
        (B, n, A): what produced those frames, none by default. only (B,) bool: leave the other worlds as they are.
        """
        seeds = [seed + b for b in range(self.batch)] if isinstance(seed, int) else list(seed)
        if len(seeds) != self.batch or any(s < 0 for s in seeds):
            raise ValueError(f"world: expected {self.batch} seeds of 0 or more, got {seeds[:4]}...")
        if only is not None and np.shape(only) != (self.batch,):
            raise ValueError(f"world: expected a mask ({self.batch},), got {np.shape(only)}")
        if only is not None and np.all(only):
            only = None
        if only is not None and self._drawn is not None:
            raise ValueError("world: commit the frame that was rendered before resetting some of the worlds")
        frames, actions = self._history(frames, actions)
        self.cache.clear(only)
        self.seeds = [s if only is None or only[b] else self.seeds[b] for b, s in enumerate(seeds)]
        self._drawn = self.reward = self.termination = None
        return self._observe(frames, actions, only)

    @torch.inference_mode()
    def observe(self, frames: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Append real frames (B, n, H, W, 3) and the actions (B, n, A) that produced them to the history."""
        self._drawn = None
        return self._observe(*self._history(frames, actions), None)

    def _observe(self, frames: np.ndarray, actions: np.ndarray, only: np.ndarray | None) -> np.ndarray:
        for i in range(frames.shape[1]):
            latents = self.codec.encode(torch.from_numpy(frames[:, i].copy()).to(self.device))
            acted = torch.from_numpy(actions[:, i]).to(self.device)
            self._write(latents, acted, self._next_pose(actions[:, i]), only)
        self.cache.prepare()
        chosen = slice(None) if only is None else np.asarray(only, bool)
        self.frame = self.frame.copy()
        self.frame[chosen] = frames[chosen, -1]
        return self.frame.copy()

    @torch.inference_mode()
    def render(self, action: np.ndarray) -> np.ndarray:
        """Draw the frame that `action`, (B, A) or (A,), leads to. The cache stays as it is until `commit`."""
        action = self._action(action)
        acted, pose = torch.from_numpy(action).to(self.device), self._next_pose(action)
        if (self.cache.count == 0).any():
            raise ValueError("world: reset it before rendering")
        c = self.generator.config
        shape = (c.tokens, c.channels)
        noise = torch.stack([noise_for(s, int(t), shape) for s, t in zip(self.seeds, self.cache.count, strict=True)])

        rotation = self._rotation(pose)

        def predict(x: Tensor, i: int, level: float) -> Tensor:
            return self._pass(x, acted, level, rotation, self.cache.attend)

        return self._show(sample(predict, noise.to(self.device), self.levels), acted, pose)

    @torch.inference_mode()
    def adopt(self, latents: Tensor, action: np.ndarray) -> np.ndarray:
        """In place of `render`: take latents (B, N, C) that were drawn before as the frame that `action` leads to.

        With the latents that `render` gave in this state, all that follows is the same, at the price of the commit.
        """
        c = self.generator.config
        if tuple(latents.shape) != (self.batch, c.tokens, c.channels):
            raise ValueError(
                f"world: expected latents {(self.batch, c.tokens, c.channels)}, got {tuple(latents.shape)}"
            )
        action = self._action(action)
        acted = torch.from_numpy(action).to(self.device)
        if (self.cache.count == 0).any():
            raise ValueError("world: reset it before adopting a frame")
        return self._show(latents.to(self.device, torch.float32), acted, self._next_pose(action))

    def _show(self, latents: Tensor, acted: Tensor, pose: np.ndarray) -> np.ndarray:
        self.latents, self._drawn = latents, (latents, acted, pose)
        self.frame = self.codec.decode(latents).cpu().numpy()
        return self.frame.copy()

    @torch.inference_mode()
    def commit(self) -> None:
        """Write the frame that was rendered last into the cache."""
        if self._drawn is None:
            raise ValueError("world: nothing to commit; render first")
        outputs: list[Tensor] | None = None if self.heads is None else []
        self._write(*self._drawn, None, outputs)
        self._drawn = None
        self.cache.prepare()
        if self.heads is not None and outputs is not None:
            logits, ended = self.heads(self.heads.features(outputs)[:, 0])
            self.reward = self.heads.expected(logits).cpu().numpy()
            self.termination = torch.sigmoid(ended).cpu().numpy()

    def step(self, action: np.ndarray) -> np.ndarray:
        """`render`, then `commit`."""
        frame = self.render(action)
        self.commit()
        return frame

    def _next_pose(self, action: np.ndarray) -> np.ndarray:
        """Where the worlds (B, 3) will be after an action (B, A); the first frame is where they begin."""
        motion, pose = self.generator.config.motion, self.cache.pose
        if not motion:
            return pose
        return np.where(self.cache.count[:, None] > 0, odometry.advance(pose, action, motion), 0.0)

    def _rotation(self, pose: np.ndarray) -> Rotation:
        return self.generator.rotation(torch.from_numpy(pose[:, None]))

    def _pass(
        self,
        x: Tensor,
        action: Tensor,
        level: float,
        rotation: Rotation,
        attend: Any,
        outputs: list[Tensor] | None = None,
    ) -> Tensor:
        levels = torch.full((self.batch, 1), level, device=self.device)
        out = self.generator(x[:, None], levels, action[:, None], rotation, attend, outputs)
        return out[:, 0].float()

    def _write(
        self,
        latents: Tensor,
        action: Tensor,
        pose: np.ndarray,
        only: np.ndarray | None,
        outputs: list[Tensor] | None = None,
    ) -> None:
        """One clean pass whose keys and values are kept, and a slice of folding. outputs: takes each layer's."""
        keys: list[Tensor] = []
        values: list[Tensor] = []

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys.append(k)
            values.append(v)
            return self.cache.attend(layer, q, k, v)

        self.cache.prepare()
        self._pass(latents, action, 0.0, self._rotation(pose), attend, outputs)
        self.cache.write(keys, values, only, pose)
        self.cache.remember(latents, action, only)
        if self.memory_model is not None:
            self.cache.fold(self.memory_model, only=only)

    def snapshot(self) -> Snapshot:
        """The present moment, independent of what follows."""
        return Snapshot(self.cache.copy(), tuple(self.seeds), self.frame.copy(), self._drawn)

    def restore(self, snapshot: Snapshot) -> np.ndarray:
        """Go back to a snapshot of this world (same weights and batch); returns its frame."""
        if snapshot.cache.batch != self.batch or snapshot.cache.config != self.generator.config:
            raise ValueError("world: this snapshot is of a world with another batch or another generator")
        self.cache = snapshot.cache.copy()
        self.seeds = list(snapshot.seeds)
        self.frame = snapshot.frame.copy()
        self._drawn, self.reward, self.termination = snapshot.drawn, None, None
        return self.frame.copy()

    def snapshot_from(self, meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Snapshot:
        """The snapshot whose `Snapshot.state` this is. Raises ValueError where it is not one of such a world."""
        seeds, inner = meta.get("seeds"), meta.get("cache")
        if not isinstance(seeds, list) or len(seeds) != self.batch or not isinstance(inner, Mapping):
            raise ValueError(f"world: a snapshot needs {self.batch} seeds and a cache")
        if any(type(seed) is not int or not 0 <= seed < 2**63 for seed in seeds):
            raise ValueError("world: a snapshot's seeds must be whole numbers from 0 to 2^63 - 1")
        named = {name.partition(".")[2]: tensor for name, tensor in tensors.items() if name.startswith("cache.")}
        cache = cache_from(self.generator.config, inner, named, self.device, self.dtype, self.memory_model)
        frame, c = tensors.get("frame"), self.generator.config
        if cache.batch != self.batch or frame is None or frame.dtype != torch.uint8:
            raise ValueError(f"world: expected a snapshot of {self.batch} worlds with their frame")
        if tuple(frame.shape) != self.frame.shape:
            raise ValueError(f"world: expected a snapshot's frame {self.frame.shape}, got {tuple(frame.shape)}")
        drawn = None
        if "drawn.latents" in tensors:
            if not {"drawn.action", "drawn.pose"} <= tensors.keys():
                raise ValueError("world: a snapshot's drawn frame needs latents, action and pose")
            latents, action, pose = (tensors[f"drawn.{name}"] for name in ("latents", "action", "pose"))
            if tuple(pose.shape) != (self.batch, 3) or pose.dtype != torch.float64:
                raise ValueError(f"world: a snapshot's pose cannot be {pose.dtype} {tuple(pose.shape)}")
            if tuple(latents.shape) != (self.batch, c.tokens, c.channels) or latents.dtype != torch.float32:
                raise ValueError(f"world: a snapshot's latents cannot be {latents.dtype} {tuple(latents.shape)}")
            acted = torch.from_numpy(self._action(action.numpy())).to(self.device)
            drawn = (latents.to(self.device), acted, pose.numpy().copy())
        return Snapshot(cache, tuple(seeds), frame.numpy().copy(), drawn)

    def stats(self) -> dict[str, Any]:
        """Counts in frames of the first world: all, hot (attended to), cold (kept aside), gone; bytes of memory."""
        cache = self.cache
        frames, shown = int(cache.count[0]), int(cache.used[0])
        block = self.memory_model.config.block if self.memory_model is not None else 0
        hot, kept = block * int((cache.hot[0] >= 0).sum()), block * len(cache.cold[0])
        return {
            "memory_bytes": cache.bytes,
            "cold_bytes": cache.cold_bytes,
            "tokens": cache.tokens_in_view,
            "frames": frames,
            "hot": shown + hot,
            "cold": kept - hot,
            "gone": frames - shown - kept,
            "mode": self.mode,
            "modes": self.modes,
            "pose": tuple(float(v) for v in cache.pose[0]) if self.generator.config.motion else None,
            "steps": self.steps,
        }

    def warm_up(self) -> float:
        """Draw past the cache's first wrap-around, then forget it; returns seconds. The world must be reset after."""
        began = time.perf_counter()
        blank = np.full((self.batch, 1, self.height, self.width, 3), 128, np.uint8)
        nothing = np.zeros((self.batch, len(self.buttons)), np.uint8)
        self.reset(0, blank)
        block = self.memory_model.config.block if self.memory_model is not None else 0
        for _ in range(self.generator.config.sink + self.generator.config.window + 2 + 3 * block):
            self.step(nothing)
        self.cache.clear()
        return time.perf_counter() - began

    def _action(self, action: np.ndarray) -> np.ndarray:
        action = np.asarray(action)
        expected = (self.batch, len(self.buttons))
        if action.shape == expected[1:]:
            action = np.broadcast_to(action, expected)
        if action.shape != expected or not np.isin(action, (0, 1)).all():
            raise ValueError(f"world: expected actions of 0 and 1, shape {expected}, got shape {action.shape}")
        return np.array(action, np.uint8)

    def _history(self, frames: np.ndarray, actions: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        frames = np.asarray(frames)
        shape = (self.batch, frames.shape[1] if frames.ndim == 5 else 1, self.height, self.width, 3)
        if frames.dtype != np.uint8 or frames.shape != shape or not frames.shape[1]:
            raise ValueError(
                f"world: expected uint8 frames (B, n, H, W, 3) = {shape}, got {frames.dtype} {frames.shape}"
            )
        expected = (self.batch, frames.shape[1], len(self.buttons))
        acted = np.zeros(expected, np.uint8) if actions is None else np.asarray(actions)
        if acted.shape != expected:
            raise ValueError(f"world: expected actions of shape {expected}, got {acted.shape}")
        return frames, np.array(acted, np.uint8)
