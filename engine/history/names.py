"""The memory modes by name. Nothing large is imported here: command lines ask for them before torch is loaded."""

from typing import Literal

Mode = Literal["window", "full", "mag"]
MODES: tuple[Mode, ...] = ("window", "full", "mag")
"""See `engine.history.modes`, which has a policy for each."""
