"""Measure a step from a notebook or a script: `from nncore_bench import measure_step`."""

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from nncore_bench.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

Values: TypeAlias = "str | float | Path | Iterable[str | int] | None"


def measure_step(  # noqa: PLR0913 - each is an option of the suite
    subject: object = "simplenn",
    batch_sizes: Values = None,
    *,
    hidden: Values = None,
    devices: Values = None,
    threads: Values = 1,
    precisions: Values = None,
    variants: Values = None,
    dataset: Values = None,
    budget: Values = 20,
    target: Values = None,
    launches: Values = None,
    results: Values = None,
) -> "pd.DataFrame":
    """Measure the phases of a training step in worker processes, and return one row per case and phase.

    `subject` is a network, a function or class that returns one, an object with a `model` and any of `batch`,
    `loss` and `optimizer`, or a name as for `--step-subject`. Every other argument is the suite's option of
    that name, as a value or a list; the defaults are the suite's, except for one thread and 20 seconds.

    Times are in seconds: `time_s` is the undisturbed time with the interval `time_low_s` to `time_high_s`;
    `median_s` includes disturbances, and `samples_per_s` follows from it. Cases that cannot run on this
    machine have no row; failed ones have one with `status` and `reason`. `frame.attrs["run"]` is the run's
    folder, and `frame.attrs["assumed"]` lists the defaults used for what the subject does not specify.

    Raises ValueError with one sentence: before measuring if something cannot be measured, and if every case
    failed.
    """
    given: dict[str, Values] = {name: value for name, value in locals().items() if name != "subject"}
    # pandas and the campaign take a second to import, and every command imports this package.
    from nncore_bench.campaign.launcher import Launcher  # noqa: PLC0415
    from nncore_bench.campaign.session import measured_grid  # noqa: PLC0415
    from nncore_bench.machine.gpu import chosen_gpu  # noqa: PLC0415
    from nncore_bench.options import Options  # noqa: PLC0415
    from nncore_bench.progress import StandardError, progress_line  # noqa: PLC0415
    from nncore_bench.text.frame import frame_of  # noqa: PLC0415

    with _name_for_workers(subject) as (name, environment):
        texts = {f"step_{option}": _text(value) for option, value in given.items()}
        options = Options.build({**texts, "step_subject": name})
        launcher = Launcher(more={**environment, **chosen_gpu(options.gpu_number, os.environ)})
        with progress_line(StandardError()) as line:
            source = measured_grid(options, line, launcher)
    records = source.run.cases
    frame = frame_of(row for row in source.rows if row.status != "skipped")
    if not any(record.status == "ok" for record in records):
        raise UserError(next((record.reason for record in records), "nothing was recorded"))
    frame.attrs["run"] = str(source.folder)
    assumed = frame.attrs["assumed"] = list(
        dict.fromkeys(one for record in records for one in record.assumed)
    )
    if assumed:
        StandardError().write_line(f"Of this subject: {'; '.join(assumed)}.")
    return frame


def _text(value: Values) -> str | None:
    """Return a value as typed on the command line."""
    if value is None or isinstance(value, str):
        return value
    return ",".join(map(str, value)) if isinstance(value, Iterable) else str(value)


@contextmanager
def _name_for_workers(subject: object) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield a name by which workers find the subject, and the environment variables they need for it.

    An object is pickled, together with `sys.path`, into a file that exists for the duration.
    """
    if isinstance(subject, str):
        yield subject, {}
        return
    import cloudpickle  # noqa: PLC0415 - not needed for named subjects

    from nncore_bench.worker.messages import HANDED_OVER, SUBJECT_FILE  # noqa: PLC0415

    try:
        content = cloudpickle.dumps((sys.path, cloudpickle.dumps(_on_cpu(subject))))
    except Exception as error:  # noqa: BLE001 - pickle raises whatever the objects do
        raise UserError(
            f"{_name_of(subject)} cannot be sent to the worker processes ({type(error).__name__}: {error};"
            " give the function that makes it)"
        ) from None
    with tempfile.TemporaryDirectory(prefix="subject-") as folder:
        file = Path(folder) / "subject.pickle"
        file.write_bytes(content)
        yield f"{HANDED_OVER}:{_name_of(subject)}", {SUBJECT_FILE: str(file)}


def _name_of(subject: object) -> str:
    return str(getattr(subject, "__name__", type(subject).__name__))


def _on_cpu(subject: Any) -> Any:  # noqa: ANN401 - of its argument's type
    """Copy a network to the CPU, from where each case moves it to its device; return others unchanged."""
    torch = sys.modules.get("torch")
    is_network = torch is not None and isinstance(subject, torch.nn.Module)
    return deepcopy(subject).cpu() if is_network else subject
