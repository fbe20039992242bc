"""Recorded play: stored, read, written, replayed, branched and exported."""
