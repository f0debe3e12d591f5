"""Measure: worker processes, blocks of laps, and the campaign that conducts them.

The process that the user starts imports `campaign`, `workers`, `messages` and `machine`, which know nothing
of torch; torch is imported by `worker` and what it uses, in the processes that measure.
"""
