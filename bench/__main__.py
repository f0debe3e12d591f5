"""`python -m bench COMMAND` is `nncore-bench COMMAND`, where no `bench` of the user's is in the way."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # the package beside this file, if there is one, comes first

from nncore_bench.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
