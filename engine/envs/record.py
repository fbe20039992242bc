"""Records any Gymnasium environment that shows pictures: each episode becomes a session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from engine.errors import UserError
from engine.session_info import info_of_source
from engine.session_record import SessionRecorder
from engine.session_writer import Drawn


class RecordSession(gym.Wrapper[Any, Any, Any, Any]):
    """Write each episode of `env` as a session of pictures into FOLDER, FOLDER-2, FOLDER-3, ...

    The environment's observation, or else what its `render` gives, must be a picture uint8 (H, W, 3). Its action
    space is MultiBinary, one for each button, or Discrete, of which action n is button n. What cannot be written ends
    the recording, never the environment: see `failed`.

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
        self.sessions: list[Path] = []
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

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset, and begin a new session."""
        self._end()
        seen, info = self.env.reset(seed=seed, options=options)
        frame = self._picture(seen)
        if self.failed is None:
            name = self.env.spec.id.replace("/", "-") if self.env.spec else type(self.env.unwrapped).__name__
            rate = float(self.env.metadata.get("render_fps") or 30)
            described = info_of_source(
                name, self._buttons, *frame.shape[:2], frame_rate=rate, seed=abs(int(seed or 0)) % 2**63
            )
            count = len(self.sessions) + 1
            folder = self._folder if count == 1 else self._folder.with_name(f"{self._folder.name}-{count}")
            start = (frame[None], np.zeros((1, len(self._buttons)), np.uint8))
            self._recorder = SessionRecorder(
                folder, described, start=start, fail=self._fail, video=self._video, wait=count == 1
            )
            self.sessions.append(folder)
        return seen, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and record it."""
        seen, reward, terminated, truncated, info = self.env.step(action)
        if self._recorder is not None:
            if isinstance(self.env.action_space, gym.spaces.Discrete):
                pressed = np.eye(len(self._buttons), dtype=np.uint8)[int(action)]
            else:
                pressed = np.array(action, np.uint8)
            result = (float(reward), bool(terminated), bool(truncated))
            self._recorder.add(Drawn(pressed, self._picture(seen), result=result))
        return seen, reward, terminated, truncated, info

    def close(self) -> None:
        """End the recording, and close the environment."""
        self._end()
        super().close()

    def _end(self) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.close()

    def _fail(self, message: str) -> None:
        self.failed = message

    def _picture(self, seen: Any) -> np.ndarray:
        frame = seen if isinstance(seen, np.ndarray) and seen.ndim == 3 else self.env.render()
        if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise UserError("to be recorded, an environment must show pictures: uint8 (height, width, 3)")
        return np.array(frame)
