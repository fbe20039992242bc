"""An agent that learns inside a generated world and is measured in the real task: ``python examples/dream.py``.

From a Gymnasium environment, by the project's own commands, a world with reward and termination is made of frames of
random play. PPO (Stable-Baselines3) then learns in that world alone. Beside it, PPO learns in the real task, from as
many frames as the world was made of; and a policy plays at random. All are measured in the real task, on seeds that
none of them has seen. Everything lies in --out; a run that was stopped goes on there with the stage that was not done,
and one that is whole is only measured and drawn again. Needs the extras rl, train and envs.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from engine import cli, runtime
from engine.config import load_world
from engine.errors import UserError
from engine.sources.splits import SPLITS

ENVS = 16
"""Worlds that the agent dreams at once, and real environments that the other one plays at once."""
GRID = ("--make-option", "highlight=false", "--buttons", *"left right forward none none none none".split())
TASKS: dict[str, tuple[str, ...]] = {
    "MiniGrid-Empty-Random-6x6-v0": GRID,
    "MiniGrid-LavaGapS5-v0": GRID,
    "MiniGrid-LavaGapS6-v0": GRID,
    "VizdoomBasic-v1": ("--make-option", "frame_skip=4", "--region", "0", "0.32", "1", "0.72"),
}
"""What `engine new` is told of a task, beside its id."""
LOOKS, LOOK_EPISODES = 10, 20
"""Measurements while an agent learns, and episodes of each."""
LABELS = {"dream": "PPO in the dream alone", "real": "PPO in the real task", "random": "at random"}


@dataclass(frozen=True)
class Args:
    """Learn in a generated world, measure in the real task."""

    out: Path = Path("runs/dream")
    """folder of everything that is made"""
    env: str = "MiniGrid-LavaGapS5-v0"
    """the real task"""
    preset: str = "pico"
    """size of the world"""
    frames: int = 20_000
    """real frames of random play that the world is made of"""
    starts: int = 64
    """real first frames, beside these, that the agent's dreams begin with"""
    horizon: int = 100
    """steps after which an episode is cut off, in the dream and in the real task"""
    codec_steps: int = 200
    generator_steps: int = 600
    heads_steps: int = 300
    dream_steps: int = 100_000
    """steps of PPO in the generated world"""
    episodes: int = 100
    """real episodes of the last measurement"""
    seed: int = 0
    """of everything"""
    threads: int | None = None
    """of one operation on the CPU"""
    plot: Path | None = None
    """also write the curves here, a PNG"""


@dataclass(frozen=True)
class Score:
    """Returns of episodes in the real task: their mean, with a 95 % interval (bootstrap)."""

    mean: float
    low: float
    high: float
    returns: tuple[float, ...]


