"""Findings: checks of what slows a step down, each with its evidence and what to do."""
