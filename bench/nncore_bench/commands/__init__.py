"""The commands of `nncore-bench`: a module for each, with its help, its arguments, and its run.

`add_arguments` declares what is typed; `run` does it, says what a user reads, and returns the answer. What a
run needs is imported when it runs: pandas takes a second, and `--help` and a mistyped option must answer at
once.
"""
