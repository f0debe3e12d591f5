"""Three plain sentences say what was measured, also where that is little, and never more."""

from dataclasses import replace

import pytest
from made_up_runs import CPU_CASE, CUDA_CASE, blocks_of, cases_of, cuda_blocks_of, record_of, run_of

from nncore_bench.cases import Case
from nncore_bench.estimate.results import rows_of
from nncore_bench.estimate.source import Source
from nncore_bench.records import Notice
from nncore_bench.report.report import render
from nncore_bench.runs import Block, Campaign, Run


def sentences(run: Run, blocks: list[Block]) -> tuple[str, ...]:
    """Return the three sentences of a run with these laps."""
    return render(Source(run, rows_of(run, blocks))).sentences


def cpu_and_cuda(speed_ups: dict[int, float]) -> tuple[str, ...]:
    """Return the sentences of a run in which CUDA is that many times as fast, by batch size."""
    records, blocks = [], []
    for batch_size, speed_up in speed_ups.items():
        for case in (replace(CPU_CASE, batch_size=batch_size), replace(CUDA_CASE, batch_size=batch_size)):
            number = len(records)
            launches = [1.0, 1.001, 0.999]
            if case.device == "cpu":
                blocks += blocks_of(number, launches=launches, scale=2 * speed_up)
            else:
                blocks += cuda_blocks_of(number, launches=launches)
            records.append(record_of(case))
    return sentences(run_of(records), blocks)


def test_the_slowest_phase_is_told_with_its_share_and_an_example() -> None:
    """280 of 660 µs are 42 %."""
    told = sentences(run_of([record_of(CPU_CASE)]), blocks_of(launches=[1.0, 1.0]))
    assert told[0] == (
        "Slowest phase: on cpu, optimizer takes 42 % of the step: 280.0 ± 0.1 of 660.0 ± 0.1 µs"
        " at batch 32, hidden 128, 1 thread."
    )


def test_over_several_cases_the_slowest_phase_says_how_general_it_is() -> None:
    """The median of the shares, and in how many cases it is the slowest."""
    cases = cases_of(["cpu"])
    blocks = [block for number in range(len(cases)) for block in blocks_of(number)]
    told = sentences(run_of(map(record_of, cases)), blocks)
    assert "takes 42 % of the step (median over 4 cases; slowest in all of them)" in told[0]
    assert "at batch 128, hidden 128" in told[0]


def test_each_device_has_its_own_slowest_phase() -> None:
    """A host and a device are not averaged."""
    told = sentences(run_of([record_of(CPU_CASE), record_of(CUDA_CASE)]), [*blocks_of(0), *cuda_blocks_of(1)])
    assert "on cpu, optimizer" in told[0]
    assert "On cuda, optimizer" in told[0]


def test_the_best_throughput_names_its_case_and_the_widest_network() -> None:
    """Batch 128 in the same time is four times the samples."""
    cases = cases_of(["cpu"])
    blocks = [
        b
        for number, case in enumerate(cases)
        for b in blocks_of(number, scale=1 if case.hidden == 128 else 2)
    ]
    told = sentences(run_of(map(record_of, cases)), blocks)
    assert told[1] == (
        "Best throughput: 194,000 samples/s (batch 128, hidden 128 on cpu, 1 thread);"
        " at hidden 512, 97,000 samples/s (batch 128, hidden 512 on cpu, 1 thread)."
    )


def test_the_gpu_is_worth_it_from_the_first_batch_size_measured_that_is_faster() -> None:
    """And nothing is said of the sizes between."""
    told = cpu_and_cuda({32: 0.5, 128: 2.0, 1024: 4.0})
    assert told[2].startswith(
        "Is the GPU worth it? Hidden 128: yes from batch 128 on, not at 32 (nothing was measured between);"
        " at best 4.0"
    )
    assert told[2].endswith(" at batch 1024.")


@pytest.mark.parametrize(
    ("speed_ups", "answer"),
    [
        ({32: 2.0, 128: 3.0}, "yes at batch 32, 128; at best 3.0"),
        ({32: 0.4, 128: 0.5}, "no at batch 32, 128; at best 0.50"),
        ({32: 2.0, 128: 0.5}, "yes at batch 32 only; at best 2.0"),
        ({32: 1.0}, "not proven at batch 32; at best 1.00"),
    ],
)
def test_the_answer_follows_the_intervals(speed_ups: dict[int, float], answer: str) -> None:
    """Yes and no where the interval leaves 1 out, and otherwise not proven."""
    assert f"Hidden 128: {answer}" in cpu_and_cuda(speed_ups)[2]


