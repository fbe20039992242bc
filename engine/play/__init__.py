"""What ``play.py`` does: its options, what it opens, and how it runs."""
