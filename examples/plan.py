"""Plan inside a generated world: find the way to a picture by imagining many ways, and walk it.

``python examples/plan.py`` walks a few hidden steps in doom-plain, remembers what it sees there as the goal, goes
back, and then looks for the way by random shooting: all worlds of a batch stand at the same place, each tries other
buttons, and `snapshot` and `restore` bring all of them back before the best way's first steps are taken in earnest.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from engine.envs.registration import env_name
from engine.envs.vector import LociVectorEnv
from engine.errors import UserError
from engine.pictures import read_image, save_grid

HIDDEN = (["turn_left"] * 4) + (["forward"] * 4)
"""The way to the goal, which the planner is not told."""
NEAR = 12.0
"""Mean difference, of 255, below which two coarse pictures show the same place."""


def coarse(frames: np.ndarray) -> np.ndarray:
    """Frames uint8 (..., H, W, 3) -> means of squares of 8 pixels, float32: what counts is the place, not the grain."""
    *lead, height, width, _ = frames.shape
    return frames.reshape(*lead, height // 8, 8, width // 8, 8, 3).mean((-4, -2), dtype=np.float32)


def distance(frames: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Mean absolute difference of coarse pictures: frames (..., H, W, 3) and a goal (H, W, 3) -> (...)."""
    return np.abs(coarse(frames) - coarse(goal)).mean((-3, -2, -1))


def ways(rng: np.random.Generator, count: int, length: int, actions: int) -> np.ndarray:
    """Random ways, int (count, length): each holds one action, then another."""
    held = rng.integers(0, actions, (count, 2))
    change = rng.integers(1, length + 1, (count, 1))
    return np.where(np.arange(length) < change, held[:, :1], held[:, 1:])


def plan(env: LociVectorEnv, goal: np.ndarray, rng: np.random.Generator, length: int) -> tuple[np.ndarray, float]:
    """Try random ways of `length` steps from here; leaves the worlds as they were.

    Returns the steps of the best way up to where it is nearest to the goal, and how near that is.
    """
    tried = ways(rng, env.num_envs, length, int(env.single_action_space.n))  # type: ignore[attr-defined]
    here = env.snapshot()
    far = np.stack([distance(env.step(tried[:, t])[0], goal) for t in range(length)], 1)  # (worlds, steps)
    env.restore(here)
    best, step = np.unravel_index(far.argmin(), far.shape)
    return tried[best, : step + 1], float(far[best, step])


def walk(env: LociVectorEnv, steps: Sequence[int] | np.ndarray) -> np.ndarray:
    """Take the same steps in all worlds; returns the first one's last frame."""
    for step in steps:
        frame = env.step(np.full(env.num_envs, step))[0][0]
    return frame


def search(env: LociVectorEnv, frame: np.ndarray, goal: np.ndarray, rng: np.random.Generator, options: Any) -> Any:
    """Plan, walk a part of the plan, plan again. Returns the last frame and the distances on the way."""
    found = [float(distance(frame, goal))]
    taken = 0
    while found[-1] > NEAR and taken < options.steps:
        best, promised = plan(env, goal, rng, options.length)
        if promised >= found[-1]:  # nothing brings us nearer: look from elsewhere
            best = ways(rng, 1, options.length // 2 or 1, int(env.single_action_space.n))[0]  # type: ignore[attr-defined]
        part = best[: min(options.commit, options.steps - taken)]
        frame = walk(env, part)
        taken += len(part)
        found.append(float(distance(frame, goal)))
        print(f"step {taken:3}: {found[-1]:5.1f} from the goal, the plan promised {promised:.1f}")
    return frame, found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; returns 0 where the goal was reached."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--world", default="doom-plain", help="name of a world with these buttons (doom-plain)")
    parser.add_argument("--goal", help="a picture to look for; by default what is seen after a hidden walk")
    parser.add_argument("--seed", type=int, default=0, help="picks the start, the noise and the ways that are tried")
    parser.add_argument("--ways", type=int, default=16, help="ways tried at a time, the size of the batch")
    parser.add_argument("--length", type=int, default=8, help="steps of a way")
    parser.add_argument("--commit", type=int, default=4, help="steps taken before planning again")
    parser.add_argument("--steps", type=int, default=32, help="steps taken at most")
    parser.add_argument("--memory", default="auto", help="window, full or mag")
    parser.add_argument("--checkpoint", help="folder of weights")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", help="write a picture: start, where the search ended, goal")
    options = parser.parse_args(arguments)
    for name in ("ways", "length", "commit", "steps"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be 1 or more")
    made = gym.make_vec(
        f"engine:Loci/{env_name(options.world)}-v0",
        num_envs=options.ways,
        actions=["none", "forward", "turn_left", "turn_right"],
        memory=options.memory,
        checkpoint=options.checkpoint,
        threads=options.threads,
        autoreset_mode="Disabled",
        horizon=None,
    )
    env = made.unwrapped
    assert isinstance(env, LociVectorEnv)
    rng = np.random.default_rng(options.seed)
    start = env.reset(seed=[options.seed] * options.ways)[0][0]  # the same world in every place of the batch
    if options.goal:
        goal = read_image(options.goal, *start.shape[:2])
    else:
        here = env.snapshot()
        goal = walk(env, [["none", "forward", "turn_left"].index(button) for button in HIDDEN])
        env.restore(here)
    print(f"the goal is {float(distance(start, goal)):.1f} away")
    frame, found = search(env, start, goal, rng, options)
    print("reached" if found[-1] <= NEAR else f"not reached; the nearest was {min(found):.1f}")
    if options.out:
        save_grid(Path(options.out), [[start, frame, goal]], heads=["start", "reached", "goal"])
    env.close()
    return 0 if found[-1] <= NEAR else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (UserError, gym.error.Error) as error:
        sys.exit(f"error: {error}")
