"""The commands of `nncore-bench`, one module each.

`add_arguments` declares the arguments; `run` executes the command, prints its output and returns the answer.
Imports happen in `run`: pandas takes a second, and `--help` and a mistyped option must answer at once.
"""
