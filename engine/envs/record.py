"""Records any Gymnasium environment that shows pictures: each episode becomes a session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from engine.errors import UserError
from engine.inputs import counted
from engine.sessions.info import info_of_source
from engine.sessions.recorder import SessionRecorder
from engine.sessions.store import free_name
from engine.sessions.writer import Drawn
from engine.sources.contract import is_exclusive


class RecordSession(gym.Wrapper[Any, Any, Any, Any]):
    """Write each episode of `env` as a session of pictures into FOLDER, FOLDER-2, FOLDER-3, ...

    The environment's observation, or else what its `render` gives, must be a picture uint8 (H, W, 3). Its action
    space is MultiBinary, one for each button, or Discrete, of which action n is button n; where the environment has
    ``exclusive = True``, only the last of several held buttons is written. What cannot be written ends
    the recording, never the environment: see `failed`. Of the further folders, those that are there are skipped.

    Args:
        env: the environment.
        folder: of the first episode; must not exist.
        buttons: names; by default those of the environment, or else ``action_0``, ``action_1``, ...
        video: whether each session gets a video as well.
    """

    def __init__(
        self, env: gym.Env[Any, Any], folder: str | Path, buttons: tuple[str, ...] | None = None, *, video: bool = False
    ) -> None:
        super().__init__(env)
        self.failed: str | None = None
        space = env.action_space
        if isinstance(space, gym.spaces.MultiBinary) and len(space.shape) == 1:
            count = int(space.shape[0])
        elif isinstance(space, gym.spaces.Discrete) and space.start == 0:
            count = int(space.n)
        else:
            raise UserError(f"only environments with MultiBinary or Discrete actions can be recorded, not {space}")
        if buttons is None:
            named = env.get_wrapper_attr("buttons") if env.has_wrapper_attr("buttons") else None
            buttons = tuple(named) if named else tuple(f"action_{i}" for i in range(count))
        if len(buttons) != count:
            raise UserError(f"{len(buttons)} buttons were named, the environment has {count} actions")
        self._folder, self._buttons, self._video = Path(folder), buttons, video
        self._recorder: SessionRecorder | None = None
        self._all: list[SessionRecorder] = []

    @property
    def sessions(self) -> list[Path]:
        """Folders of the sessions so far."""
        return [recorder.folder for recorder in self._all if recorder.made]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset, and begin a new session."""
        self._end()
        seen, info = self.env.reset(seed=seed, options=options)
        if self.failed is None:
            try:
                self._begin(seen, seed)
            except Exception as error:
                if not self._all:
                    raise  # nothing at all can be recorded
                self._fail(str(error) or repr(error))
        return seen, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and record it."""
        seen, reward, terminated, truncated, info = self.env.step(action)
        if self._recorder is not None and self.failed is None:
            try:
                self._add(self._recorder, seen, action, (float(reward), bool(terminated), bool(truncated)))
            except Exception as error:
                self._fail(str(error) or repr(error))
                self._recorder.end()
        return seen, reward, terminated, truncated, info

    def close(self) -> None:
        """End the recording, and close the environment."""
        self._end()
        super().close()

    def _begin(self, seen: Any, seed: int | None) -> None:
        frame = self._picture(seen)
        name = self.env.spec.id.replace("/", "-") if self.env.spec else type(self.env.unwrapped).__name__
        rate = float(self.env.metadata.get("render_fps") or 30)
        described = info_of_source(
            name, self._buttons, *frame.shape[:2], frame_rate=rate, seed=abs(int(seed or 0)) % 2**63
        )
        folder = free_name(self._folder, [recorder.folder for recorder in self._all])
        start = (frame[None], np.zeros((1, len(self._buttons)), np.uint8))
        self._recorder = SessionRecorder(
            folder, described, start=start, fail=self._fail, video=self._video, wait=not self._all
        )
        self._all.append(self._recorder)

    def _add(self, recorder: SessionRecorder, seen: Any, action: Any, result: tuple[float, bool, bool]) -> None:
        frame, expected = self._picture(seen), (recorder.info.height, recorder.info.width, 3)
        if frame.shape != expected:
            raise UserError(f"{recorder.folder}: the pictures were {expected}, this one is {frame.shape}")
        if isinstance(self.env.action_space, gym.spaces.Discrete):
            pressed = np.eye(len(self._buttons), dtype=np.uint8)[int(action)]
        else:
            pressed = np.array(action, np.uint8)
        recorder.add(Drawn(counted(pressed, is_exclusive(self.env)), frame, result=result))

    def _end(self) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.close()

    def _fail(self, message: str) -> None:
        if self.failed is None:
            self.failed = message

    def _picture(self, seen: Any) -> np.ndarray:
        frame = seen if isinstance(seen, np.ndarray) and seen.ndim == 3 else self.env.render()
        if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise UserError("to be recorded, an environment must show pictures: uint8 (height, width, 3)")
        return np.array(frame)
