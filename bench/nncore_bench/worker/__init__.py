"""Processes that measure. torch is imported here and nowhere else; the parent imports `messages` alone."""
