"""The heart: a batch of generated worlds behind `reset`, `render`, `commit`, `step`, `snapshot`, `restore`.

Knows nothing of files, screens or Gymnasium. The order of one frame is render (to the pixels), then commit (to
the history), so that a game loop can show the frame before it pays for remembering it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.history.frame import Frame
from engine.history.history import History
from engine.history.modes import remembers
from engine.history.names import MODES
from engine.history.poses import Navigator, Origins
from engine.inputs import checked_action, checked_frames, checked_mask, checked_poses, checked_seeds
from engine.model.codec import Codec
from engine.model.fit import check_fit
from engine.model.generator import Generator
from engine.model.heads import Heads
from engine.model.memory import Memory
from engine.model.motion import Motion
from engine.model.sampler import MAX_STEPS, denoising_step_list, noise_for, sample
from engine.snapshot import Snapshot, read_snapshot


class World:
    """B worlds that share weights. Frames are uint8 (B, H, W, 3), actions uint8 (B, A), one 0/1 per button.

    codec, generator: the networks, which are moved to `device` and `dtype`. buttons: A names. memory: `window`
    (constant cost, forgets), `full` (every frame ever) or `mag` (folded history, for which memory_model is needed, or
    what was seen where, which a generator that takes sights reads). heads: with them, `commit` sets `reward` and
    `termination`, float32 (B,): the reward of the frame's step, and the probability that the episode ends with it; and
    `events`, float32 (B, E): the probability of each event in that step. None without heads, and before the first
    commit. motion: tells what a step will really be; without it poses are reckoned from the buttons, where the
    generator knows how. exclusive: of several buttons that are held only the last one counts, as
    `engine.config.WorldConfig` says it. memory_budget: tokens of folded history attended to; recall: see `History`.
    steps: passes a frame, `denoising_step_list`.
    """

    def __init__(
        self,
        codec: Codec,
        generator: Generator,
        buttons: Sequence[str],
        *,
        memory_model: Memory | None = None,
        heads: Heads | None = None,
        motion: Motion | None = None,
        exclusive: bool = False,
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
        check_fit(codec, generator, memory_model, heads, motion)
        self.device, self.dtype, self.batch = torch.device(device), dtype, batch
        self.buttons, self.exclusive = tuple(buttons), exclusive
        self.codec = codec.to(self.device).eval().requires_grad_(False)
        self.generator = generator.to(self.device, dtype).eval().requires_grad_(False)
        self.height, self.width = codec.config.height, codec.config.width
        self.timestep_shift = timestep_shift
        self.set_steps(steps)
        self.memory_model = memory_model
        if memory_model is not None:
            self.memory_model = memory_model.to(self.device, dtype).eval().requires_grad_(False)
        self.heads = heads.to(self.device, torch.float32).eval().requires_grad_(False) if heads is not None else None
        self.motion = motion.to(self.device, torch.float32).eval().requires_grad_(False) if motion else None
        self._navigator = Navigator(self.motion, generator.config.motion, tiles=generator.config.sights)
        self.reward: np.ndarray | None = None
        self.termination: np.ndarray | None = None
        self.events: np.ndarray | None = None
        self.history = History(
            generator,
            batch,
            memory,
            self.device,
            dtype,
            memory_model,
            budget=memory_budget,
            recall=recall,
            posed=self._navigator.knows,
        )
        self.origins = Origins(batch, tiles=generator.config.sights)
        self.seeds = [0] * batch
        self.frame = np.zeros((batch, self.height, self.width, 3), np.uint8)
        self.latents: Tensor | None = None  # (B, N, C) float32, of the frame that was rendered last
        self._drawn: Frame | None = None

    @property
    def mode(self) -> str:
        """How the world remembers: window, full or mag."""
        return self.history.mode

    def set_mode(self, mode: str) -> None:
        """Switch how the world remembers, in play. What `window` has forgotten does not come back.

        Raises ValueError for an unknown mode, and for `mag` with neither a memory model nor places.
        """
        self.history.set_mode(mode)

    @property
    def modes(self) -> tuple[str, ...]:
        """The memory modes that this world has."""
        most = remembers(self.generator.config, self.memory_model is not None)
        return tuple(mode for mode in MODES if mode != "mag" or most)

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
        poses: np.ndarray | None = None,
    ) -> np.ndarray:
        """Begin anew from real frames.

        Args:
            seed: of the noise: one for each world, or one number from which each gets its own (seed + index); >= 0.
            frames: uint8 (B, n, H, W, 3), n >= 1.
            actions: (B, n, A): what produced those frames, nothing by default.
            only: (B,) bool: leave the other worlds as they are; what is given for them is not looked at.
            poses: where the frames were really seen from, from anywhere: (B, n, 3), x and y in steps and heading in
                radians, or (B, n, 4), as sources tell them but in steps: x, y, height, heading in degrees. By default
                motion tells, and in a world that is seen from above also what fits best to what was seen before.

        Returns:
            What is shown, uint8 (B, H, W, 3): the last of the frames.

        Raises:
            ValueError: for other shapes, and for some of the worlds while a frame waits for `commit`.
        """
        seeds, only = checked_seeds(seed, self.batch), checked_mask(only, self.batch)
        if only is not None and self._drawn is not None:
            raise ValueError("world: commit the frame that was rendered before resetting some of the worlds")
        frames, actions, poses = self._checked(frames, actions, poses, only)
        self.history.clear(only)
        self.origins.forget(only)
        self.seeds = [s if only is None or only[b] else self.seeds[b] for b, s in enumerate(seeds)]
        self._drawn = self.reward = self.termination = self.events = None
        return self._observe(frames, actions, poses, only)

    @torch.inference_mode()
    def observe(self, frames: np.ndarray, actions: np.ndarray, poses: np.ndarray | None = None) -> np.ndarray:
        """Append real frames (B, n, H, W, 3) and the actions (B, n, A) that produced them to the history.

        A frame that was rendered and not committed is dropped. poses: as for `reset`, and from the same place as those
        that were given before. Returns and raises as `reset` does.
        """
        frames, actions, poses = self._checked(frames, actions, poses)
        self._drawn = None
        return self._observe(frames, actions, poses, None)

    def _checked(
        self,
        frames: np.ndarray,
        actions: np.ndarray | None,
        poses: np.ndarray | None,
        only: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        shape = (self.batch, self.height, self.width, len(self.buttons))
        seen, acted = checked_frames(frames, actions, *shape, self.exclusive)
        return seen, acted, None if poses is None else checked_poses(poses, self.batch, seen.shape[1], only)

    def _observe(
        self, frames: np.ndarray, actions: np.ndarray, poses: np.ndarray | None, only: np.ndarray | None
    ) -> np.ndarray:
        for i in range(frames.shape[1]):
            latents = self._rounded(self.codec.encode(torch.from_numpy(frames[:, i].copy()).to(self.device)))
            acted = torch.from_numpy(actions[:, i]).to(self.device)
            pose = self._navigator.registered(self.history, latents, actions[:, i])
            if poses is not None:
                pose = self.origins.relative(poses[:, i], pose, only)
            self.history.append(Frame(latents, acted, pose), only)
        chosen = slice(None) if only is None else np.asarray(only, bool)
        self.frame = self.frame.copy()
        self.frame[chosen] = frames[chosen, -1]
        return self.frame.copy()

    @torch.inference_mode()
    def render(self, action: np.ndarray) -> np.ndarray:
        """Draw the frame that an action leads to. The history stays as it is until `commit`.

        Args:
            action: 0 or 1 for each button, (B, A), or (A,) for all worlds alike.

        Returns:
            The frame, uint8 (B, H, W, 3).

        Raises:
            ValueError: for another action, and before the first `reset`.
        """
        acted, pose = self._led_by(action)
        c, count = self.generator.config, self.history.count
        shape = (c.tokens, c.channels)
        noise = torch.stack([noise_for(seed, int(t), shape) for seed, t in zip(self.seeds, count, strict=True)])
        rotation = self.generator.rotation(torch.from_numpy(pose[:, None]))
        sights = self.history.sights(pose)
        seen = None if sights is None else sights[:, None]

        def predict(x: Tensor, i: int, level: float) -> Tensor:
            levels = torch.full((self.batch, 1), level, device=self.device)
            out = self.generator(x[:, None], levels, acted[:, None], rotation, self.history.attend, sights=seen)
            return out[:, 0].float()

        latents = sample(predict, noise.to(self.device), self.levels)
        return self._show(Frame(self._rounded(latents), acted, pose, sights))

    @torch.inference_mode()
    def adopt(self, latents: Tensor, action: np.ndarray) -> np.ndarray:
        """In place of `render`: take latents (B, N, C) that were drawn before as the frame that `action` leads to.

        With the latents that `render` gave in this state, all that follows is the same, at the price of the commit.
        Returns and raises as `render` does.
        """
        c = self.generator.config
        if tuple(latents.shape) != (self.batch, c.tokens, c.channels):
            raise ValueError(
                f"world: expected latents {(self.batch, c.tokens, c.channels)}, got {tuple(latents.shape)}"
            )
        acted, pose = self._led_by(action)
        taken = self._rounded(latents.to(self.device, torch.float32))
        return self._show(Frame(taken, acted, pose, self.history.sights(pose)))

    def _led_by(self, action: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """An action as a tensor (B, A), and the pose (B, 3) that it leads to."""
        if (self.history.count == 0).any():
            raise ValueError("world: reset it before drawing a frame")
        action = checked_action(action, self.batch, len(self.buttons), self.exclusive)
        return torch.from_numpy(action).to(self.device), self._navigator.following(self.history, action)

    def _rounded(self, latents: Tensor) -> Tensor:
        """Latents as places keep them, where there are places: what is read back must be what was drawn."""
        return latents if self.history.places is None else latents.to(self.dtype).float()

    def _show(self, drawn: Frame) -> np.ndarray:
        self.latents, self._drawn = drawn.latents, drawn
        self.frame = self.codec.decode(drawn.latents).cpu().numpy()
        return self.frame.copy()

    @torch.inference_mode()
    def commit(self) -> None:
        """Take the frame that was rendered last into the history. Raises ValueError where there is none."""
        if self._drawn is None:
            raise ValueError("world: nothing to commit; render first")
        outputs: list[Tensor] | None = None if self.heads is None else []
        self.history.append(self._drawn, outputs=outputs)
        self._drawn = None
        if self.heads is not None and outputs is not None:
            logits, ended, events = self.heads(self.heads.features(outputs)[:, 0])
            self.reward = self.heads.expected(logits).cpu().numpy()
            self.termination = torch.sigmoid(ended).cpu().numpy()
            self.events = torch.sigmoid(events).cpu().numpy()

    def step(self, action: np.ndarray) -> np.ndarray:
        """`render`, then `commit`."""
        frame = self.render(action)
        self.commit()
        return frame

    @property
    def ended(self) -> np.ndarray:
        """Whether the episodes end with the frame that was committed last, bool (B,); without heads none does."""
        if self.heads is None or self.termination is None:
            return np.zeros(self.batch, bool)
        return self.termination > self.heads.config.threshold

    @property
    def posed(self) -> bool:
        """Whether the worlds know where the player is."""
        return self.history.posed

    def snapshot(self) -> Snapshot:
        """The present moment, independent of what follows."""
        return Snapshot(self.history.copy(), tuple(self.seeds), self.frame.copy(), self._drawn, self.origins.at)

    def restore(self, snapshot: Snapshot) -> np.ndarray:
        """Go back to a snapshot of a world with the same weights and batch; returns its frame, uint8 (B, H, W, 3).

        Raises ValueError where the batch or the generator's shape is another one.
        """
        if snapshot.history.batch != self.batch or snapshot.history.config != self.generator.config:
            raise ValueError("world: this snapshot is of a world with another batch or another generator")
        self.history = snapshot.history.copy()
        self.history.generator, self.history.memory = self.generator, self.memory_model  # whosever moment it was
        self.seeds = list(snapshot.seeds)
        self.frame = snapshot.frame.copy()
        self._drawn, self.reward, self.termination, self.events = snapshot.drawn, None, None, None
        self.origins.forget()
        if snapshot.origins is not None:
            self.origins.at = snapshot.origins
        return self.frame.copy()

    def snapshot_from(self, meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Snapshot:
        """The snapshot whose `Snapshot.state` this is. Raises ValueError where it is not one of such a world."""
        return read_snapshot(self, meta, tensors)

    def stats(self) -> dict[str, Any]:
        """Counts in frames of the first world: all, hot (attended to), cold (kept aside), gone; bytes of memory.

        With places also how many tiles of it are known, and the bytes of all maps.
        """
        history, places = self.history, self.history.places
        return {
            "memory_bytes": history.bytes,
            "cold_bytes": history.cold_bytes,
            "tokens": history.tokens_in_view,
            **history.counts(0),
            **({} if places is None else {"tiles": places.tiles(0), "places_bytes": places.bytes}),
            "mode": self.mode,
            "modes": self.modes,
            "pose": tuple(float(v) for v in history.pose[0]) if self.posed else None,
            "steps": self.steps,
        }

    def warm_up(self) -> float:
        """Draw until the window has gone round once, then forget it; returns seconds. The world must be reset after."""
        began = time.perf_counter()
        blank = np.full((self.batch, 1, self.height, self.width, 3), 128, np.uint8)
        nothing = np.zeros((self.batch, len(self.buttons)), np.uint8)
        self.reset(0, blank)
        block = self.memory_model.config.block if self.memory_model is not None else 0
        for _ in range(self.generator.config.sink + self.generator.config.window + 2 + 3 * block):
            self.step(nothing)
        self.history.clear()
        return time.perf_counter() - began
