"""The words of variants: how they combine, what they need, and which phases a case then has."""

from dataclasses import replace

import pytest
from made_up_runs import CPU_CASE, CUDA_CASE

from nncore_bench.errors import UserError
from nncore_bench.variants import WORDS, canonical, code_of, made_faster, misfit, words_of


def test_words_come_in_one_order_and_eager_adds_nothing() -> None:
    """So that a variant has one name, whoever types it."""
    assert (
        canonical(["channels-last", "fused"])
        == canonical(["fused", "channels-last"])
        == "fused+channels-last"
    )
    assert canonical(["eager"]) == canonical([]) == "eager"
    assert words_of("eager") == ()


@pytest.mark.parametrize(
    ("variant", "sentence"),
    [
        ("fast", "'fast' is no variant (choose of eager, foreach, fused, "),
        ("fused+foreach", "'fused' and 'foreach' exclude each other (each sets the optimizer)"),
        ("fused+fused", "'fused' and 'fused' exclude each other"),
        ("compile+cudagraph", "exclude each other (each sets the compiler)"),
    ],
)
def test_what_is_no_variant_is_said_in_one_sentence(variant: str, sentence: str) -> None:
    """With the word, and what there is."""
    with pytest.raises(UserError) as refusal:
        words_of(variant)
    assert sentence in str(refusal.value)


def test_what_a_device_cannot_do_is_said_before_anything_is_measured() -> None:
    """CUDA's own on the CPU, and the CPU's allocator on CUDA."""
    assert misfit("cudagraph", "float32", "cpu") == "cudagraph needs CUDA"
    assert misfit("fused+pinned", "tf32", "cpu") == "pinned and tf32 need CUDA"
    assert misfit("default-allocator", "float32", "cuda") == "default-allocator is about the CPU's memory"
    assert misfit("fused", "bfloat16", "cpu") == misfit("cudagraph", "tf32", "cuda") == ""
    assert misfit("reduce-overhead", "float32", "cpu") == "reduce-overhead needs CUDA"
    assert misfit("fused", "float16", "cpu") == misfit("reduce-overhead", "float16", "cuda") == ""


@pytest.mark.parametrize("compiler", ["compile-max", "reduce-overhead"])
def test_gradients_are_not_kept_where_a_graph_overwrites_them(compiler: str) -> None:
    """The compiler's graphs put them where the last ones lay; a network compiled without graphs does not."""
    why = f"set-to-none=false keeps gradients, which the CUDA graphs of {compiler} overwrite (leave one out)"
    assert misfit(f"{compiler}+set-to-none=false", "float32", "cuda") == why
    assert misfit("compile+set-to-none=false", "float32", "cuda") == ""
    assert misfit("compile-max+set-to-none=false", "float32", "cpu") == ""


def test_a_graph_in_float16_asks_for_the_optimizer_that_skips_on_the_device() -> None:
    """Every other has GradScaler read on the host whether gradients overflowed, which no graph can."""
    assert misfit("cudagraph", "float16", "cuda").startswith("cudagraph in float16 needs fused")
    assert misfit("fused+cudagraph", "float16", "cuda") == misfit("cudagraph", "bfloat16", "cuda") == ""


def test_a_case_has_the_phases_that_its_variant_is_about() -> None:
    """A captured step has no parts; inference and feeding are reported alone."""
    assert replace(CUDA_CASE, variant="cudagraph").phases() == ("step",)
    assert replace(CPU_CASE, variant="inference-mode").phases() == ("inference",)
    assert replace(CPU_CASE, variant="workers-2").phases() == ("data",)
    assert replace(CUDA_CASE, variant="pinned").phases() == ("data", "copy")
    assert replace(CPU_CASE, variant="fused+channels-last").phases() == CPU_CASE.phases()
    assert made_faster("fused+workers-2") == "step"


def test_the_code_to_write_is_that_of_every_word_and_axis() -> None:
    """A plain step needs none."""
    assert code_of("eager", "float32", 1) == code_of("eager", "float32", "-") == []
    lines = code_of("fused+compile", "bfloat16", 4)
    assert [line for word in ("fused", "compile") for line in lines if WORDS[word].code == line] == lines[:2]
    assert "bfloat16" in lines[2]
    assert lines[3] == "torch.set_num_threads(4)"
