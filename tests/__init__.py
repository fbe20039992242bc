"""A package, and not a mere folder: some installed packages bring one of the same name, and would win."""
