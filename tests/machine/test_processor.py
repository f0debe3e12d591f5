"""The processor and its limits are read from files that may be missing, forbidden or garbage."""

from pathlib import Path

import pytest

from nncore_bench.machine.cgroup import limit_facts
from nncore_bench.machine.cpu import processor_facts

CPU0 = "sys/devices/system/cpu/cpu0"
GROUPS = "sys/fs/cgroup"


def tree(root: Path, **files: str) -> Path:
    """Write files below a folder and return it."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def cache(number: int, level: int, kind: str, size: str) -> dict[str, str]:
    """Return the files of one cache of the first processor."""
    folder = f"{CPU0}/cache/index{number}"
    return {f"{folder}/level": f"{level}\n", f"{folder}/type": f"{kind}\n", f"{folder}/size": f"{size}\n"}


def group(path: str, **files: str) -> dict[str, str]:
    """Return the files of one control group; two underscores stand for a dot."""
    named = {f"{path}/{name.replace('__', '.')}": content for name, content in files.items()}
    return {f"{path}/cgroup.procs": "", **named}


def quotas(root: Path) -> tuple[float | str, float | str]:
    """Return the limits of the control groups below a folder, in cores and in GiB."""
    facts = limit_facts(root)
    return facts["cgroup_cpus"], facts["cgroup_memory_gib"]


def forbid(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let files of a name be refused, as to a user who may not read them; root may read anything."""
    read = Path.read_text

    def refuse(path: Path, *arguments: str | None, **options: str | None) -> str:
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", refuse)


def test_caches_are_told_in_kib_and_the_one_of_instructions_is_left_out(tmp_path: Path) -> None:
    """Whatever the unit and the order in which the kernel lists them."""
    files = (
        cache(0, 1, "Instruction", "64K")
        | cache(1, 1, "Data", "48K")
        | cache(2, 2, "Unified", "2048K")
        | cache(3, 3, "Unified", "32M")
    )
    facts = processor_facts(tree(tmp_path, **files))
    assert [facts[f"cache_{name}_kib"] for name in ("l1d", "l2", "l3")] == [48, 2048, 32 * 1024]


def test_a_cache_that_cannot_be_read_is_unknown_and_the_others_are_not(tmp_path: Path) -> None:
    """One has no size, one a size nobody understands, one is not there."""
    files = cache(0, 1, "Data", "48K") | cache(1, 2, "Unified", "much") | {f"{CPU0}/cache/index2/level": "3"}
    facts = processor_facts(tree(tmp_path, **files))
    assert [facts[f"cache_{name}_kib"] for name in ("l1d", "l2", "l3")] == [48, "unknown", "unknown"]


def test_a_machine_without_any_files_is_unknown_and_not_an_error(tmp_path: Path) -> None:
    """Every field is there."""
    facts = processor_facts(tmp_path)
    assert facts.keys() == processor_facts().keys()
    assert {facts[name] for name in ("cpu_vendor", "cpu_flags", "cpu_governor", "cpu_turbo")} == {"unknown"}
    assert {facts[name] for name in ("hyper_threading", "virtual_machine", "product")} == {"unknown"}


def test_the_list_of_processors_gives_model_and_the_flags_that_matter(tmp_path: Path) -> None:
    """Of the first processor, in an order of our own."""
    info = (
        "model name\t: Made-up CPU @ 2: fast\nvendor_id\t: Anvil\n"
        "flags\t\t: fpu avx2 hypervisor avx amx_tile\n\nmodel name\t: Another\n"
    )
    facts = processor_facts(tree(tmp_path, **{"proc/cpuinfo": info}))
    assert facts["cpu_model"] == "Made-up CPU @ 2: fast"
    assert facts["cpu_vendor"] == "Anvil"
    assert facts["cpu_flags"] == "avx avx2 amx_tile"
    assert facts["virtual_machine"] == "yes"


def test_an_arm_processor_lists_features(tmp_path: Path) -> None:
    """And has no flag that would tell of a hypervisor."""
    info = "processor\t: 0\nFeatures\t: fp asimd sve bf16\nCPU implementer\t: 0x41\n"
    facts = processor_facts(tree(tmp_path, **{"proc/cpuinfo": info}))
    assert (facts["cpu_flags"], facts["cpu_vendor"]) == ("asimd bf16 sve", "0x41")
    assert facts["virtual_machine"] == "unknown"


def test_governors_are_named_once_each(tmp_path: Path) -> None:
    """Processors of one machine may have several."""
    files = {
        f"sys/devices/system/cpu/cpu{n}/cpufreq/scaling_governor": f"{name}\n"
        for n, name in enumerate(["powersave", "performance", "powersave"])
    }
    assert processor_facts(tree(tmp_path, **files))["cpu_governor"] == "performance powersave"


