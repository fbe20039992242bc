"""Training: collecting frames, and one module per stage."""
