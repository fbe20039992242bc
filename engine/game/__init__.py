"""The player's window: keys in, generated frames out. pygame and nothing else of the outside world."""
