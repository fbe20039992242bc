"""What a world remembers: the key/value cache and its modes, folding, cold storage."""
