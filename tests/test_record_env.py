from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from engine.envs.record import RecordSession
from engine.errors import UserError
from engine.session import open_session
from engine.session_export import episode
from engine.session_replay import Pictures, Replayer
from tests.test_world import make_world


class Room(gym.Env[np.ndarray, Any]):
    """Pictures at random; the third step ends the episode."""

    observation_space = gym.spaces.Box(0, 255, (20, 30, 3), np.uint8)

    def __init__(self, actions: gym.Space[Any]) -> None:
        self.action_space = actions
        self.time = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.time = 0
        return self._see(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.time += 1
        return self._see(), 0.5, self.time == 3, False, {}

    def _see(self) -> np.ndarray:
        return self.np_random.integers(0, 256, (20, 30, 3), np.uint8)


@pytest.mark.parametrize("space", [gym.spaces.Discrete(4), gym.spaces.MultiBinary(4)])
def test_each_episode_of_an_environment_is_a_session(tmp_path: Path, space: gym.Space[Any]) -> None:
    env, seen, taken = RecordSession(Room(space), tmp_path / "play"), [], []
    space.seed(0)
    for number in range(2):
        seen.append([env.reset(seed=number)[0]])
        taken.append([space.sample() for _ in range(3)])
        seen[-1] += [env.step(action)[0] for action in taken[-1]]
    env.close()
    assert env.sessions == [tmp_path / "play", tmp_path / "play-2"] and env.failed is None
    for number, path in enumerate(env.sessions):
        session = open_session(path)
        entry = episode(session, Pictures(session, None), whole=False)
        assert np.array_equal(entry.frames, seen[number]) and entry.rewards.tolist() == [0.5] * 3
        assert entry.over and not entry.cut and session.info.seed == number
        chosen = entry.actions.argmax(1) if isinstance(space, gym.spaces.Discrete) else entry.actions
        assert np.array_equal(chosen, taken[number])
    with pytest.raises(UserError, match="no world to go on in"):
        Replayer(session, make_world())


def test_an_environment_that_cannot_be_recorded_says_why(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="MultiBinary or Discrete"):
        RecordSession(Room(gym.spaces.Box(0, 1, (2,))), tmp_path / "play")
    with pytest.raises(UserError, match="2 buttons were named"):
        RecordSession(Room(gym.spaces.Discrete(4)), tmp_path / "play", ("a", "b"))
