"""Variants of a training step: the words that name them, what each changes, and where it can run.

Words combine with `+`, one of each kind. Imports no torch: what a word does to a network is in
`nncore_bench.worker.subjects.apply_variant`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache

from nncore_bench.errors import UserError

DEFAULT_ALLOCATOR = "default-allocator"
EAGER = "eager"
JOINT = "+"


@dataclass(frozen=True, kw_only=True)
class Form:
    """The facts of one word or of several: how the step runs, and how it is fed.

    `compile_mode` is torch.compile's mode, or empty. With `replays_kernels` the compiled network is replayed
    as CUDA graphs, which overwrite the result of the last replay; with `captures_step` the whole step is, and
    has no phases. `fetchers` is the number of processes that fetch batches ahead; `pinned` batches lie in
    pinned memory, and `resident` ones on the device.
    """

    compile_mode: str = ""
    replays_kernels: bool = False
    captures_step: bool = False
    fetchers: int = 0
    pinned: bool = False
    resident: bool = False

    @property
    def compiled(self) -> bool:
        """Whether set-up takes long, and the operators differ from those of the plain step."""
        return bool(self.compile_mode) or self.captures_step


@dataclass(frozen=True)
class Word(Form):
    """One word: its kind, of which a variant has one at most, its meaning, and the code to write for it.

    With `needs_cuda` it runs on CUDA alone. `of` is the part that it makes faster: the step, inference, or
    the loop that feeds the step.
    """

    kind: str
    means: str
    code: str
    of: str = "step"
    needs_cuda: bool = False


WORDS: Mapping[str, Word] = {
    "foreach": Word(
        "optimizer",
        "the optimizer works on lists of tensors",
        'optimizer = type(optimizer)([{**group, "foreach": True} for group in optimizer.param_groups],'
        " foreach=True)",
    ),
    "fused": Word(
        "optimizer",
        "the optimizer is one kernel",
        'optimizer = type(optimizer)([{**group, "fused": True} for group in optimizer.param_groups],'
        " fused=True)",
    ),
    "compile": Word(
        "compiler", "the network is compiled", "model = torch.compile(model)", compile_mode="default"
    ),
    "compile-max": Word(
        "compiler",
        "the network is compiled with search for the fastest kernels, and with CUDA graphs on CUDA",
        'model = torch.compile(model, mode="max-autotune")',
        compile_mode="max-autotune",
        replays_kernels=True,
    ),
    "reduce-overhead": Word(
        "compiler",
        "the network is compiled, and its kernels are replayed as CUDA graphs",
        'model = torch.compile(model, mode="reduce-overhead")',
        needs_cuda=True,
        compile_mode="reduce-overhead",
        replays_kernels=True,
    ),
    "cudagraph": Word(
        "compiler",
        "the whole step is captured once and replayed",
        "with torch.cuda.graph(graph := torch.cuda.CUDAGraph()): optimizer.zero_grad();"
        " criterion(model(inputs), targets).backward(); optimizer.step()  # after three steps on a side"
        " stream; then, for each batch: inputs.copy_(...); targets.copy_(...); graph.replay()",
        needs_cuda=True,
        captures_step=True,
    ),
    "set-to-none=false": Word(
        "gradients", "gradients are set to zero and kept", "optimizer.zero_grad(set_to_none=False)"
    ),
    "channels-last": Word(
        "memory format",
        "images lie in memory with their channels last",
        "model.to(memory_format=torch.channels_last); inputs = inputs.to(memory_format=torch.channels_last)",
    ),
    DEFAULT_ALLOCATOR: Word(
        "allocator",
        "glibc's allocator as a plain script has it, without the policy that all others are measured with",
        "# nothing: leave MALLOC_MMAP_THRESHOLD_, MALLOC_TRIM_THRESHOLD_ and MALLOC_TOP_PAD_ unset",
    ),
    "inference-mode": Word(
        "inference",
        "no gradients and no version counters",
        "with torch.inference_mode(): outputs = model(inputs)",
        of="inference",
    ),
    "workers-2": Word(
        "loader",
        "two processes fetch batches ahead",
        "loader = torch.utils.data.DataLoader(dataset, batch_size, shuffle=True, num_workers=2)",
        of="feeding",
        fetchers=2,
    ),
    "pinned": Word(
        "transfer",
        "batches are fetched into pinned memory and copied while the host goes on",
        "loader = torch.utils.data.DataLoader(dataset, batch_size, shuffle=True, pin_memory=True);"
        " inputs, targets = (batch.to(device, non_blocking=True) for batch in next(iter(loader)))",
        of="feeding",
        needs_cuda=True,
        pinned=True,
    ),
    "resident": Word(
        "loader",
        "all data are on the device, and batches are views of it",
        "for inputs, targets in zip(*(data.to(device).split(batch_size) for data in dataset.tensors)):"
        " optimizer.zero_grad(); criterion(model(inputs), targets).backward(); optimizer.step()",
        of="feeding",
        resident=True,
    ),
}

HALVES = ("bfloat16", "float16")
"""Precisions of autocast: the network and its loss compute in them where that is safe."""

PRECISIONS = ("float32", "tf32", *HALVES)
PLAIN_LOSS = "loss = criterion(model(inputs), targets)"
PRECISION_CODE: Mapping[str, str] = {
    "tf32": 'torch.set_float32_matmul_precision("high"); torch.backends.cudnn.allow_tf32 = True',
    "bfloat16": f"with torch.autocast(device, dtype=torch.bfloat16): {PLAIN_LOSS}",
    "float16": f"""scaler = torch.amp.GradScaler(device)
