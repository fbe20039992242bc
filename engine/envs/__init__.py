"""Worlds as Gymnasium environments, and wrappers around any."""
