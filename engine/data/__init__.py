"""Training data: who plays, what is kept of it in shards, and clips drawn from it."""
