"""The watched process: it runs the user's script as Python would, and watches what that trains.

`nncore-bench run` starts it with FOLDER JSON (script|module) TARGET [arguments]. Neither torch nor numpy is
imported before the script imports them: it may set what they read at import.
"""

import builtins
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import runpy
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from nncore_bench.watch.marks import Facts, Marks
from nncore_bench.watch.windows import Plan

OURS = (str(Path(__file__).parent), runpy.__file__, "<frozen runpy>")
"""How the files of frames begin that are none of the user's."""


class AfterImport(importlib.abc.MetaPathFinder):
    """Call a function once, after a module of a name was imported."""

    def __init__(self, name: str, then: Any) -> None:  # noqa: ANN401 - a function
        self.name, self.then = name, then

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the usual spec of the module, with a loader that calls the function after it."""
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            usual = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                usual(module)
                del spec.loader.exec_module  # type: ignore[union-attr]
                self.then()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def watch(folder: Path, asked: Mapping[str, Any]) -> None:
    """Watch this process, or try settings of its DataLoader; an error leaves it alone."""
    facts = Facts(folder)
    try:
        # torch is there only now
        if "trial" in asked:
            from nncore_bench.watch.loaders import Trial  # noqa: PLC0415

            Trial(facts, **asked["trial"]).begin()
            return
        from nncore_bench.watch.process import Watcher  # noqa: PLC0415

        watcher = Watcher(Marks(folder), facts, Plan(**asked["plan"]))
        watcher.begin()
    except Exception as error:  # noqa: BLE001 - the training job goes on, whatever it is
        facts.learn(error=f"{type(error).__name__}: {error}")


def main() -> None:
    """Run the target."""
    folder, asked, kind, target = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3], sys.argv[4]
    sys.argv[:] = sys.argv[4:]
    sys.meta_path.insert(0, AfterImport("torch", lambda: watch(folder, asked)))
    try:
        if kind == "module":
            runpy.run_module(target, run_name="__main__", alter_sys=True)
        else:
            _run_script(target)
    except BaseException as error:
        _without_our_frames(error)
        raise


def _run_script(target: str) -> None:
    """Run a file as `python FILE` does; its module stays `__main__` to the end, unlike that of runpy."""
    path = os.path.abspath(target)  # noqa: PTH100 - as Python itself does, which follows no link here
    sys.path[0] = os.path.dirname(os.path.realpath(path))  # noqa: PTH120
    with open(path, "rb") as file:  # noqa: PTH123
        code = compile(file.read(), path, "exec", dont_inherit=True)
    main = ModuleType("__main__")
    main.__file__, main.__loader__ = path, importlib.machinery.SourceFileLoader("__main__", path)
    vars(main)["__builtins__"] = builtins
    sys.modules["__main__"] = main
    exec(code, vars(main))  # noqa: S102 - it is what the user asks for


def _frames(error: BaseException) -> Iterator[TracebackType]:
    trace = error.__traceback__
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _without_our_frames(error: BaseException) -> None:
    """Let an error be told as if Python itself had run the script."""
    usual = sys.excepthook
    _, *below = _frames(error)  # the first is the line that called `main`
    frames = [trace for trace in below if not trace.tb_frame.f_code.co_filename.startswith(OURS)]
    for frame, deeper in zip(frames, [*frames[1:], None], strict=False):
        frame.tb_next = deeper
    own = frames[0] if frames else None

    def tell(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
        usual(kind, value.with_traceback(own) if value is error else value, own if value is error else trace)

    sys.excepthook = tell
