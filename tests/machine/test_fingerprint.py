"""Two runs may be compared where every fact that decides is the same, whatever the machine did meanwhile."""

import subprocess
import sys

import pytest

from nncore_bench.machine.fingerprint import INDECISIVE, Difference, differences

FACTS = {"cpu_model": "Made-up CPU", "cgroup_cpus": "no limit", "load_before": 0.1, "package_pandas": "3"}


def test_differences_come_in_the_order_in_which_facts_were_recorded() -> None:
    """A fact that nobody has judged counts as well."""
    other = {name: f"another {value}" for name, value in FACTS.items()}
    found = differences(FACTS | {"nobody_knows": 1}, other | {"nobody_knows": 2})
    assert [one.name for one in found] == ["cpu_model", "cgroup_cpus", "nobody_knows"]


@pytest.mark.parametrize("name", sorted(INDECISIVE))
def test_what_is_volatile_or_only_recorded_never_decides(name: str) -> None:
    """However far apart the values."""
    assert differences(FACTS | {name: "one"}, FACTS | {name: "other"}) == []


@pytest.mark.parametrize(
    "name",
    [
        *("torch", "package_numpy", "python", "kernel", "cpu_model", "cgroup_cpus", "cores_allowed"),
        *("torch_threads", "omp_num_threads", "allocator_policy", "cpu_governor", "gpu", "gpu_power_limit_w"),
        *("float32_matmul_precision", "cudnn_allow_tf32", "cudnn_benchmark", "cudnn_deterministic"),
        *("torch_debug_build", "gpu_uuid"),
    ],
)
def test_a_deciding_fact_that_differs_is_named_with_both_values(name: str) -> None:
    """Alone among those that are the same."""
    assert differences(FACTS | {name: "one"}, FACTS | {name: "other"}) == [Difference(name, "one", "other")]


def test_a_gpu_that_only_one_machine_has_is_a_difference() -> None:
    """On either side."""
    assert differences(FACTS | {"gpu": "Made-up GPU"}, FACTS) == [Difference("gpu", "Made-up GPU", None)]
    assert differences(FACTS, FACTS | {"gpu": "Made-up GPU"}) == [Difference("gpu", None, "Made-up GPU")]


def test_a_machine_does_not_differ_from_itself() -> None:
    """Nor does an empty record from an empty one."""
    assert differences(FACTS, dict(FACTS)) == differences({}, {}) == []


def test_reading_a_fingerprint_does_not_import_torch() -> None:
    """Reports use it."""
    asked = "import nncore_bench.machine.fingerprint, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0


@pytest.mark.parametrize("unknown", [{}, {"cpu_vendor": "unknown"}])
def test_a_fact_that_one_run_does_not_know_tells_nothing_apart(unknown: dict[str, str]) -> None:
    """As where one run is older than the fact."""
    assert differences(FACTS | {"cpu_vendor": "GenuineIntel"}, FACTS | unknown) == []