def test_one_launch_each_proves_nothing_without_an_interval() -> None:
    """A single block has no interval, however fast CUDA looks."""
    blocks = [*blocks_of(0, rounds=1, scale=20), *cuda_blocks_of(1, rounds=1)]
    told = sentences(run_of([record_of(CPU_CASE), record_of(CUDA_CASE)]), blocks)
    assert "not proven at batch 32; at best 10.0 times as fast (n/a)" in told[2]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (
            record_of(CUDA_CASE, status="skipped", reason="no CUDA device was found"),
            "no CUDA device was found",
        ),
        (record_of(CUDA_CASE, status="failed", reason="out of memory"), "out of memory"),
        (record_of(replace(CPU_CASE, batch_size=128)), "CUDA was not asked for"),
    ],
)
def test_without_cuda_nothing_can_be_said(other: object, why: str) -> None:
    """And the reason is told."""
    told = sentences(run_of([record_of(CPU_CASE), other]), blocks_of())
    assert told[2].startswith(f"Is the GPU worth it? Nothing can be said: {why}")


def test_cuda_alone_cannot_be_held_against_a_cpu() -> None:
    """No case has both."""
    told = sentences(run_of([record_of(CUDA_CASE)]), cuda_blocks_of())
    assert "Nothing can be said: no case has its step measured on both" in told[2]


@pytest.mark.parametrize(
    "phases",
    [(), ("data",), ("step",), ("forward",), ("forward", "step"), ("inference",), ("data", "backward")],
)
@pytest.mark.parametrize("case", [CPU_CASE, CUDA_CASE])
def test_whatever_phases_were_chosen_there_are_three_sentences(phases: tuple[str, ...], case: Case) -> None:
    """And a text that prints."""
    run = run_of([record_of(case, phases=phases)])
    report = render(Source(run, rows_of(run, blocks_of() if case.device == "cpu" else cuda_blocks_of())))
    assert [sentence.split(":")[0].split("?")[0] for sentence in report.sentences] == [
        *("Slowest phase", "Best throughput", "Is the GPU worth it"),
    ]
    assert report.full_text.count("nan") == 0


def test_of_a_part_of_the_phases_the_slowest_is_that_of_those() -> None:
    """What was not reported is not judged."""
    told = sentences(run_of([record_of(CPU_CASE, phases=("forward", "loss"))]), blocks_of())
    assert "on cpu, forward (of those reported) takes 20 % of the step" in told[0]
    assert told[1] == "Best throughput: unknown, the whole step was not measured (-k step does)."


def test_a_run_without_a_single_round_still_makes_sense() -> None:
    """Everything failed, and the text says so."""
    run = run_of([record_of(CPU_CASE)], state="running", campaign=None)
    report = render(Source(run, rows_of(run, [])))
    assert "This run was cut short (or is still running) after 0 rounds" in report.text
    assert report.sentences[0].startswith("Slowest phase: unknown")


@pytest.mark.parametrize(
    ("state", "words"), [("running", "cut short (or is still running)"), ("interrupted", "cut short")]
)
def test_a_run_that_was_cut_short_says_after_how_many_rounds(state: str, words: str) -> None:
    """Of how many, where that was planned already."""
    campaign = Campaign(20.0, 15.0, 1.0, 4.0, 40, 3, 0.01)
    run = run_of([record_of(CPU_CASE)], state=state, campaign=campaign)
    report = render(Source(run, rows_of(run, blocks_of(rounds=3))))
    expected = f"This run was {words} after 3 of 40 rounds; figures come from the finished rounds."
    assert report.remarks[0] == expected


def test_warnings_carry_their_next_step() -> None:
    """A cause alone helps nobody."""
    run = run_of([record_of(CPU_CASE)], notices=(Notice("the machine was busy", "wait"),))
    assert (
        "Notice: the machine was busy. Next: wait." in render(Source(run, rows_of(run, blocks_of()))).remarks
    )


def test_the_sentences_are_the_last_on_the_screen() -> None:
    """Whoever looks at the end of a long output sees the answers."""
    run = run_of([record_of(CPU_CASE)])
    text = render(Source(run, rows_of(run, blocks_of()))).text
    assert text.rsplit("\n\n", 1)[1].startswith("- Slowest phase:")
    assert "- Is the GPU worth it?" in text.splitlines()[-1]
