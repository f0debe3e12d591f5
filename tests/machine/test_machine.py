"""What is recorded of a machine is complete, plain, and never a reason to fail."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nncore_bench.machine.facts import code_measured, machine_facts, software_facts
from nncore_bench.machine.fingerprint import INDECISIVE
from nncore_bench.machine.reading import known, text
from nncore_bench.worker.torch_facts import torch_facts

USED_BY_REPORTS = ("cpu_model", "cores_allowed", "memory_gib", "kernel", "python")


def test_thirty_facts_and_more_are_recorded_without_a_gpu() -> None:
    """And as many are known, whatever machine this is."""
    facts = {name: fact for name, fact in machine_facts({}).items() if not name.startswith("gpu")}
    assert len(facts) >= 30
    assert len([fact for fact in facts.values() if fact != "unknown"]) >= 30
    assert facts.keys() >= set(USED_BY_REPORTS)


def test_all_facts_are_plain_values() -> None:
    """They survive a trip through JSON unchanged."""
    facts = {**machine_facts({}), **torch_facts()}
    assert json.loads(json.dumps(facts)) == facts


def test_a_machine_without_files_has_the_same_fields(tmp_path: Path) -> None:
    """What cannot be read is a word, and nothing is missing."""
    assert machine_facts({}, tmp_path).keys() == machine_facts({}).keys()


def test_the_allocator_policy_of_the_workers_is_on_record() -> None:
    """And of the environment nothing else."""
    facts = machine_facts({"MALLOC_TOP_PAD_": "1", "HOME": "somewhere"})
    assert facts["allocator_policy"] == "MALLOC_TOP_PAD_=1"
    assert facts["cores_allowed"] >= 1


def test_variables_that_steer_threads_are_on_record_and_secrets_are_not() -> None:
    """Those with a field of their own stand there alone."""
    environment = {"OMP_NUM_THREADS": "3", "KMP_BLOCKTIME": "0", "GOMP_SPINCOUNT": "9", "MY_TOKEN": "secret"}
    facts = software_facts(environment)
    assert (facts["omp_num_threads"], facts["mkl_num_threads"]) == ("3", "unset")
    assert facts["threading_environment"] == "GOMP_SPINCOUNT=9 KMP_BLOCKTIME=0"
    assert "secret" not in json.dumps(facts)
    assert software_facts({})["threading_environment"] == "unset"


def test_a_package_that_is_not_there_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other facts are as they were."""
    monkeypatch.setattr("nncore_bench.machine.facts.PACKAGES", ("numpy", "no-such-package"))
    facts = software_facts({})
    assert facts["package_no_such_package"] == "unknown"
    assert facts["package_numpy"][0].isdigit()


def test_whatever_a_reading_raises_is_unknown(tmp_path: Path) -> None:
    """As is a reading without a value; nought and no are values."""

    def fail() -> None:
        raise PermissionError(13, "no")

    assert [known(read) for read in (fail, lambda: None, lambda: "", lambda: 1 // 0)] == ["unknown"] * 4
    assert [known(read) for read in (lambda: 0, lambda: False)] == [0, False]
    assert text(tmp_path) is None


def test_code_outside_of_any_repository_has_an_unknown_commit(tmp_path: Path) -> None:
    """Git refuses there, and the run goes on."""
    assert code_measured(tmp_path / "nowhere").commit == "unknown"


@pytest.mark.machine
def test_asking_torch_for_its_facts_leaves_cuda_alone() -> None:
    """A process that has initialised CUDA cannot fork; asked of a fresh one, with a GPU or without."""
    asked = (
        "import torch\n"
        "def fail(*_): raise SystemExit('CUDA was initialised')\n"
        "torch.cuda._lazy_init = torch.cuda.get_device_capability = fail\n"
        "torch.cuda.is_available = lambda: True\n"
        "from nncore_bench.worker.torch_facts import torch_facts\n"
        "torch_facts()\n"
    )
    result = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_what_torch_says_of_itself_is_known_and_decides() -> None:
    """Every fact but the folder of the code."""
    facts = torch_facts()
    del facts["code_path"]
    assert not facts.keys() & INDECISIVE
    assert "unknown" not in [fact for name, fact in facts.items() if name != "torch_cudnn"]
