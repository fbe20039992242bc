"""A simulator that is played as a world; what it has in common with other worlds is in tests/game/test_contracts.py."""

import numpy as np
import pytest

from engine.game.game import Game
from engine.sources import make_source
from engine.sources.playable import SourceWorld
from tests.support.fake_stairs import LONGEST, stairs


def test_an_episode_that_was_cut_off_is_followed_by_the_next_map() -> None:
    played = SourceWorld(make_source(stairs()))
    assert (played.reset(1)[0, 0, 0, 2], played.stats()["frames"]) == (121, 0)
    for _ in range(LONGEST):
        played.render(np.array([[0, 0]]))
        played.commit()
    assert played.render(np.array([[0, 1]]))[0, 0, 0, 2] == 122 and played.rewards == [-20.0, 0.0]
    assert played.render(np.array([[0, 1]]))[0, 0, 0, 2] == 123 and played.rewards == [-20.0, 2.5]


def test_there_is_nothing_to_go_back_to() -> None:
    game = Game(SourceWorld(make_source(stairs())), {"start": np.zeros((48, 64, 3), np.uint8)})
    game.restart()
    for _ in range(9):
        game.render(["up"])
        game.commit()
    assert game.rewind() is None
    with pytest.raises(ValueError, match="a simulator cannot be saved or loaded"):
        game.save()