with torch.autocast(device, dtype=torch.float16): {PLAIN_LOSS}
scaler.scale(loss).backward(); scaler.step(optimizer); scaler.update()""",
}


def words_of(variant: str) -> tuple[str, ...]:
    """Return the words of a variant in the order of WORDS, none for eager; raises UserError."""
    words = [word for word in variant.split(JOINT) if word != EAGER]
    for word in words:
        if word not in WORDS:
            raise UserError(f"{word!r} is no variant (choose of {', '.join((EAGER, *WORDS))})")
    kinds = [WORDS[word].kind for word in words]
    for kind in kinds:
        if kinds.count(kind) > 1:
            both = " and ".join(repr(word) for word in words if WORDS[word].kind == kind)
            raise UserError(f"{both} exclude each other (each sets the {kind})")
    return tuple(word for word in WORDS if word in words)


@cache
def form_of(words: tuple[str, ...]) -> Form:
    """Return the facts of several words together."""
    facts = [(fact.name, getattr(WORDS[word], fact.name)) for word in words for fact in fields(Form)]
    return Form(**{name: value for name, value in facts if value})


def canonical(words: Iterable[str]) -> str:
    """Return the name of a variant from its words in any order; raises UserError."""
    return JOINT.join(words_of(JOINT.join(words) or EAGER)) or EAGER


def misfit(variant: str, precision: str, device: str) -> str:
    """Return why a variant in a precision cannot run on a kind of device, or nothing."""
    words = words_of(variant)
    if device == "cuda":
        return _misfit_on_cuda(words, precision)
    missing = [word for word in words if WORDS[word].needs_cuda]
    missing += [precision] if precision == "tf32" else []
    return f"{' and '.join(missing)} need{'s' if len(missing) == 1 else ''} CUDA" if missing else ""


def _misfit_on_cuda(words: tuple[str, ...], precision: str) -> str:
    if DEFAULT_ALLOCATOR in words:
        return f"{DEFAULT_ALLOCATOR} is about the CPU's memory"
    graphed = next((word for word in words if WORDS[word].replays_kernels), None)
    if graphed and "set-to-none=false" in words:
        kept = "set-to-none=false keeps gradients"
        return f"{kept}, which the CUDA graphs of {graphed} overwrite (leave one out)"
    if precision == "float16" and "cudagraph" in words and "fused" not in words:
        asks = "GradScaler asks the device whether to step"
        return f"cudagraph in float16 needs fused, lest {asks} (add +fused)"
    return ""


def code_of(variant: str, precision: str, threads: int | str, optimizer: str = "") -> list[str]:
    """Return the lines of code that make a plain step on one thread this one.

    `optimizer` is the line that makes the optimizer in this form, where it is known. Each line is a statement
    that runs where `torch`, `model`, `optimizer`, `criterion`, a batch of `inputs` and `targets`, the name of
    the `device`, a TensorDataset `dataset` and its `batch_size` are known.
    """
    words = [word for word in words_of(variant) if not (optimizer and WORDS[word].kind == "optimizer")]
    lines = [*([optimizer] if optimizer else []), *(WORDS[word].code for word in words)]
    if precision in PRECISION_CODE:
        lines += PRECISION_CODE[precision].splitlines()
    more_threads = isinstance(threads, int) and threads > 1
    return [*lines, f"torch.set_num_threads({threads})"] if more_threads else lines


def made_faster(variant: str) -> str:
    """Return which part a variant makes faster: the step, or inference or feeding alone."""
    about = {WORDS[word].of for word in words_of(variant)}
    return about.pop() if len(about) == 1 else "step"
