"""Advice: variants of a step measured beside the plain one, and the code to write for those worth it."""