def score_of(returns: list[float], seed: int = 0) -> Score:
    """Mean and interval of the returns."""
    values = np.array(returns)
    drawn = np.random.default_rng(seed).choice(values, (10_000, len(values))).mean(1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Score(float(values.mean()), float(low), float(high), tuple(float(value) for value in values))


class Dream:
    """The stages, each of which leaves a file that says it is done."""

    def __init__(self, args: Args) -> None:
        for name, value in asdict(args).items():
            if isinstance(value, int) and value < (name != "seed"):
                raise UserError(f"--{name.replace('_', '-')} must be {int(name != 'seed')} or more, not {value}")
        if args.episodes + LOOK_EPISODES > len(SPLITS["test"]):
            raise UserError(f"--episodes must be at most {len(SPLITS['test']) - LOOK_EPISODES}, not {args.episodes}")
        self.args, self.out = args, args.out.absolute()
        self.name = re.sub(r"[^a-z0-9]+", "-", args.env.lower()).strip("-")
        self.world, self.data, self.weights = self.out / f"{self.name}.toml", self.out / "data", self.out / "run"
        self.out.mkdir(parents=True, exist_ok=True)
        own = {name: value for name, value in asdict(args).items() if name not in ("out", "plot", "threads")}
        settings = self.out / "settings.json"
        if settings.exists() and json.loads(settings.read_text()) != own:
            raise UserError(f"{self.out} was made with other settings; choose another --out")
        settings.write_text(json.dumps(own, indent=1))

    def make_world(self) -> None:
        """New, collect, starts, codec, generator, heads: the project's commands."""
        args, world, data, run = self.args, str(self.world), str(self.data), str(self.weights)
        if not self.world.exists():
            naming = TASKS.get(args.env, ())
            command("new", args.env, "--name", self.name, "--preset", args.preset, "--folder", str(self.out), *naming)
        seed = ("--seed", str(args.seed))
        length = ("--episode-length", str(args.horizon), "--policy", "uniform")
        command("collect", world, "--frames", str(args.frames), "--out", data, *length, *seed)
        first = ("--split", "train", "--walk", "0", "--seed", str(900_000 + args.seed * args.starts))
        begun = self.out / "starts"
        if len(list(begun.glob("*.png"))) < args.starts:
            command("starts", world, "--count", str(args.starts), "--out", str(begun), *first)
        text = self.world.read_text()
        if str(begun) not in text:
            line = next(line for line in text.splitlines() if line.startswith("starts = "))
            self.world.write_text(text.replace(line, f"starts = {json.dumps(str(begun))}"))
        common = [world, "--data", data, "--run", run, "--minutes", "600", *seed]
        if args.threads is not None:
            common += ["--threads", str(args.threads)]
        small = ("--batch", "16", "--warmup", "100", "--ema", "0.99", "--old", "1")
        cool = max(1, args.generator_steps // 4)
        command("train", "codec", *common, "--steps", str(args.codec_steps))
        command("train", "generator", *common, *small, "--steps", str(args.generator_steps - cool))
        command("train", "generator", *common, *small, "--cooldown", str(cool))
        command("train", "heads", *common, "--steps", str(args.heads_steps))

    def learn(self, name: str, make: Callable[[], Any], steps: int) -> list[dict[str, float]]:
        """PPO in the environments of `make` for `steps` steps, measured in the real task on the way."""
        from stable_baselines3 import PPO
        from stable_baselines3.common.logger import Logger
        from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

        path, curve = self.out / f"{name}.zip", self.out / f"{name}.json"
        if path.exists() and curve.exists():
            return json.loads(curve.read_text())
        env = VecNormalize(VecMonitor(make()), norm_obs=False, norm_reward=True, gamma=0.97)
        model = PPO(
            "CnnPolicy",
            env,
            n_steps=64,
            batch_size=256,
            n_epochs=4,
            gamma=0.97,
            learning_rate=lambda left: 5e-4 * max(0.1, left),
            ent_coef=0.01,
            seed=self.args.seed,
            device="cpu",
        )
        model.set_logger(Logger(folder=None, output_formats=[]))  # its own would leave a temporary folder
        watch = watcher(self, steps)
        began = time.perf_counter()
        model.learn(steps, callback=watch)
        env.close()
        seconds = time.perf_counter() - began
        print(f"{name}: {model.num_timesteps} steps in {seconds:.0f} s, {model.num_timesteps / seconds:.0f} a second")
        model.save(path)
        curve.write_text(json.dumps(watch.curve))
        return watch.curve

    def real(self) -> Any:
        """The real task under the spaces of the generated world."""
        from engine.envs.source import SourceEnv

        return SourceEnv(self.world, actions="discrete", horizon=self.args.horizon)

    def reals(self) -> Any:
        """Several of them, seeded."""
        from stable_baselines3.common.vec_env import DummyVecEnv

        env = DummyVecEnv([self.real] * ENVS)
        env.seed(self.args.seed)
        return env

    def dreams(self) -> Any:
        """Generated worlds for Stable-Baselines3."""
        from engine.envs.sb3 import LociVecEnv

        env = LociVecEnv(
            self.world,
            ENVS,
            checkpoint=self.weights,
            actions="discrete",
            horizon=self.args.horizon,
            memory="window",
            threads=self.args.threads,
        )
        env.seed(self.args.seed)
        return env

    def measure(self, act: Callable[[np.ndarray], int], episodes: int, first: int = 0) -> list[float]:
        """Returns of real episodes on test maps, from map `first` on."""
        env, returns = self.real(), []
        for number in range(first, first + episodes):
            seen, _ = env.reset(seed=number, options={"map_seed": SPLITS["test"][number]})
            total, over = 0.0, False
            while not over:
                seen, reward, terminated, truncated, _ = env.step(act(seen))
                total, over = total + reward, terminated or truncated
            returns.append(total)
        env.close()
        return returns

    def player(self, model: Any) -> Callable[[np.ndarray], int]:
        """The policy's actions, drawn by random numbers of their own."""
        from engine.data.policies import sampled

        rng = np.random.default_rng(self.args.seed)
        return lambda seen: int(sampled(model, seen, rng))


def command(*words: str) -> None:
    """Do what ``python -m engine ...`` does, and show it."""
    print("$ python -m engine", *words, flush=True)
    cli.main(words)


def watcher(dream: Dream, steps: int) -> Any:
    """A callback of Stable-Baselines3 that measures the policy in the real task now and then."""
    from stable_baselines3.common.callbacks import BaseCallback

    class Watch(BaseCallback):
        curve: list[dict[str, float]]

        def _init_callback(self) -> None:
            self.curve = []

        def _on_rollout_start(self) -> None:
            if self.num_timesteps >= len(self.curve) * steps / LOOKS:
                self._look()

        def _on_training_end(self) -> None:
            self._look()

        def _on_step(self) -> bool:
            return True

        def _look(self) -> None:
            first = dream.args.episodes  # not the episodes of the last measurement
            returns = dream.measure(dream.player(self.model), LOOK_EPISODES, first)
            lived = [episode["r"] for episode in self.model.ep_info_buffer or ()]
            self.curve.append({"steps": self.num_timesteps, "real": float(np.mean(returns))})
            own = f", {np.mean(lived):.3f} where it learns" if lived else ""
            print(f"  {self.num_timesteps} steps: {np.mean(returns):.3f} in the real task{own}", flush=True)

    return Watch()


def draw(path: Path, curves: dict[str, list[dict[str, float]]], scores: dict[str, Score], args: Args) -> None:
    """Learning curves in the real task, and the last scores with their intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2.2, 1))
    colors = {"dream": "tab:blue", "real": "tab:orange", "random": "tab:gray"}
    for name, curve in curves.items():
        left.plot([p["steps"] for p in curve], [p["real"] for p in curve], "o-", color=colors[name], label=LABELS[name])
    left.axhline(scores["random"].mean, color=colors["random"], ls=":", label=LABELS["random"])
    left.axvline(args.frames + args.starts, color="black", lw=0.8, ls="--")
    left.set(
        xlabel=f"steps (dreamt, or real; dashed: all {args.frames + args.starts:,} real frames)",
        ylabel="return in the real task",
    )
    left.set_title(args.env, fontsize=10)
    left.legend(fontsize=8)
    for place, (name, score) in enumerate(scores.items()):
        spread = [[score.mean - score.low], [score.high - score.mean]]
        right.bar(place, score.mean, color=colors[name], yerr=spread, capsize=4)
    right.set_xticks(range(len(scores)), list(scores))
    right.set_title(f"{args.episodes} episodes on new seeds, 95 %", fontsize=10)
    figure.savefig(path, dpi=90)


def main(args: Args) -> None:
    """Run everything that is not done yet; print, and write result.json and curves.png."""
    runtime.setup(args.threads)
    dream = Dream(args)
    dream.make_world()
    curves = {
        "dream": dream.learn("dream", dream.dreams, args.dream_steps),
        "real": dream.learn("real", dream.reals, args.frames + args.starts),
    }
    from stable_baselines3 import PPO

    rng, actions = np.random.default_rng(args.seed), len(load_world(dream.world).buttons) + 1
    players: dict[str, Callable[[np.ndarray], int]] = {"random": lambda seen: int(rng.integers(actions))}
    players |= {name: dream.player(PPO.load(dream.out / f"{name}.zip", device="cpu")) for name in ("dream", "real")}
    scores = {}
    for name, act in players.items():
        scores[name] = score_of(dream.measure(act, args.episodes))
        print(f"{LABELS[name]}: {scores[name].mean:.3f} [{scores[name].low:.3f}, {scores[name].high:.3f}]")
    floor, top = scores["random"].mean, scores["real"].mean
    share = (scores["dream"].mean - floor) / (top - floor) if top != floor else float("nan")
    print(f"the dream's agent has {share:.0%} of what real frames gave (0 %: random)")
    result = {"settings": json.loads((dream.out / "settings.json").read_text()), "share": share, "curves": curves}
    result["scores"] = {name: asdict(score) for name, score in scores.items()}
    (dream.out / "result.json").write_text(json.dumps(result, indent=1))
    for path in (dream.out / "curves.png", args.plot):
        if path is not None:
            draw(path, curves, scores, args)


if __name__ == "__main__":
    given = tyro.cli(Args)
    sys.exit(cli.guarded(lambda: main(given)))
