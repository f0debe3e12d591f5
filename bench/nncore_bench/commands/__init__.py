"""The commands of `nncore-bench`: a module for each, with its arguments, its run and its exit codes.

What a run needs is imported when it runs: pandas takes a second, and `--help` and a mistyped option must
answer at once.
"""
