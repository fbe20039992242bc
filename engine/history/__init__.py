"""What a world remembers: keys and values of frames, a policy a mode, folding, cold storage, recall."""
