"""Options are read once; a value that cannot be used is named together with its option and the way out."""

import argparse
from pathlib import Path

import pytest

from nncore_bench.__main__ import parse
from nncore_bench.commands import gate
from nncore_bench.errors import UserError
from nncore_bench.options import Options, declare, typed


def built(**texts: object) -> Options:
    """Return the options for these texts, by destination without its prefix."""
    return Options.build({f"step_{name}": text for name, text in texts.items()})


def test_the_defaults_are_those_of_the_contract() -> None:
    """As the README lists them."""
    options = built()
    assert options == Options(
        devices=("cpu", "cuda"),
        threads=(1, "all"),
        precisions=("float32",),
        variants=("eager",),
        batch_sizes=(1, 32, 128, 1024),
        hidden=(32, 128, 512),
        subject="simplenn",
        dataset="digits",
        budget=60.0,
        target=0.01,
        launches=4,
        results=Path("results"),
        quick=False,
        profile=False,
        more_batch_sizes=(8192, 65536),
        more_hidden=(2048,),
    )


def test_a_device_goes_on_from_the_sizes_of_the_cpu() -> None:
    """To sizes that fill it, which are chosen before anything is measured."""
    options = built()
    assert options.sizes_on("cpu") == ((1, 32, 128, 1024), (32, 128, 512))
    assert options.sizes_on("cuda") == ((1, 32, 128, 1024, 8192, 65536), (32, 128, 512, 2048))


@pytest.mark.parametrize(
    ("texts", "batch_sizes", "hidden"),
    [
        ({"batch_sizes": "1,32,128,1024"}, (1, 32, 128, 1024), (32, 128, 512, 2048)),
        ({"hidden": "512"}, (1, 32, 128, 1024, 8192, 65536), (512,)),
        ({"batch_sizes": "65536", "hidden": "64"}, (65536,), (64,)),
        ({"quick": True}, (32, 128), (128, 512)),
    ],
)
def test_sizes_that_were_chosen_hold_for_every_device(
    texts: dict[str, object], batch_sizes: tuple[int, ...], hidden: tuple[int, ...]
) -> None:
    """Also where they are the CPU's default; a quick run stays small."""
    assert built(**texts).sizes_on("cuda") == (batch_sizes, hidden)


def test_another_network_has_the_same_batch_sizes_everywhere() -> None:
    """Its own example decides, and a batch of 65,536 images fits no GPU."""
    options = built(subject="torchvision:resnet18")
    assert options.sizes_on("cuda")[0] == options.sizes_on("cpu")[0] == (8, 32)


def test_a_gate_has_the_same_sizes_on_every_device() -> None:
    """A launch of it spends its seconds on starting, and more cases would leave fewer pairs."""
    options = gate.asked_for(parse(["gate", "--base", "main", "--step-devices", "cpu,cuda"])).options
    assert options.sizes_on("cuda") == options.sizes_on("cpu") == (built().batch_sizes, built().hidden)


def test_quick_is_a_smaller_grid_and_budget() -> None:
    """Batch 32 and 128, hidden 128 and 512, one thread."""
    quick = built(quick=True)
    assert (quick.batch_sizes, quick.hidden, quick.threads) == ((32, 128), (128, 512), (1,))
    assert quick.budget < built().budget


