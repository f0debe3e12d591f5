"""`nncore-bench run`: the script stays the user's own, whatever it does and however it ends."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from watched_scripts import bare, command, ran, run, script

from nncore_bench.watch.marks import MARKS_FILE

pytestmark = pytest.mark.machine

PHASES = {"zero_grad", "forward", "loss", "backward", "optimizer", "between steps", "other", "step"}


def test_output_loss_and_arguments_are_as_without_us(tmp_path: Path) -> None:
    path = script(
        tmp_path, "import sys\nsteps(200)\nprint(sys.argv, __name__, __file__, sys.path[0])\nsys.exit(7)"
    )
    alone, watched = bare(tmp_path, path.name, "--lr", "3"), run(tmp_path, path.name, "--lr", "3")
    assert (watched.out, watched.code) == (alone.out, 7)
    assert alone.err == ""
    assert watched.phases == PHASES
    assert watched.answer["steps"] == 200


def test_a_module_runs_as_python_runs_it(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    script(
        tmp_path / "package",
        "import sys\nsteps(100)\nprint(sys.argv[1:], __name__, __package__, __spec__.name)",
    )
    alone = bare(tmp_path, "-m", "package.train", "--json", "x")
    watched = run(tmp_path, "-m", "package.train", "--json", "x")
    assert watched.out == alone.out
    assert watched.phases == PHASES


def test_a_script_has_its_own_bench_and_nncore(tmp_path: Path) -> None:
    for name in ("bench", "nncore"):
        (tmp_path / f"{name}.py").write_text(f"WHOSE = 'the {name} of the script'")
    path = script(tmp_path, "import bench, nncore\nsteps(100)\nprint(bench.WHOSE, nncore.WHOSE)")
    assert "the bench of the script the nncore of the script" in run(tmp_path, path.name).out


def test_an_exception_is_told_as_python_does_and_the_steps_before_it(tmp_path: Path) -> None:
    path = script(tmp_path, "steps(200)\ndef fails():\n    raise ValueError('nothing left')\nfails()")
    alone, watched = bare(tmp_path, path.name), run(tmp_path, path.name)
    assert (watched.code, watched.out) == (alone.code, alone.out)
    assert watched.err.startswith(alone.err)
    assert watched.phases == PHASES


def test_a_script_that_ends_in_a_crash_leaves_a_readable_run(tmp_path: Path) -> None:
    for ending, code in (
        ("os._exit(3)", 3),
        ("os.kill(os.getpid(), 11)", -11),
        ("os.kill(os.getpid(), 9)", -9),
    ):
        path = script(tmp_path, f"import os\nsteps(200)\n{ending}")
        watched = run(tmp_path, path.name)
        assert watched.code == code
        assert watched.phases == PHASES


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_and_the_run_told_within_five_seconds(
    tmp_path: Path, number: signal.Signals
) -> None:
    path = script(tmp_path, "while True:\n    steps(200)")
    codes = []
    for words in ([sys.executable, path.name], command(tmp_path, [path.name])):
        begun = subprocess.Popen(
            words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert begun.stdout is not None
        begun.stdout.readline()
        begun.send_signal(number)
        at = time.monotonic()
        out, err = begun.communicate(timeout=60)
        assert time.monotonic() - at < 5
        codes.append(begun.returncode)
        assert ("Traceback" in err) == (number == signal.SIGINT)
    # Python ends by SIGINT, or with 1 where it was C++ code that was interrupted
    assert {*codes} <= ({1, -number} if number == signal.SIGINT else {-number})
    watched = ran(tmp_path, codes[1], out, err)
    assert watched.phases == PHASES
    assert "nncore_bench" not in watched.err


def test_a_signal_that_the_script_handles_is_its_own_affair(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        "import signal, sys\nsignal.signal(signal.SIGUSR1, lambda *_: (print('saved'), sys.exit(5)))\n"
        "while True:\n    steps(50)",
    )
    begun = subprocess.Popen(
        command(tmp_path, [path.name]),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert begun.stdout is not None
    begun.stdout.readline()
    begun.send_signal(signal.SIGUSR1)
    out, _ = begun.communicate(timeout=60)
    assert (begun.returncode, out.splitlines()[-1]) == (5, "saved")


def test_what_cannot_be_watched_is_said_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    for text, said in (
        ("print('no torch')", "the process did not import torch"),
        ("import torch", "no optimizer of torch took a step in this process"),
    ):
        path.write_text(text)
        watched = run(tmp_path, path.name)
        assert watched.code == 0
        assert said in watched.err
    few = run(tmp_path, script(tmp_path, "steps(12)").name)
    assert "the process ended after 12 steps, of which the first 10 are skipped" in few.err
    missing = run(tmp_path, "nothing.py")
    assert (missing.code, missing.err) == (
        2,
        "nncore-bench run: 'nothing.py' is no script (a module is run with -m)\n",
    )


def test_what_torch_reads_at_import_is_the_scripts_to_set(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        "steps(100)\nprint(torch.get_num_threads())",
        before="import os\nos.environ['OMP_NUM_THREADS'] = '1'\n",
    )
    assert run(tmp_path, path.name).out.splitlines()[-1] == "1"


def test_workers_are_left_alone_and_spawned_ones_find_the_script(tmp_path: Path) -> None:
    for context in ("fork", "spawn"):
        path = script(
            tmp_path,
            f"""
            class Data(torch.utils.data.Dataset):
                def __len__(self):
                    return 1600

                def __getitem__(self, index):
                    return x[index % 32], y[index % 32]


            if __name__ == "__main__":
                loader = torch.utils.data.DataLoader(
                    Data(), batch_size=8, num_workers=1, multiprocessing_context="{context}"
                )
                for inputs, targets in loader:
                    optimizer.zero_grad()
                    nn.functional.mse_loss(model(inputs), targets).backward()
                    optimizer.step()
                print("done")
            """,
        )
        watched = run(tmp_path, path.name)
        assert (watched.out, watched.code) == ("done\n", 0)
        assert watched.phases == PHASES - {"between steps"} | {"waiting for data"}


def test_one_training_after_another_is_watched(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        """
        steps(100)
        model = nn.Linear(8, 1)
        optimizer = torch.optim.Adam(model.parameters())
        steps(700)
        """,
    )
    watched = run(tmp_path, path.name, options=["--skip=5"])
    assert watched.answer["steps"] > 600
    assert watched.answer["process"]["models"] == ["Linear"]


def test_schedules_that_are_made_while_seams_are_there_work(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        """
        rates = []
        for _ in range(20):
            schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.99)
            steps(10)
            schedule.step()
            rates.append(optimizer.param_groups[0]["lr"])
        print(rates)
        """,
    )
    alone, watched = bare(tmp_path, path.name), run(tmp_path, path.name, options=["--all"])
    assert watched.out == alone.out
    assert alone.err == ""
    assert "Warning" not in watched.err


def test_what_is_kept_is_no_larger_than_what_was_marked(tmp_path: Path) -> None:
    run(tmp_path, script(tmp_path, "steps(100)").name)
    (marks,) = (tmp_path / "results").glob(f"*/{MARKS_FILE}")
    assert 1_000 < marks.stat().st_size < 100_000


def test_a_full_disk_is_said_before_the_script_runs(tmp_path: Path) -> None:
    path = script(tmp_path, "steps(100)")
    watched = run(tmp_path, path.name, options=["--results=/proc/results"])
    assert watched.code == 2
    assert watched.out == ""
    assert "cannot be written" in watched.err
