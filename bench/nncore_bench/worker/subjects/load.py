"""Load the subject that a case names: network, example batch, loss and optimizer.

`torchvision:NAME` is any classification network of torchvision.models, with random weights;
`package.module:factory` and `./file.py:factory` are the user's own functions.
"""

import importlib
import importlib.util
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from traceback import walk_tb
from types import ModuleType
from typing import Any, cast

import torch
import torch.hub
from torch import nn

from nncore_bench.cases import named
from nncore_bench.worker.blocks import IncorrectError, SubjectError
from nncore_bench.worker.messages import HANDED_OVER, SUBJECT_FILE
from nncore_bench.worker.subjects.complete import (
    TORCHVISION,
    Loop,
    Made,
    completed,
    completed_loop,
)
from nncore_bench.worker.users_code import line_of, said_of


def make(subject: str) -> Made | Loop:
    """Load a subject, a network or an object with a step of its own.

    Raises SubjectError, which names the factory and the way out.
    """
    _, subject = named(subject)
    name, _, detail = subject.partition(":")
    if name == TORCHVISION:
        factory = _torchvision(detail)
    else:
        factory = _handed_over(subject) if name == HANDED_OVER else _imported(subject)
    try:
        made = _ended(factory)
        own_step = callable(getattr(made, "training_step", None))
        found = completed_loop(made) if own_step else completed(subject, made)
    except IncorrectError as error:
        raise SubjectError(f"{subject}: {error}") from error
    except Exception as error:
        raise SubjectError(f"{subject} raised {said_of(error)} (call it by itself)") from error
    found.assumed += unusual_settings()
    return found


def unusual_settings() -> list[str]:
    """Return the process-wide settings of torch, made by the subject's code, that slow a step down."""
    found = []
    if torch.is_anomaly_enabled():
        found.append("anomaly mode is on, which slows backward (torch.autograd.set_detect_anomaly)")
    if torch.are_deterministic_algorithms_enabled():
        found.append("deterministic algorithms are on (torch.use_deterministic_algorithms)")
    return found


OF_THE_NET = {
    *("huggingface_hub", "requests", "urllib3", "urllib", "socket", "aiohttp"),
    *("httpx", "httpx2", "httpcore", "httpcore2"),
}
"""The modules whose errors mean that something was to be downloaded."""

HUB_OFFLINE = "HF_HUB_OFFLINE"
"""With this variable set Hugging Face's hub answers from its cache or refuses at once.

Without a network it tries again for 20 to 50 s.
"""


@contextmanager
def nothing_downloaded() -> Iterator[None]:
    """Refuse downloads by a factory: the time of a step does not depend on its weights.

    What lies in a cache may be loaded.
    """

    def refuse(url: str, *_: object, **__: object) -> None:
        raise _Download(url)

    usual = torch.hub.download_url_to_file
    torch.hub.download_url_to_file = refuse
    chosen = os.environ.get(HUB_OFFLINE)
    os.environ.setdefault(HUB_OFFLINE, "1")
    try:
        yield
    except _Download as error:
        raise SubjectError(
            f"it would download {error} ({_argument_that_stops(error)}: weights do not change a time)"
        ) from error
    except Exception as error:
        if not any(_is_of_the_net(one) for one in _chain(error)):
            raise
        raise SubjectError(
            f"it tried to download: {said_of(error)} (weights do not change a time: build the network from"
            " its config, AutoModel.from_config(config), or with pretrained=False or weights=None; what it"
            " needs, load once by yourself, so that it lies in the cache)"
        ) from error
    finally:
        torch.hub.download_url_to_file = usual
        if chosen is None:
            os.environ.pop(HUB_OFFLINE, None)


class _Download(Exception):  # noqa: N818 - no error of the user's
    """The address of a file that was about to be downloaded."""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_of_the_net(error: BaseException) -> bool:
    """Return whether an error is of a library that downloads, and not about a name without its form."""
    kinds = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return bool(kinds & OF_THE_NET) and type(error).__name__ != "HFValidationError"


def _argument_that_stops(error: BaseException) -> str:
    """Return the arguments that ask for weights, where a factory called a function that takes them."""
    for frame, _ in walk_tb(error.__traceback__):
        taken = frame.f_code.co_varnames[: frame.f_code.co_argcount + frame.f_code.co_kwonlyargcount]
        asked = [
            name
            for name in taken
            if name.startswith(("weights", "pretrained")) and frame.f_locals.get(name) not in {None, False}
        ]
        if asked:
            where = f" at {line}" if (line := line_of(error)) else ""
            return "give " + " and ".join(f"{name}=None" for name in asked) + where
    return "give weights=None"


