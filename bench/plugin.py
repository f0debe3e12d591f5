"""Let `pytest --pyargs bench` find the options of an installed suite.

pytest asks the conftest of a folder for its options before it reads its arguments, and that of a package that
is named only when it collects, which is too late. This plugin, which pytest loads by its entry point, tells
it where the package lies; it does nothing else.
"""

from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Have pytest load this package's conftest where the package, or a module of it, is named."""
    known = early_config.known_args_namespace
    if known.pyargs:
        known.file_or_dir = [place_of(name) for name in known.file_or_dir]


def place_of(name: str) -> str:
    """Return the folder or file of a module of this package, with what follows; any other name as it is."""
    module, separator, rest = name.partition("::")
    place = PACKAGE.parent.joinpath(*module.split("."))
    if module.partition(".")[0] != PACKAGE.name:
        return name
    return f"{place if place.is_dir() else place.with_suffix('.py')}{separator}{rest}"
