"""``python -m engine replay SESSION``: show a session's frames again, or draw them anew and compare."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine import checkpoint as checkpoints
from engine import runtime
from engine.config import load_world
from engine.errors import UserError
from engine.sessions.info import SessionInfo, is_world_name, runtime_of, world_digest
from engine.sessions.options import ReplayOptions
from engine.sessions.reader import Session, open_session


class Replayer:
    """Takes a world to any moment of a session, and on from there."""

    def __init__(self, session: Session, world: Any) -> None:
        _check_fit(session, world)
        self.session, self.world = session, world
        self.frame = -1  # the frame that the world has drawn last; -1: none of this session
        self._loaded: tuple[Session, int] | None = None

    def go_to(self, frame: int) -> np.ndarray:
        """Bring the world to the moment after `frame`; returns that frame, uint8 (H, W, 3).

        From the newest state that is stored before it, through the stored latents, or drawing where those are lost.
        """
        self._load(frame)
        while self.frame < frame:
            latents = self.session.stored(self.frame + 1)
            self.step(latents)
        return self.world.frame[0].copy()

    def step(self, latents: torch.Tensor | None = None) -> np.ndarray:
        """Draw the session's next frame, uint8 (H, W, 3), or adopt its stored latents (N, C); then commit it."""
        following = self.frame + 1
        owner = self.session.owner(following)
        if owner.parent is not None and owner.first == self.frame and (owner, self.frame) != self._loaded:
            # A branch begins from its own state: the player may have changed the mode or the steps there.
            if owner.has_keyframe(self.frame):
                self._load(self.frame)
            else:
                self._set_mode(owner.info.memory)
                self.world.set_steps(owner.info.steps or self.world.steps)
        modes, steps = self.session.change(following)
        for mode in modes:
            self._set_mode(mode)
        if steps:
            self.world.set_steps(steps)
        action = self.session.action(following)
        frame = self.world.render(action) if latents is None else self.world.adopt(latents[None], action)
        self.world.commit()
        self.frame = following
        return frame[0]

    def _load(self, frame: int) -> None:
        found = self.session.keyframe_before(frame)
        if found is None:
            root = self.session.root
            frames, actions = root.start()
            self._set_mode(root.info.memory)
            self.world.set_steps(root.info.steps or self.world.steps)
            self.world.reset(root.info.seed, frames[None], actions[None])
            self.frame, self._loaded = 0, (root, 0)
            return
        owner, at = found
        meta, tensors = owner.keyframe(at)
        try:
            self.world.restore(self.world.snapshot_from(meta, tensors))
        except ValueError as error:
            raise UserError(f"session {owner.folder}: the state of frame {at} does not fit ({error})") from None
        self.world.set_steps(owner.steps_after(at) or self.world.steps)
        self.frame, self._loaded = at, (owner, at)

    def _set_mode(self, mode: str) -> None:
        try:
            self.world.set_mode(mode)
        except ValueError as error:
            raise UserError(f"session {self.session.folder}: {error}") from None


def _check_fit(session: Session, world: Any) -> None:
    info, c = session.info, world.generator.config
    if info.source != "world":
        raise UserError(f"session {session.folder} was not drawn by a model: it has pictures, and no world to go on in")
    found = (tuple(world.buttons), world.height, world.width, c.tokens, c.channels)
    if found != (info.buttons, info.height, info.width, info.tokens, info.channels):
        raise UserError(f"session {session.folder}: the world has other buttons or sizes than the recorded one")


class Pictures:
    """A session's frames as pictures, from what is stored. codec: None for sessions of pictures."""

    def __init__(self, session: Session, codec: Any, replayer: Callable[[], Replayer] | None = None) -> None:
        self.session, self._codec, self._open = session, codec, replayer
        self._start = session.start()[0][-1]

    @functools.cached_property
    def _replayer(self) -> Replayer | None:
        return self._open() if self._open is not None else None

    @torch.inference_mode()
    def frame(self, index: int) -> np.ndarray:
        """Frame `index`, uint8 (H, W, 3). One whose latents were lost in a crash is drawn anew."""
        if index == 0:
            return self._start
        stored = self.session.stored(index)
        if stored is None:
            if self._replayer is None:
                raise UserError(f"session {self.session.folder}: the picture of frame {index} was lost in a crash")
            at = self._replayer.frame
            return self._replayer.step() if at == index - 1 else self._replayer.go_to(index)
        if self._codec is None:
            return stored.numpy()
        device = self._codec.mean.device
        return self._codec.decode(stored[None].to(device)).cpu().numpy()[0]


@dataclass(frozen=True)
class Verdict:
    """What comparing found: frames that were drawn anew, the first that differs, and what of it."""

    frames: int
    differs: int | None = None
    what: str = ""


