"""What a subject is made of: torchvision's, and factories as users write them."""

import os
import random
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from nncore_bench.cases import Case
from nncore_bench.worker.blocks import SubjectError
from nncore_bench.worker.subjects.batches import Samples
from nncore_bench.worker.subjects.complete import completed
from nncore_bench.worker.subjects.factory import FactorySubject
from nncore_bench.worker.subjects.load import make

NEWCOMER = """
from torch import nn

def make():
    return nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 3))
"""
OBJECT = """
import torch
from torch import nn

class Regression:
    def __init__(self):
        self.model = nn.Bilinear(4, 5, 1)
        self.batch = (torch.ones(6, 4), torch.ones(6, 5)), torch.zeros(6, 1)
        self.loss = nn.functional.mse_loss
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder to write a user's file in, from which paths and imports begin."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_bare_network_gets_data_a_loss_and_an_optimizer_and_says_so(written: Path) -> None:
    """Five lines of a newcomer: the first layer tells the shape, the outputs the classes."""
    (written / "my_net.py").write_text(NEWCOMER)
    made = make("tiny=./my_net.py:make")
    assert made.inputs.shape == (8, 20)
    assert made.targets.shape == (8,)
    assert int(made.targets.max()) < 3
    assert isinstance(made.loss, nn.CrossEntropyLoss)
    assert isinstance(made.optimizer, torch.optim.Adam)
    assert made.optimizer.defaults["lr"] == 0.001
    assert made.assumed == [
        "inputs: synthetic, 20 a sample",
        "targets: random classes of 3",
        "loss: cross-entropy over the outputs",
        "optimizer: Adam, lr 0.001",
    ]


def test_an_object_keeps_what_it_has(written: Path) -> None:
    """Two inputs, a loss and an optimizer of its own; by the name of its module."""
    (written / "my_regression.py").write_text(OBJECT)
    made = make("my_regression:Regression")
    assert made.assumed == []
    assert made.model(*made.inputs).shape == (6, 1)
    assert isinstance(made.optimizer, torch.optim.SGD)


def test_a_file_does_not_stand_in_for_a_module_of_its_name(written: Path) -> None:
    """random.py is a name as any."""
    (written / "random.py").write_text(NEWCOMER)
    make("./random.py:make")
    assert sys.modules["random"] is random


def test_a_network_of_torchvision_gets_images() -> None:
    """Without weights; the first layer tells the channels."""
    made = make("torchvision:squeezenet1_1")
    assert made.inputs.shape == (8, 3, 224, 224)
    assert made.assumed[0] == "inputs: synthetic, 3 x 224 x 224 a sample"


def test_examples_are_cut_and_repeated_in_a_cycle() -> None:
    """Samples keep their targets."""
    batch = ({"a": torch.arange(3)}, torch.arange(3) * 10)
    inputs, targets = Samples.of(*batch).taken(batch, 5, 2)
    assert inputs["a"].tolist() == [2, 0, 1, 2, 0]
    assert targets.tolist() == [20, 0, 10, 20, 0]


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("def make(): raise KeyError('x')", "raised KeyError at net.py:1: 'x' (call it by itself)"),
        (
            "def make(): return 5",
            "it returned int, which is neither an nn.Module nor has one as its attribute `model`",
        ),
        ("import not_there", "needs the module 'not_there', which is not installed here"),
        ("def other(): pass", "has no make (it has other)"),
        ("from torch import nn\nmake = nn.ReLU", "its model has no trainable parameters"),
        (
            "from torch import nn\ndef make(): return nn.LSTM(4, 5)",
            "its first layer is LSTM, which does not tell the shape of a batch (return an object with",
        ),
        (
            "from torch import nn\ndef make(): return nn.Sequential(nn.Linear(4, 5), nn.Linear(6, 2))",
            "its model cannot be called with inputs of shape [8, 4]: mat1 and mat2 shapes cannot be",
        ),
        (
            "from torch import nn\ndef make(): return nn.Sequential(nn.Linear(4, 5), nn.Flatten(0))",
            "its model returns outputs of shape [40], not one score per class (give a batch with targets,",
        ),
        (
            "from torch import nn, ones\nclass make:\n model = nn.Linear(2, 2)\n batch = ones(3, 2), ones(4)",
            "its batch holds 3 and 4 samples (give as many of each, or a",
        ),
        (
            "import torch\nclass make:\n model = torch.nn.Linear(2, 2)\n optimizer = 'adam'",
            "its optimizer is str, not a torch.optim.Optimizer",
        ),
        (
            "from torchvision.models import resnet18\ndef make(): return resnet18(weights='DEFAULT')",
            "it would download https://",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence_with_the_factory_and_the_fix(
    written: Path, code: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each as a user would meet it."""
    monkeypatch.setenv("TORCH_HOME", str(written))  # where no weights are
    (written / "net.py").write_text(code)
    with pytest.raises(SubjectError) as refusal:
        make("./net.py:make")
    assert str(refusal.value).startswith("./net.py:make")
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("subject", "sentence"),
    [
        (
            "torchvision:resnet99",
            "torchvision:resnet99 is not a classification network (choose one such as resnet101, resnet152",
        ),
        ("./gone.py:make", "no file 'gone.py'"),
        ("not_a_module:make", "needs the module 'not_a_module'"),
    ],
)
def test_a_name_of_nothing_is_one_sentence(written: Path, subject: str, sentence: str) -> None:
    """It says where it was looked for."""
    assert written.is_dir()
    with pytest.raises(SubjectError) as refusal:
        make(subject)
    assert sentence in str(refusal.value)