def _ended(run: Callable[[], Any]) -> Any:  # noqa: ANN401 - what the user's code returns
    """Run the user's code; raises SubjectError if it ends the process, with the last line it wrote."""
    written = StringIO()
    arguments = sys.argv[:]
    sys.argv[:] = [""]  # a script that reads its command line must not see the worker's
    try:
        with redirect_stderr(written), nothing_downloaded():
            found = run()
    except SystemExit as error:
        lines = [line for line in written.getvalue().splitlines() if line.strip()]
        last = f": {lines[-1].strip().removeprefix(': ')}" if lines else ""
        at = f" at {line}" if (line := line_of(error)) else ""
        raise SubjectError(
            f"it ended its process with exit code {_code(error)}{at}{last} (put what reads the command"
            ' line or trains under if __name__ == "__main__":)'
        ) from error
    except BaseException:
        sys.stderr.write(written.getvalue())
        raise
    finally:
        sys.argv[:] = arguments
    sys.stderr.write(written.getvalue())
    return found


def _code(error: SystemExit) -> int:
    if error.code is None:
        return 0
    return error.code if isinstance(error.code, int) else 1


def _torchvision(name: str) -> Callable[[], nn.Module]:
    from torchvision import models  # noqa: PLC0415 - takes a second to import, and few subjects need it

    known = models.list_models(module=models)
    if name not in known:
        near = [other for other in known if other[:3] == name[:3]] or known
        raise SubjectError(
            f"torchvision:{name} is not a classification network (choose one such as {', '.join(near[:5])})"
        )
    return lambda: models.get_model(name, weights=None)


def _imported(subject: str) -> Callable[[], Any]:
    """Import the factory `package.module:name` or `path/to/file.py:name`."""
    source, _, name = subject.rpartition(":")
    module = _from_file(subject, Path(source)) if source.endswith(".py") else _from_package(subject, source)
    factory: Any = getattr(module, name, None)
    if factory is None:
        public = [other for other, value in vars(module).items() if callable(value) and other[0] != "_"]
        raise SubjectError(
            f"{subject}: {source} has no {name} (it has {', '.join(public[:8]) or 'no functions'})"
        )
    return _callable(factory)


def _handed_over(subject: str) -> Callable[[], Any]:
    """Unpickle the factory that `measure_step` left in a file, along with its `sys.path`."""
    file = os.environ.get(SUBJECT_FILE)
    if not file:
        raise SubjectError(
            f"{subject}: only nncore_bench.measure_step can hand over a subject (name its factory instead,"
            " such as ./my_net.py:make)"
        )
    folders, pickled = pickle.loads(Path(file).read_bytes())  # noqa: S301 - the user's own measure_step wrote it
    sys.path += [folder for folder in folders if folder not in sys.path]
    return _callable(_imported_by(subject, lambda: pickle.loads(pickled)))  # noqa: S301 - the same


def _callable(found: Any) -> Callable[[], Any]:  # noqa: ANN401 - whatever the user named
    """Return a factory unchanged; wrap a network or another object in a factory."""
    if isinstance(found, nn.Module) or not callable(found):
        return lambda: found
    return cast("Callable[[], Any]", found)


def _from_file(subject: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise SubjectError(f"{subject}: no file {str(path)!r} (paths start from {str(Path.cwd())!r})")
    name = f"subject_{path.stem}"  # so that a file called random.py does not replace Python's own
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SubjectError(f"{subject}: {str(path)!r} is not a Python file (its name should end in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))  # so that it finds its neighbours, as a script does
    sys.modules[name] = module
    _imported_by(subject, lambda: spec.loader.exec_module(module))  # type: ignore[union-attr] # checked above
    return module


def _from_package(subject: str, name: str) -> ModuleType:
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return cast("ModuleType", _imported_by(subject, lambda: importlib.import_module(name)))


def _imported_by(subject: str, load: Callable[[], Any]) -> Any:  # noqa: ANN401 - what an import returns
    try:
        return _ended(load)
    except SubjectError as error:
        raise SubjectError(f"{subject}: {error}") from error
    except ModuleNotFoundError as error:
        raise SubjectError(
            f"{subject} needs the module {error.name!r}, which is not installed here (install it, or correct"
            " the name)"
        ) from None
    except Exception as error:
        raise SubjectError(f"{subject} cannot be imported ({said_of(error)})") from error
