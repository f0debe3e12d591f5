"""Watching a training step from outside: its phases, and the seams where they begin and end."""