def test_explicit_options_win_over_quick() -> None:
    """What was typed is what is meant, also where it equals the default of a full run."""
    quick = built(quick=True, batch_sizes="7", threads="1,all", budget="2m")
    assert (quick.batch_sizes, quick.threads, quick.budget) == ((7,), (1, "all"), 120.0)
    assert quick.hidden == (128, 512)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("batch_sizes", "64, 256", (64, 256)),
        ("batch_sizes", "64,64", (64,)),
        ("threads", "2,all,2", (2, "all")),
        ("devices", "cuda", ("cuda",)),
        ("budget", "90", 90.0),
        ("budget", "90s", 90.0),
        ("budget", "1.5m", 90.0),
        ("target", "2%", 0.02),
        ("target", "0.02", 0.02),
        ("launches", "8", 8),
        ("dataset", "mnist", "mnist"),
        ("results", "elsewhere/runs", Path("elsewhere/runs")),
    ],
)
def test_good_values_are_read(name: str, text: str, value: object) -> None:
    """In every way of writing them."""
    assert getattr(built(**{name: text}), name) == value


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("devices", "gpu", "--step-devices: 'gpu' is not one of cpu, cuda"),
        ("devices", "cpu,,cuda", "--step-devices: 'cpu,,cuda' has an empty entry (separate"),
        ("devices", "", "--step-devices: '' has an empty entry (separate"),
        ("threads", "0", "--step-threads: '0' is neither a positive integer nor 'all' (example: 1,all)"),
        ("threads", "two", "--step-threads: 'two' is neither a positive integer nor 'all' (example: 1,all)"),
        ("threads", "-1", "--step-threads: '-1' is neither a positive integer nor 'all' (example: 1,all)"),
        ("precisions", "float31", "--step-precisions: 'float31' is not one of float32"),
        ("variants", "fast", "--step-variants: 'fast' is no variant (choose of eager, foreach, fused, "),
        ("batch_sizes", "16,x", "--step-batch-sizes: '16,x' is not a list of integers (example: 64,256)"),
        ("batch_sizes", "1.5", "--step-batch-sizes: '1.5' is not a list of integers (example: 64,256)"),
        ("batch_sizes", "0", "--step-batch-sizes: 0 is not positive (the smallest size is 1)"),
        ("hidden", "-32", "--step-hidden: -32 is not positive (the smallest size is 1)"),
        ("subject", "resnet", "--step-subject: 'resnet' does not name a network (give simplenn, "),
        ("subject", "small=net", "--step-subject: 'small=net' does not name a network (give simplenn, "),
        (
            "subject",
            "a net=./n.py:make",
            "--step-subject: 'a net' cannot be the name of a network (give",
        ),
        ("subject", "simplenn=./n.py:make", "--step-subject: 'simplenn' cannot be the name of a network"),
        (
            "subject",
            "=./n.py:make",
            "--step-subject: '' cannot be the name of a network (give",
        ),
        ("dataset", "cifar", "--step-dataset: 'cifar' is not one of digits, mnist, fashion-mnist, synthetic"),
        ("budget", "soon", "--step-budget: 'soon' is not a time (example: 60 or 2m)"),
        ("budget", "0", "--step-budget: '0' is not between 1 second and 1 day"),
        ("budget", "nan", "--step-budget: 'nan' is not between 1 second and 1 day"),
        ("budget", "inf", "--step-budget: 'inf' is not between 1 second and 1 day"),
        ("target", "little", "--step-target: 'little' is not a share (example: 1% or 0.01)"),
        ("target", "0", "--step-target: '0' is not between 0 and 100 % (example: 1%)"),
        ("target", "100%", "--step-target: '100%' is not between 0 and 100 % (example: 1%)"),
        ("target", "nan", "--step-target: 'nan' is not between 0 and 100 % (example: 1%)"),
        ("launches", "0", "--step-launches: '0' is not a positive integer (example: 4)"),
        ("launches", "2.5", "--step-launches: '2.5' is not a positive integer (example: 4)"),
    ],
)
def test_a_bad_value_is_named_with_its_option_and_the_way_out(name: str, text: str, sentence: str) -> None:
    """In one sentence."""
    with pytest.raises(UserError) as refusal:
        built(**{name: text})
    assert str(refusal.value).startswith(sentence)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("threads", "all_threads", "counts"),
    [("1,all", 8, (1, 8)), ("1,all", 1, (1,)), ("all,4,4", 4, (4,)), ("2", 8, (2,)), ("8,all,1", 8, (8, 1))],
)
def test_all_threads_become_their_number_and_equal_entries_merge(
    threads: str, all_threads: int, counts: tuple[int, ...]
) -> None:
    """On a machine of one core `1,all` is one case."""
    assert built(threads=threads).thread_counts(all_threads) == counts


def test_both_parsers_get_every_option() -> None:
    """A text typed at argparse arrives under its destination; the rest is None and takes the default."""
    parser = argparse.ArgumentParser()
    declare(parser.add_argument)
    given = typed(parser.parse_args(["--step-quick", "--step-batch-sizes=4,8"]))
    assert Options.build(given).batch_sizes == (4, 8)
    unwrapped = " ".join(parser.format_help().split())
    assert "default 1%; quick 2%" in unwrapped
    assert "(default 1,32,128,1024; on CUDA also 8192,65536; quick 32,128)" in unwrapped


def test_the_record_of_options_is_plain() -> None:
    """It goes into JSON, and is what comes back from it."""
    record = built(results="here").as_record()
    assert record["results"] == "here"
    assert record["batch-sizes"] == [1, 32, 128, 1024]
    assert record["quick"] is False