def verify(
    session: Session, world: Any, first: int = 0, last: int | None = None, tick: Callable[[], None] = lambda: None
) -> Verdict:
    """Draw frames `first` to `last` anew; compare latents bit for bit, and pixels by their checksums."""
    last = session.last if last is None else last
    replayer = Replayer(session, world)
    begin = max(first, 1)
    replayer.go_to(begin - 1)
    crc, since = 0, begin - 1
    for index in range(begin, last + 1):
        owner, stored = session.owner(index), session.stored(index)
        if owner.first == index - 1:
            crc, since = 0, index - 1
        frame = replayer.step()
        crc = zlib.crc32(frame.tobytes(), crc)
        latents = world.latents[0].cpu()
        if stored is not None and not torch.equal(stored, latents):
            most = (stored - latents).abs().max().item()
            return Verdict(index - begin + 1, index, f"its latents are up to {most:.2g} apart")
        if index in owner.checks:
            before = max((at for at in owner.checks if at < index), default=owner.first)
            if before == since and owner.checks[index][0] != crc:
                return Verdict(index - begin + 1, before + 1, f"pixels of frames {before + 1} to {index} differ")
            crc, since = 0, index
        tick()
    return Verdict(max(0, last - begin + 1))


def reasons(info: SessionInfo, world: Any, config: Any, weights: dict[str, str]) -> list[str]:
    """What is not as it was when the session was recorded."""
    now = runtime_of(world.device, str(world.dtype).removeprefix("torch."))
    found = [f"other weights of the {part}" for part in info.weights if info.weights[part] != weights.get(part)]
    if info.world_sha256 and info.world_sha256 != world_digest(config):
        found.append("the world's file has changed")
    for name in ("torch", "device", "device_name", "dtype", "threads", "batch", "compile", "python"):
        there, here = getattr(info.runtime, name), getattr(now, name)
        if there != here:
            found.append(f"{name.replace('_', ' ')} {there} then, {here} now")
    return found


def open_world_of(
    info: SessionInfo,
    *,
    world: str | None = None,
    checkpoint: Path | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> tuple[Any, Any, dict[str, str]]:
    """The world that a session was recorded in, its config and the sha256 of its weights.

    By default on the same device, with the same number format and threads, where this machine has them. Only the
    name of the world is taken from the session, never a path. Raises UserError.
    """
    from engine.loading import fitted, open_world

    if world is None and not is_world_name(info.world):
        raise UserError(f"the session's world {info.world[:60]!r} is not a world's name; give --world")
    config = fitted(load_world(world or info.world), checkpoint)
    folder = Path(checkpoint) if checkpoint is not None else config.checkpoint_path
    place = device or info.runtime.device
    try:
        runtime.pick_device(place)
    except UserError:
        if device is not None:
            raise
        place = "auto"
    cores = runtime.available_cores()
    opened = open_world(
        config,
        checkpoint=folder,
        device=place,
        memory=info.memory,
        memory_budget=info.memory_budget,
        steps=info.steps or None,
        threads=threads or (info.runtime.threads if 1 <= info.runtime.threads <= cores else None),
        dtype=info.runtime.dtype,
    )
    return opened, config, weights_of(folder)


def weights_of(folder: Path) -> dict[str, str]:
    """sha256 of a checkpoint's parts by name."""
    return {part: entry["sha256"] for part, entry in sorted(checkpoints.read_config(folder)["files"].items())}


def run(options: ReplayOptions) -> int:
    """Do what the command line says; returns 1 where a frame differs. Raises UserError."""
    from tqdm import tqdm

    from engine.files import check_path
    from engine.video import EXTENSIONS, VideoWriter

    session = open_session(options.session)
    last = session.last if options.last is None else options.last
    if not 0 <= options.first <= last <= session.last:
        raise UserError(f"--from and --to must be within 0 to {session.last}, not {options.first} to {last}")
    if options.out is not None:
        check_path(options.out, EXTENSIONS)
    print(describe(session))
    if not options.verify and options.out is None:
        return 0
    is_world = session.info.source == "world"
    if options.verify and not is_world:
        raise UserError(
            f"session {options.session} holds pictures of {session.info.world}; only a model can be verified"
        )
    world, config, weights = None, None, dict[str, str]()
    if is_world:
        world, config, weights = open_world_of(
            session.info,
            world=options.world,
            checkpoint=options.checkpoint,
            device=options.device,
            threads=options.threads,
        )
    status = 0
    if options.verify:
        with tqdm(total=last - max(1, options.first) + 1, unit="frame", desc="verify", disable=None) as bar:
            verdict = verify(session, world, options.first, last, bar.update)
        why = reasons(session.info, world, config, weights)
        if verdict.differs is None:
            print(f"verified: {verdict.frames} frames drawn anew are the same, bit for bit")
        else:
            status = 1
            print(f"frame {verdict.differs} is the first that differs: {verdict.what}")
            print(f"possible reasons: {'; '.join(why) or 'none known; the files may have been changed'}")
    if options.out is not None:
        pictures = Pictures(
            session, world.codec if world else None, (lambda: Replayer(session, world)) if world else None
        )
        with VideoWriter(options.out, session.info.frame_rate) as video:
            for index in tqdm(range(options.first, last + 1), unit="frame", desc=options.out.name, disable=None):
                video.add(pictures.frame(index))
        print(f"saved {options.out}")
    return status


def describe(session: Session) -> str:
    """The session in one line."""
    info = session.info
    parent = f", branch of {info.parent.folder} at frame {info.parent.frame}" if info.parent else ""
    seconds = session.last / info.frame_rate
    state = "" if session.ended else ", not ended (being recorded, or cut off)"
    return (
        f"{session.folder}: {info.world}, frames 0 to {session.last} ({seconds:.0f} s), seed {info.seed}{parent}{state}"
    )
