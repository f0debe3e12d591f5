"""The suite's options, declared once for both pytest and `nncore-bench`."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import msgspec

from nncore_bench.cases import DOES_NOT_APPLY, SIMPLENN, Case, named
from nncore_bench.errors import UserError
from nncore_bench.variants import EAGER, JOINT, PRECISIONS, WORDS, canonical

DATASETS = ("digits", "mnist", "fashion-mnist", "synthetic")
ALL_THREADS = "all"


@dataclass(frozen=True)
class Option:
    """One `--step-…` option: how to parse it, its default, and that of a quick run if it differs.

    `more` extends the full default on CUDA, which is still launch-bound at the sizes that suit a CPU best.
    """

    name: str
    parse: Callable[[str, str], Any]
    default: str
    metavar: str
    help: str
    quick: str = ""
    more: str = ""

    @property
    def flag(self) -> str:
        """The option as typed."""
        return f"--step-{self.name}"

    @property
    def field(self) -> str:
        """The field of Options that holds its value."""
        return self.name.replace("-", "_")

    @property
    def dest(self) -> str:
        """The name under which a parser stores it."""
        return f"step_{self.field}"


def words(flag: str, text: str) -> tuple[str, ...]:
    """Split a comma-separated list and drop duplicates."""
    entries = tuple(dict.fromkeys(entry.strip() for entry in text.split(",")))
    if not all(entries):
        raise UserError(f"{flag}: {text!r} has an empty entry (separate the entries by single commas)")
    return entries


def choice(allowed: Sequence[str], flag: str, text: str) -> str:
    """Parse one of the allowed words."""
    if text not in allowed:
        raise UserError(f"{flag}: {text!r} is not one of {', '.join(allowed)}")
    return text


def choices(allowed: Sequence[str], flag: str, text: str) -> tuple[str, ...]:
    """Parse a list of allowed words."""
    return tuple(choice(allowed, flag, entry) for entry in words(flag, text))


def sizes(flag: str, text: str) -> tuple[int, ...]:
    """Parse a list of positive integers."""
    try:
        numbers = tuple(dict.fromkeys(int(entry) for entry in words(flag, text)))
    except ValueError:
        raise UserError(f"{flag}: {text!r} is not a list of integers (example: 64,256)") from None
    for number in numbers:
        if number < 1:
            raise UserError(f"{flag}: {number} is not positive (the smallest size is 1)")
    return numbers


def thread_counts(flag: str, text: str) -> tuple[int | str, ...]:
    """Parse a list of positive integers and the word `all`."""
    entries = words(flag, text)
    for entry in entries:
        if entry != ALL_THREADS and not (entry.isdecimal() and int(entry) > 0):
            raise UserError(f"{flag}: {entry!r} is neither a positive integer nor 'all' (example: 1,all)")
    return tuple(entry if entry == ALL_THREADS else int(entry) for entry in entries)


def devices(flag: str, text: str) -> tuple[str, ...]:
    """Parse a list of cpu and at most one GPU: the first (cuda) or another (cuda:1)."""
    entries = tuple(dict.fromkeys("cuda" if entry == "cuda:0" else entry for entry in words(flag, text)))
    for entry in entries:
        kind, colon, number = entry.partition(":")
        if kind not in ("cpu", "cuda") or (colon and not (kind == "cuda" and number.isdecimal())):
            raise UserError(f"{flag}: {entry!r} is not one of cpu, cuda (or cuda:1 and the like)")
    gpus = [entry for entry in entries if entry != "cpu"]
    if len(gpus) > 1:
        raise UserError(
            f"{flag}: {' and '.join(gpus)} are two GPUs, but a run measures one (give one of them,"
            " and compare two runs)"
        )
    return entries


def variants(flag: str, text: str) -> tuple[str, ...]:
    """Parse a list of variants, each of words joined by `+` in any order, and drop duplicates."""
    try:
        return tuple(dict.fromkeys(canonical(entry.split(JOINT)) for entry in words(flag, text)))
    except UserError as error:
        raise UserError(f"{flag}: {error}") from None


def subject(flag: str, text: str) -> str:
    """Parse the name of a network: simplenn, or SOURCE:FACTORY, with or without NAME= before it."""
    label, factory = named(text)
    if factory != text and (label == SIMPLENN or not re.fullmatch(r"[\w.-]+", label, re.ASCII)):
        raise UserError(
            f"{flag}: {label!r} cannot be the name of a network (give one of letters, digits, '._-', and not"
            f" {SIMPLENN}, such as small=./my_net.py:make)"
        )
    source, _, name = factory.rpartition(":")
    if text != SIMPLENN and not (source and name):
        raise UserError(
            f"{flag}: {text!r} does not name a network (give simplenn, torchvision:resnet18,"
            " my_package.my_module:make or ./my_net.py:make)"
        )
    return text


def seconds(flag: str, text: str) -> float:
    """Parse a time such as `60`, `60s` or `2m` into seconds."""
    units = {"s": 1.0, "m": 60.0}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1.0)
    try:
        value = float(number) * unit
    except ValueError:
        raise UserError(f"{flag}: {text!r} is not a time (example: 60 or 2m)") from None
    if not 1 <= value <= 86_400:  # noqa: PLR2004 - a second to a day
        raise UserError(f"{flag}: {text!r} is not between 1 second and 1 day")
    return value


def fraction(flag: str, text: str) -> float:
    """Parse a share such as `1%` or `0.01`, between 0 and 1 exclusively."""
    try:
        value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise UserError(f"{flag}: {text!r} is not a share (example: 1% or 0.01)") from None
    if not 0 < value < 1:
        raise UserError(f"{flag}: {text!r} is not between 0 and 100 % (example: 1%)")
    return value


def count(flag: str, text: str) -> int:
    """Parse one positive integer."""
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"{flag}: {text!r} is not a positive integer (example: 4)")
    return int(text)


def folder(flag: str, text: str) -> Path:
    """Parse the path of a folder; whether it is writable is checked before measuring."""
    if not text:
        raise UserError(f"{flag}: the name of the folder is empty (example: results)")
    return Path(text)


OPTIONS: tuple[Option, ...] = (
    Option("devices", devices, "cpu,cuda", "LIST", "cpu, cuda; or another GPU, such as cuda:1"),
    Option("threads", thread_counts, "1,all", "LIST", "CPU threads; all: torch's own default", "1"),
    Option("precisions", partial(choices, PRECISIONS), "float32", "LIST", f"of {', '.join(PRECISIONS)}"),
    Option("variants", variants, EAGER, "LIST", f"{EAGER}; or {', '.join(WORDS)}, joined by {JOINT}"),
    Option("batch-sizes", sizes, "1,32,128,1024", "LIST", "samples per step", "32,128", more="8192,65536"),
    Option("hidden", sizes, "32,128,512", "LIST", "hidden widths of SimpleNN", "128,512", more="2048"),
    Option(
        *("subject", subject, SIMPLENN, "NAME"),
        f"{SIMPLENN}, torchvision:NAME, MODULE:FACTORY, FILE.py:FACTORY; LABEL= before it names it",
    ),
    Option("dataset", partial(choice, DATASETS), "digits", "NAME", f"one of {', '.join(DATASETS)}"),
    Option("budget", seconds, "60", "TIME", "longest time to measure, without warm-up and profiler", "15"),
    Option("target", fraction, "1%", "SHARE", "half-width of the intervals to aim for", "2%"),
    Option("launches", count, "4", "N", "worker processes, whose spread makes the interval"),
    Option("results", folder, "results", "DIR", "folder in which each run gets its own folder"),
)

BATCH_SIZES_OF_OTHERS = "8,32"
"""Batch sizes for networks other than SimpleNN: a batch of 1,024 images takes minutes."""

FLAGS = {
    "quick": "a smaller grid and budget; options given explicitly win",
    "profile": "profile every case after measuring, not just one per device",
}
"""Flags without a value, with their help."""


@dataclass(frozen=True)
class Options:
    """The checked options of a run; `all` among the threads is still unresolved.

    `more_batch_sizes` and `more_hidden` are additional sizes on CUDA, empty if the user chose the sizes.
    """

    devices: tuple[str, ...]
    threads: tuple[int | str, ...]
    precisions: tuple[str, ...]
    variants: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    hidden: tuple[int, ...]
    subject: str
    dataset: str
    budget: float
    target: float
    launches: int
    results: Path
    quick: bool
    profile: bool
    more_batch_sizes: tuple[int, ...] = ()
    more_hidden: tuple[int, ...] = ()

    @classmethod
    def build(cls, raw: Mapping[str, Any]) -> "Options":
        """Parse the texts of a parser by option destination (None: not given).

        Raises UserError, which names the option, the value and the way out.
        """
        flags: dict[str, Any] = {name: bool(raw.get(f"step_{name}")) for name in FLAGS}
        raw = _for_subject(raw, quick=flags["quick"])
        defaults = {option.dest: (flags["quick"] and option.quick) or option.default for option in OPTIONS}
        texts = defaults | {dest: text for dest, text in raw.items() if text is not None}
        values = {option.field: option.parse(option.flag, texts[option.dest]) for option in OPTIONS}
        more = {
            f"more_{option.field}": option.parse(option.flag, option.more)
            for option in OPTIONS
            if option.more and raw.get(option.dest) is None and not flags["quick"]
        }
        return cls(**flags, **values, **more)

    def thread_counts(self, all_threads: int) -> tuple[int, ...]:
        """Return the distinct thread counts, with `all` resolved."""
        return tuple(dict.fromkeys(all_threads if isinstance(n, str) else n for n in self.threads))

    def sizes_on(self, device: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the batch sizes and hidden widths for a device."""
        if device == "cpu":
            return self.batch_sizes, self.hidden
        return (*self.batch_sizes, *self.more_batch_sizes), (*self.hidden, *self.more_hidden)

    def cases(self, all_threads: int) -> list[Case]:
        """Return the grid in reading order: device, threads, precision, variant, batch size, hidden width.

        SimpleNN alone has a choice of data set and hidden width; threads apply to the CPU alone.
        """
        of_ours = self.subject == SIMPLENN
        elsewhere: tuple[int | str, ...] = (DOES_NOT_APPLY,)
        dataset = self.dataset if of_ours else DOES_NOT_APPLY
        return [
            Case(self.subject, dataset, device, threads, precision, variant, batch_size, width)
            for device in self.kinds_of_device
            for batch_sizes, hidden in [self.sizes_on(device)]
            for threads in (self.thread_counts(all_threads) if device == "cpu" else elsewhere)
            for precision, variant in product(self.precisions, self.variants)
            for batch_size, width in product(batch_sizes, hidden if of_ours else elsewhere)
        ]

    @property
    def kinds_of_device(self) -> tuple[str, ...]:
        """The devices as cases name them: the run's GPU is cuda, whichever its number."""
        return tuple(device.partition(":")[0] for device in self.devices)

    @property
    def gpu_number(self) -> int | None:
        """The number of the chosen GPU, as torch counts them, or None if none was given."""
        return next((int(device.partition(":")[2]) for device in self.devices if ":" in device), None)

    def as_record(self) -> dict[str, Any]:
        """Return the options as the plain values of a run's file, where a tuple is a list."""
        fields = {option.name: option.field for option in OPTIONS} | {name: name for name in FLAGS}
        values = {name: getattr(self, field) for name, field in fields.items()}
        record: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(values, enc_hook=str))
        return record


