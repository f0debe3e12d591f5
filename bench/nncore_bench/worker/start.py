"""Start what measures: `python -P start.py ROLE FD [FOLDER]` runs `processes` of the package around it.

By the place of the file and not by a name, so that neither a file of the user's nor another installed version
comes before it, and a Python that has no nncore-bench can measure, too.
"""

import os
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def load_package() -> None:
    """Make the package importable under its name, from where it lies."""
    inside = [str(PACKAGE)]
    spec = spec_from_file_location(PACKAGE.name, PACKAGE / "__init__.py", submodule_search_locations=inside)
    if spec is None or spec.loader is None:
        raise ImportError(f"{PACKAGE} holds no package")
    sys.modules[PACKAGE.name] = package = module_from_spec(spec)
    spec.loader.exec_module(package)


if __name__ == "__main__":
    load_package()
    from nncore_bench.worker.processes import main

    sys.path.insert(0, str(Path.cwd()))  # the user's own modules, now that torch and all of ours are imported
    main(*sys.argv[1:])
    os._exit(0)  # nothing is left to save, and the libraries' own clean-up prints what it leaks