class WithAuxiliary(nn.Module):
    """Give auxiliary outputs while it trains, as GoogLeNet and Inception do."""

    aux_logits = True

    def __init__(self) -> None:
        super().__init__()
        self.own, self.auxiliary = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, inputs: torch.Tensor) -> object:
        return (self.own(inputs), None, self.auxiliary(inputs)) if self.training else self.own(inputs)


HUB_ERROR = """
class {name}({base}): __module__ = "{module}"
def make(): raise {name}("no network")
"""


@pytest.mark.parametrize(
    ("name", "base", "module", "told"),
    [
        ("LocalEntryNotFoundError", "FileNotFoundError", "huggingface_hub.errors", True),
        ("OfflineModeIsEnabled", "ConnectionError", "huggingface_hub.errors", True),
        ("ConnectionError", "OSError", "requests.exceptions", True),
        ("ConnectError", "Exception", "httpx", True),
        ("HFValidationError", "ValueError", "huggingface_hub.errors", False),
        ("ConnectionRefused", "ConnectionError", "my_database", False),
    ],
)
def test_an_error_of_a_library_that_downloads_is_told_with_what_stops_it(
    name: str, base: str, module: str, *, told: bool, written: Path
) -> None:
    """By itself or as the reason of another, such as transformers' OSError; other errors are as before."""
    code = HUB_ERROR.format(name=name, base=base, module=module)
    wrapped = "def wrapped():\n try: make()\n except Exception as e: raise OSError('cannot load') from e\n"
    (written / "net.py").write_text(code + wrapped)
    for factory, said in (("make", f"{name} at net.py:3: no network"), ("wrapped", "OSError at net.py:6")):
        with pytest.raises(SubjectError) as refusal:
            make(f"./net.py:{factory}")
        start = f"./net.py:{factory}: it tried to download: " if told else f"./net.py:{factory} raised "
        assert str(refusal.value).startswith(start + said)
        assert ("AutoModel.from_config(config)" in str(refusal.value)) is told


@pytest.mark.parametrize("where", ["def make(): ", ""])
def test_an_address_that_cannot_be_reached_is_told_also_while_importing(where: str, written: Path) -> None:
    """Nothing listens on the port of the discard protocol here."""
    code = f"import urllib.request\n{where}urllib.request.urlopen('http://127.0.0.1:9/weights.bin')"
    (written / "net.py").write_text(code)
    with pytest.raises(SubjectError, match=r"\./net\.py:make: it tried to download: URLError at net\.py:2: "):
        make("./net.py:make")


def test_the_hub_is_offline_only_while_a_subject_is_made(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless its user has chosen."""
    code = "import os\nfrom torch import nn\ndef make():\n"
    (written / "net.py").write_text(code + " return nn.Linear(len(os.environ['HF_HUB_OFFLINE']), 2)")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert make("./net.py:make").inputs.shape == (8, 1)
    assert "HF_HUB_OFFLINE" not in os.environ
    monkeypatch.setenv("HF_HUB_OFFLINE", "off")
    assert make("./net.py:make").inputs.shape == (8, 3)
    assert os.environ["HF_HUB_OFFLINE"] == "off"


def test_auxiliary_outputs_are_part_of_the_loss() -> None:
    """The network's own count once, each auxiliary one 0.3 times; one that is left out not at all."""
    made = completed("a_name", WithAuxiliary())
    own, _, auxiliary = made.model(made.inputs)
    cross_entropy = nn.functional.cross_entropy
    expected = cross_entropy(own, made.targets) + 0.3 * cross_entropy(auxiliary, made.targets)
    assert torch.allclose(made.loss((own, None, auxiliary), made.targets), expected)
    assert "loss: cross-entropy, with 0.3 of the auxiliary outputs'" in made.assumed


def test_a_subject_of_a_notebook_has_to_be_handed_over() -> None:
    """Typed by hand, its name leads nowhere, and the sentence says what does."""
    with pytest.raises(SubjectError, match=r"only nncore_bench.measure_step can hand over"):
        make("measure_step:Net")


@pytest.mark.parametrize(("seconds", "kept"), [(0.1, 8), (0.5, 5), (0.9, 4), (1.5, 3), (2.5, 2)])
def test_of_a_long_step_as_many_batches_are_kept_as_its_shortest_block_runs(
    seconds: float, kept: int, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leading iteration, and 4 counted ones, or fewer where one takes a second."""
    (written / "my_net.py").write_text(NEWCOMER)
    readings = count()
    clock = SimpleNamespace(perf_counter=lambda: next(readings) * seconds)
    case = Case("./my_net.py:make", "-", "cpu", 1, "float32", "eager", 8, "-")
    subject = FactorySubject(case)
    monkeypatch.setattr("nncore_bench.worker.subjects.factory.time", clock)
    subject.check()
    assert len(subject.batches) == kept
