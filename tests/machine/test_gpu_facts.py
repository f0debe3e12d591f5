"""The GPU is the one that torch would use, and what its library refuses to say is unknown."""

import pytest
from fake_nvml import READINGS, UUIDS, library, refuse

from nncore_bench.machine.fingerprint import INDECISIVE
from nncore_bench.machine.gpu import FIXED, MOMENTARY, STATE, gpu_facts, gpu_state, visible_gpu


@pytest.mark.parametrize(
    ("visible", "number"),
    [
        (None, 0),
        ("2,0", 2),
        (" 1 ", 1),
        ("GPU-cc", 2),
        ("GPU-aabb-2,GPU-aaaa-1", 1),
        ("MIG-GPU-cccc-3/1/0", 2),
        ("GPU-aa", None),  # two begin so
        ("GPU-", None),
        ("GPU-dddd", None),
        ("3", None),
        ("-1", None),
        ("", None),
        ("1,1", None),
        ("first", None),
        ("MIG-cccc-3", None),
    ],
)
def test_the_gpu_is_the_first_that_cuda_would_show(visible: str | None, number: int | None) -> None:
    """By index or by the beginning of a UUID, as CUDA's guide says of CUDA_VISIBLE_DEVICES."""
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert visible_gpu(environment, UUIDS) == number


def test_there_is_no_gpu_among_none() -> None:
    """Whatever the environment asks for."""
    assert visible_gpu({}, ()) is None


def test_the_facts_are_those_of_the_gpu_that_is_visible() -> None:
    """In units that people use."""
    facts = gpu_facts({"CUDA_VISIBLE_DEVICES": "2,0"}, library())
    assert facts.keys() == FIXED.keys() | MOMENTARY.keys()
    assert (facts["gpu"], facts["gpu_uuid"], facts["gpu_count"]) == ("Made-up GPU 2", "GPU-cccc-3", 3)
    assert (facts["gpu_memory_gib"], facts["gpu_memory_used_gib"]) == (80.0, 0.5)
    assert (facts["gpu_power_limit_w"], facts["gpu_power_before_w"]) == (700, 68)
    assert (facts["gpu_capability"], facts["gpu_compute_mode"]) == ("9.0", "exclusive process")
    assert (facts["gpu_ecc_mode"], facts["gpu_mig_mode"], facts["gpu_persistence_mode"]) == (
        "on",
        "off",
        "on",
    )
    assert facts["gpu_throttle_before"] == "idle, software thermal slowdown"


def test_how_a_gpu_is_at_a_moment_never_decides() -> None:
    """Nor do the number of GPUs and the mode that keeps the driver loaded; what a GPU is does."""
    assert gpu_facts({}, library()).keys() & INDECISIVE == {
        *MOMENTARY,
        *("gpu_count", "gpu_persistence_mode"),
    }


def test_a_slice_named_by_its_own_uuid_is_found_by_the_library() -> None:
    """Its name says nothing of the GPU that it is part of."""
    nvml = library(
        nvmlDeviceGetHandleByUUID=lambda uuid: {"MIG-1234": "slice"}[uuid],
        nvmlDeviceGetDeviceHandleFromMigDeviceHandle=lambda part: {"slice": 1}[part],
    )
    assert gpu_facts({"CUDA_VISIBLE_DEVICES": "MIG-1234"}, nvml)["gpu"] == "Made-up GPU 1"
    assert gpu_facts({"CUDA_VISIBLE_DEVICES": "MIG-9999"}, nvml) == {}


def test_a_library_that_refuses_everything_gives_no_facts() -> None:
    """As on a machine with the library and without the driver."""
    nvml = library(**dict.fromkeys(READINGS, refuse))
    assert gpu_facts({}, nvml) == {}
    assert gpu_state({}, nvml) == {}


def test_a_gpu_that_refuses_every_reading_has_unknown_facts() -> None:
    """It is there, so its fields are."""
    opening = ("nvmlInit", "nvmlShutdown", "nvmlDeviceGetCount")
    readings = [name for name in READINGS if name not in opening]
    nvml = library(**dict.fromkeys([*readings, "nvmlDeviceGetUUID", "nvmlDeviceGetName"], refuse))
    facts = gpu_facts({}, nvml)
    assert facts.pop("gpu_count") == 3
    assert set(facts.values()) == {"unknown"}


def test_functions_that_an_old_library_lacks_are_unknown_facts() -> None:
    """And the rest is known."""
    facts = gpu_facts({}, library(nvmlDeviceGetNumGpuCores=None, nvmlShutdown=None))
    assert (facts["gpu_cores"], facts["gpu"]) == ("unknown", "Made-up GPU 0")


def test_a_mode_of_a_future_driver_is_unknown() -> None:
    """Rather than a number whose meaning nobody knows."""
    assert gpu_facts({}, library(nvmlDeviceGetComputeMode=lambda _: 77))["gpu_compute_mode"] == "unknown"


def test_the_library_is_closed_again_after_a_failure() -> None:
    """Once for each time that it was opened."""
    closed: list[bool] = []
    nvml = library(nvmlDeviceGetCount=refuse, nvmlShutdown=lambda: closed.append(True))
    assert gpu_facts({}, nvml) == {}
    assert closed == [True]


def test_the_state_of_a_gpu_is_its_clock_and_what_holds_it_back() -> None:
    """In seconds since the driver was loaded."""
    state = gpu_state({}, library())
    assert state.keys() == STATE.keys()
    assert state["throttles"] == "idle, software thermal slowdown"
    assert (state["sm_mhz"], state["thermal_held_s"]) == (345, 1.5)
