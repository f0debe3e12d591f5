"""Let `pytest --pyargs nncore_bench` find the suite, with its options, from any folder.

pytest asks the conftest of a folder for its options before it reads its arguments, and that of a package that
is named only when it collects, which is too late. This plugin, which pytest loads by its entry point, tells
it where the suite lies; it does nothing else.
"""

from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent
SUITE = PACKAGE.parent if (PACKAGE.parent / "test_phases.py").exists() else PACKAGE.parent / "bench"
"""The folder of `conftest.py` and the tests: around the package in a checkout, beside it where installed."""


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Have pytest load the suite's conftest where the package is named."""
    known = early_config.known_args_namespace
    if known.pyargs:
        known.file_or_dir = [place_of(name) for name in known.file_or_dir]


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Have pytest collect the suite there, too."""
    if config.option.pyargs:
        config.args[:] = [place_of(name) for name in config.args]


def place_of(name: str) -> str:
    """Return the suite's folder or its test for the name of the package, and any other name as it is."""
    module, separator, rest = name.partition("::")
    if module != PACKAGE.name:
        return name
    return f"{SUITE / 'test_phases.py'}{separator}{rest}" if separator else str(SUITE)