def _for_subject(raw: Mapping[str, Any], *, quick: bool) -> Mapping[str, Any]:
    """Give networks other than SimpleNN their own batch sizes; refuse a hidden width or data set for them."""
    name = raw.get("step_subject") or SIMPLENN
    if name == SIMPLENN:
        return raw
    for dest, what in {"step_hidden": "hidden width", "step_dataset": "data set"}.items():
        if raw.get(dest) is not None:
            flag = f"--{dest.replace('_', '-')}"
            raise UserError(f"{flag}: {name} has no {what} to choose (leave the option out)")
    sizes_of_others = raw.get("step_batch_sizes") or ("8" if quick else BATCH_SIZES_OF_OTHERS)
    return {**raw, "step_batch_sizes": sizes_of_others}


def declare(add: Callable[..., Any]) -> None:
    """Declare the options through a parser's `add_argument` or `addoption`."""
    for name, text in FLAGS.items():
        add(f"--step-{name}", dest=f"step_{name}", action="store_true", default=False, help=text)
    for option in OPTIONS:
        quick = option.quick and f"; quick {option.quick}"
        more = f"; on CUDA also {option.more}" if option.more else ""
        text = f"{option.help} (default {option.default}{more}{quick})".replace("%", "%%")
        add(option.flag, dest=option.dest, metavar=option.metavar, default=None, help=text)


def typed(given: object) -> dict[str, Any]:
    """Return the options' values from a parser's namespace, by destination."""
    names = (*(f"step_{name}" for name in FLAGS), *(option.dest for option in OPTIONS))
    return {name: getattr(given, name) for name in names}
