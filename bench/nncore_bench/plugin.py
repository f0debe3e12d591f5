"""Let `pytest --pyargs nncore_bench` find the suite, with its options, from any folder.

pytest loads the conftest of a folder before it parses options, but that of a package only during collection,
which is too late. This plugin, loaded by its entry point, replaces the package's name by the suite's folder.
"""

from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent
SUITE = PACKAGE.parent if (PACKAGE.parent / "test_phases.py").exists() else PACKAGE.parent / "bench"
"""The folder of `conftest.py` and the tests: around the package in a checkout, beside it once installed."""


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Make pytest load the suite's conftest if the package is named."""
    known = early_config.known_args_namespace
    if known.pyargs:
        known.file_or_dir = [path_of(name) for name in known.file_or_dir]


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Make pytest collect the suite there, too."""
    if config.option.pyargs:
        config.args[:] = [path_of(name) for name in config.args]


def path_of(name: str) -> str:
    """Return the suite's folder or test for the package's name, and any other name unchanged."""
    module, separator, rest = name.partition("::")
    if module != PACKAGE.name:
        return name
    return f"{SUITE / 'test_phases.py'}{separator}{rest}" if separator else str(SUITE)
