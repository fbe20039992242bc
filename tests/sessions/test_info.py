"""What a session says of its world."""

import hashlib
from dataclasses import replace

from engine.config import Geometry, WorldConfig
from engine.sessions.info import world_digest

CONFIG = WorldConfig(title="x", preset="nano", source="doom", checkpoint="c", buttons=("a", "b"))
TEXT = """title = "x"
preset = "nano"
source = "doom"
checkpoint = "c"
buttons = ["a", "b"]
frame_rate = 12.0
starts = ""
field_of_view = 0.0

[keys]

[odometry]

[source_options]
"""


def test_a_world_that_says_nothing_new_keeps_the_digest_that_old_sessions_hold() -> None:
    def digest(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()

    assert world_digest(CONFIG) == digest(TEXT)
    seen = replace(CONFIG, geometry=Geometry(view="first-person", step=24.0))
    assert world_digest(seen) == digest(TEXT + '\n[geometry]\nview = "first-person"\nstep = 24.0\nsnap = false\n')


def test_all_that_a_world_says_is_in_its_digest() -> None:
    above = [Geometry(view="top", player=(1, column), still_rows=rows) for column in (0, 1) for rows in (0, 1)]
    worlds = [replace(CONFIG, geometry=geometry) for geometry in (None, *above)]
    assert len({world_digest(world) for world in (*worlds, replace(CONFIG, exclusive=True))}) == 6
