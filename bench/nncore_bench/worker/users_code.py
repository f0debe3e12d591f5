"""Name the line of the user's code where an error arose."""

import sysconfig
from pathlib import Path
from traceback import walk_tb

PACKAGE = Path(__file__).parent.parent
STANDARD_LIBRARY = sysconfig.get_path("stdlib")


def line_of(error: BaseException) -> str:
    """Return the last line of the user's own code in a traceback, such as `my_net.py:12`, or nothing.

    Installed packages, the standard library and this package are not the user's own.
    """
    places = [(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)]
    own = [(Path(name).name, line) for name, line in places if _is_own(name)]
    if not own and error.__cause__ is not None:
        return line_of(error.__cause__)
    return f"{own[-1][0]}:{own[-1][1]}" if own else ""


def _is_own(name: str) -> bool:
    if name.startswith("<"):  # compiled from text, as by dataclasses and torch.fx
        return False
    installed = {"site-packages", "dist-packages"} & {*Path(name).parts}
    return not (installed or name.startswith(STANDARD_LIBRARY) or Path(name).is_relative_to(PACKAGE))


def said_of(error: BaseException) -> str:
    """Return the kind of an error, the user's line and its first line of text, such as for a refusal."""
    text = next((line for line in str(error).splitlines() if line.strip()), "")
    at = f" at {line}" if (line := line_of(error)) else ""
    return f"{type(error).__name__}{at}" + (f": {text}" if text else "")
