"""Doom as a source: ViZDoom on maps that a seed makes."""
