"""Crafter as a source: a survival world of square tiles, seen from above."""
