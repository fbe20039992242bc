"""What every test runs under: no window, no sound, sleeping threads, the same random examples."""

import os

from hypothesis import settings

from engine import runtime

os.environ["SDL_VIDEODRIVER"] = "dummy"
os.environ["SDL_AUDIODRIVER"] = "dummy"
runtime.setup()  # before any test imports torch

settings.register_profile("loci", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("loci")
