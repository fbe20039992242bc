"""The stages of training, one file each; see `engine.train.loop` for what they have in common."""
