"""Callbacks of one line for the trainers of other packages; each is a Watch and nothing else."""
