"""What the benches are asked for. Read before torch is loaded: nothing large is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from engine.history.names import MODES

TASKS = ("spin", "there-and-back", "loop")
"""Walks that leave places and come back to them, see `engine.bench.revisit.tasks`."""
TILE_TASKS = ("errand",)
"""The same in worlds of tiles seen from above, see `engine.bench.revisit.errand`."""
HISTORIES = ("truth", "generated")
"""What is remembered before a return: the simulator's frames, or the world's own."""


@dataclass
class BenchOptions:
    """Options of every bench that opens a world."""

    world: tyro.conf.Positional[str]
    """World, or path of a world's TOML file."""
    checkpoint: Path | None = None
    """Folder of weights; the world's own by default."""
    memory_budget: int | None = None
    """Tokens of folded history that a frame sees in mode mag; the memory model's own by default."""
    recall: str = "relevance"
    """Which folds a frame sees in mode mag: relevance, recent (the newest) or random, for comparisons."""
    steps: int | None = None
    """Passes a frame; the checkpoint's own by default."""
    seed: int = 0
    """Picks the test maps, the walks, the start frame and the noise."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    dtype: str = "auto"
    """Number format: auto, fp32, bf16 or fp16."""
    threads: int | None = None
    """Threads of one operation."""
    json: Path | None = None
    """Write the figures here; the plot goes beside it."""
    plot: Path | None = None
    """Write the plot here, a PNG."""


@dataclass
class QualityOptions(BenchOptions):
    """Compare a world with its simulator under the same actions, on maps that no training has seen."""

    episodes: int = 16
    """Test maps, one episode each."""
    frames: int = 128
    """Frames to generate in an episode."""
    history: int = 8
    """Real frames before them."""
    memory: str = "window"
    """How the world remembers: window, full or mag."""
    drift_frames: int = 1000
    """Frames of the long walk; 0 leaves it out."""
    drift_worlds: int = 8
    """Test maps of the long walk."""
    probe_frames: int = 12000
    """Real frames that the probe learns from; 0 leaves action following out."""
    batch: int = 16
    """Episodes at the same time."""
    tile_frames: int = 20000
    """Worlds of tiles: real test frames whose tiles the drawn ones are held against; 0 leaves crispness out."""
    play_frames: int = 2000
    """Worlds of tiles: frames of free play in which crispness is measured."""
    play_worlds: int = 16
    """Worlds of tiles: test maps of that play."""
    effect_states: int = 50
    """Worlds of tiles: states for each button, from which its effect is measured; 0 leaves effects out."""
    survey_worlds: int = 200
    """Worlds of tiles: test maps on which materials, creatures and rates are counted; 0 leaves that out."""
    survey_frames: int = 300
    """Worlds of tiles: frames on each of them."""
    sheet: Path | None = None
    """Write real beside generated frames here, a PNG, and the long walk beside it, as NAME-drift.png."""


@dataclass
class RevisitOptions(BenchOptions):
    """Leave places and come back: how well does the picture match what was there, by memory mode and gap?"""

    tasks: str = ""
    """Walks: spin, there-and-back, loop, or errand in worlds of tiles; by default all that the world has."""
    gaps: str = "64,256"
    """Frames, 16 or more, between leaving a place and seeing it again."""
    modes: str = ",".join(MODES)
    """Memory modes."""
    history: str = "truth"
    """Before the return: truth, generated, or both with a comma."""
    episodes: int = 100
    """Test maps for each task and gap, one episode each."""
    scored: int = 8
    """Frames of a return that are scored, 1 to 12."""
    batch: int = 16
    """Episodes at the same time; fewer where memory would not hold them."""
    true_poses: bool = False
    """Tell the world where real frames were seen from, in errands; else it has to find that out."""
    video: Path | None = None
    """Write truth and modes side by side here, an mp4 or gif."""
    sheet: Path | None = None
    """Write pictures of returns here, a PNG."""


@dataclass
class MagbenchOptions:
    """Compare generated videos with MAG-Bench's own after the camera has turned back."""

    csv: Path
    """MAG-Bench's list of videos."""
    truth: Path
    """Folder that the list's paths start from: the real videos."""
    generated: Path
    """Folder with a generated video under the same path for each real one."""
    flip: bool = True
    """Measure FLIP too, the slowest."""
    json: Path | None = None
    """Write the figures here."""


@dataclass
class SpeedOptions(BenchOptions):
    """Time a world from key to pixels, against history length and batch size."""

    frames: int = 1000
    """Frames timed in play: one world, in the first memory mode named."""
    repeats: int = 3
    """Times that this play is timed: it is the same play, so that a frame that is slow every time is the engine's
    fault, and one that is slow once the machine's."""
    history: str = "100,1000"
    """Lengths of history at which the modes full and mag are timed, in frames."""
    batches: str = "1,4,16"
    """Numbers of worlds at the same time."""
    memory: str = "window,full"
    """Memory modes: window, full, and mag where the checkpoint has a memory model or places."""
