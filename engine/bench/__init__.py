"""Measures of a world: how well it obeys and how sharp it stays (`quality`), and how fast it is (`speed`)."""
