import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from engine.envs.record import RecordSession
from engine.errors import UserError
from engine.sessions.export import episode
from engine.sessions.reader import open_session
from engine.sessions.replay import Pictures, Replayer
from engine.sessions.writer import SessionWriter
from tests.support.worlds import make_world


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


def test_folders_that_are_there_already_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "play-3").mkdir()
    (tmp_path / "play-3" / "mine").write_text("from another time")
    env = RecordSession(Room(gym.spaces.Discrete(4)), tmp_path / "play")
    for _ in range(4):
        env.reset()
        env.step(0)
    env.close()
    assert env.failed is None
    assert [path.name for path in env.sessions] == ["play", "play-2", "play-4", "play-5"]
    assert all(open_session(path).last == 1 for path in env.sessions)


def test_a_session_whose_folder_cannot_be_made_is_not_among_the_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = RecordSession(Room(gym.spaces.Discrete(4)), tmp_path / "play")
    env.reset()

    def refuse(self: SessionWriter, *arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SessionWriter, "_make", refuse)
    env.reset()
    env.step(0)
    env.close()
    assert env.sessions == [tmp_path / "play"] and "no space left" in (env.failed or "")


class Shown(Room):
    """Its picture is what `render` gives: another size, or none, from the fourth step on."""

    observation_space = gym.spaces.Box(0, 1, (2,))

    def __init__(self, later: tuple[int, int, int] | None) -> None:
        super().__init__(gym.spaces.Discrete(4))
        self.later = later

    def _see(self) -> np.ndarray:
        return np.zeros(2, np.float32)

    def render(self) -> Any:
        shape = (20, 30, 3) if self.time < 4 else self.later
        return np.full(shape, self.time, np.uint8) if shape is not None else None


@pytest.mark.parametrize(
    ("later", "message"), [((40, 30, 3), r"this one is \(40, 30, 3\)"), (None, "must show pictures")]
)
@pytest.mark.timeout(60)
def test_pictures_that_change_size_or_are_missing_end_the_recording_and_not_the_environment(
    tmp_path: Path, later: tuple[int, int, int] | None, message: str
) -> None:
    env = RecordSession(Shown(later), tmp_path / "play")
    env.reset()
    for _ in range(1500):  # more than may wait for the disk
        env.step(0)
    assert re.search(message, env.failed or "")
    env.reset()
    env.step(0)
    env.close()
    assert env.sessions == [tmp_path / "play"]
    session = open_session(tmp_path / "play")
    assert [Pictures(session, None).frame(i)[0, 0, 0] for i in range(session.last + 1)] == [0, 1, 2, 3]


def test_an_environment_that_shows_no_pictures_at_a_later_start_goes_on_without_recording(tmp_path: Path) -> None:
    room = Shown(None)
    env = RecordSession(room, tmp_path / "play")
    env.reset()
    env.step(0)
    room.render = lambda: None  # type: ignore[method-assign]
    env.reset()
    env.step(0)
    env.close()
    assert env.sessions == [tmp_path / "play"] and "must show pictures" in (env.failed or "")
    with pytest.raises(UserError, match="must show pictures"):
        RecordSession(room, tmp_path / "other").reset()
