"""Start a measuring process: `python -P start.py ROLE FD [FOLDER]` runs `processes` of this package.

The package is found by this file's path rather than by name, so that neither a user's file nor another
installed version can shadow it, and a Python without nncore-bench can measure, too.
"""

import os
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def load_package() -> None:
    """Import the package around this file under its own name."""
    inside = [str(PACKAGE)]
    spec = spec_from_file_location(PACKAGE.name, PACKAGE / "__init__.py", submodule_search_locations=inside)
    if spec is None or spec.loader is None:
        raise ImportError(f"{PACKAGE} is not a package")
    sys.modules[PACKAGE.name] = package = module_from_spec(spec)
    spec.loader.exec_module(package)


if __name__ == "__main__":
    load_package()
    from nncore_bench.worker.processes import main

    sys.path.insert(0, str(Path.cwd()))  # for the user's modules, now that torch and ours are imported
    main(*sys.argv[1:])
    os._exit(0)  # nothing is left to save, and some libraries' clean-up prints what it leaks
