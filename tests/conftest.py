"""What holds for every test: warnings are errors, torch has one thread, and tests of a GPU need one."""

import gc
import sys
from functools import cache
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Turn warnings into errors here, and not in the suite: there a library's warning must not end a run."""
    ours = [item for item in items if item.path.is_relative_to(Path(__file__).parent)]
    for item in ours:
        item.add_marker(pytest.mark.filterwarnings("error"), append=False)


def pytest_collection_finish() -> None:
    """Keep what was imported from the garbage collector, as workers do: counting a case calls it often."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test of CUDA where there is none, and begin all others with one thread of torch.

    Threads wait for each other busily: where others use the cores, small operators take 20 times as long.
    """
    if torch := sys.modules.get("torch"):  # most tests get along without it
        torch.set_num_threads(1)
    if item.get_closest_marker("cuda") and not has_cuda():
        pytest.skip("no CUDA device was found")


@cache
def has_cuda() -> bool:
    """Return whether torch sees a CUDA device."""
    import torch  # noqa: PLC0415 - most tests get along without it

    return torch.cuda.is_available()