def test_a_governor_that_may_not_be_read_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As are those that are not there."""
    tree(tmp_path, **{f"{CPU0}/cpufreq/scaling_governor": "powersave"})
    forbid(monkeypatch, "scaling_governor")
    assert processor_facts(tmp_path)["cpu_governor"] == "unknown"


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("intel_pstate/no_turbo", "1", "off"),
        ("intel_pstate/no_turbo", "0", "on"),
        ("cpufreq/boost", "1", "on"),
        ("cpufreq/boost", "0", "off"),
        ("cpufreq/boost", "perhaps", "unknown"),
    ],
)
def test_turbo_is_told_in_the_words_of_either_driver(
    tmp_path: Path, file: str, content: str, said: str
) -> None:
    """One says that it is forbidden, the other that it is allowed."""
    tree(tmp_path, **{f"sys/devices/system/cpu/{file}": content})
    assert processor_facts(tmp_path)["cpu_turbo"] == said


def test_huge_pages_are_the_word_in_brackets(tmp_path: Path) -> None:
    """Without brackets the setting is unknown."""
    name = "sys/kernel/mm/transparent_hugepage/enabled"
    for content, setting in (("always [madvise] never\n", "madvise"), ("always", "unknown")):
        assert limit_facts(tree(tmp_path, **{name: content}))["transparent_hugepages"] == setting


@pytest.mark.parametrize(
    ("content", "cpus"),
    [
        ("50000 100000\n", 0.5),
        ("max 100000\n", "no limit"),
        ("garbage", "unknown"),
        ("1 0", "unknown"),
        ("", "unknown"),
    ],
)
def test_a_quota_is_a_number_of_cores(tmp_path: Path, content: str, cpus: float | str) -> None:
    """Its word for no limit is max."""
    files = {"proc/self/cgroup": "0::/\n", **group(GROUPS, cpu__max=content)}
    assert limit_facts(tree(tmp_path, **files))["cgroup_cpus"] == cpus


def test_the_tightest_group_on_the_way_to_the_top_counts(tmp_path: Path) -> None:
    """One in the middle, between one without a limit and one that allows more."""
    files = {
        "proc/self/cgroup": "0::/pod/box/task\n",
        **group(GROUPS),
        **group(f"{GROUPS}/pod", cpu__max="800000 100000", memory__max=str(4 * 2**30)),
        **group(f"{GROUPS}/pod/box", cpu__max="200000 100000", memory__max=str(6 * 2**30)),
        **group(f"{GROUPS}/pod/box/task", cpu__max="max 100000", memory__max="max"),
    }
    assert quotas(tree(tmp_path, **files)) == (2, 4)


@pytest.mark.parametrize("path", ["/elsewhere/on/the/host", "/../..", "/"])
def test_a_group_outside_of_what_is_mounted_leaves_the_top(tmp_path: Path, path: str) -> None:
    """A container may see the name of its group on the host, and only its own group's files."""
    files = {"proc/self/cgroup": f"0::{path}\n", **group(GROUPS, cpu__max="300000 100000")}
    assert limit_facts(tree(tmp_path, **files))["cgroup_cpus"] == 3


def test_limits_of_version_one_are_unknown(tmp_path: Path) -> None:
    """Also where version 2 is mounted within, without the controllers."""
    files = {
        "proc/self/cgroup": "4:memory:/\n1:cpu:/\n0::/\n",
        **group(f"{GROUPS}/unified"),
        **group(f"{GROUPS}/cpu", cpu__cfs_quota_us="100000", cpu__cfs_period_us="100000"),
    }
    assert quotas(tree(tmp_path, **files)) == ("unknown", "unknown")


def test_groups_without_limits_are_no_limit_and_no_groups_are_unknown(tmp_path: Path) -> None:
    """The group at the top has no files of limits; a system without groups says nothing of them."""
    assert quotas(tmp_path) == ("unknown", "unknown")
    root = tree(tmp_path, **{"proc/self/cgroup": "0::/\n", **group(GROUPS)})
    assert quotas(root) == ("no limit", "no limit")


@pytest.mark.parametrize("content", ["garbage\n", "0:\n\n::::\n", "\x00\xff"])
def test_a_list_of_groups_that_nobody_understands_is_unknown(tmp_path: Path, content: str) -> None:
    """It does not end the run."""
    assert limit_facts(tree(tmp_path, **{"proc/self/cgroup": content}))["cgroup_cpus"] == "unknown"


def test_a_limit_that_may_not_be_read_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other limits of the group may still be known."""
    files = {"proc/self/cgroup": "0::/\n", **group(GROUPS, cpu__max="1 1", memory__max="max")}
    forbid(monkeypatch, "cpu.max")
    assert quotas(tree(tmp_path, **files)) == ("unknown", "no limit")
