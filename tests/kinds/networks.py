"""Networks of many kinds, small, each with the batch it takes."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm, weight_norm


def subject(model: nn.Module, inputs: Any, targets: Any, loss: Any = functional.mse_loss) -> SimpleNamespace:
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    return SimpleNamespace(model=model, batch=(inputs, targets), loss=loss, optimizer=optimizer)


def perceptron(inputs: int = 12, hidden: int = 16, outputs: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def classes(count: int = 8, of: int = 3) -> Tensor:
    return torch.arange(count) % of


def bare() -> nn.Module:
    return perceptron()


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(20, 12), nn.Linear(12, 20, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.embed(tokens).mean(1))


def tied_weights() -> SimpleNamespace:
    return subject(Tied(), torch.randint(20, (8, 5)), torch.randint(20, (8,)), functional.cross_entropy)


def lazy() -> SimpleNamespace:
    model = nn.Sequential(nn.LazyConv1d(4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return SimpleNamespace(model=model, batch=(torch.randn(8, 2, 10), classes()), optimizer=optimizer)


def batch_norm() -> SimpleNamespace:
    model = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    return subject(model, torch.randn(8, 12), classes(), functional.cross_entropy)


def lstm() -> SimpleNamespace:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.out = nn.LSTM(6, 8), nn.Linear(8, 3)

        def forward(self, steps: Tensor) -> Tensor:  # [time, samples, features]
            return self.out(self.rnn(steps)[0][-1])

    return subject(Last(), torch.randn(5, 8, 6), classes(), functional.cross_entropy)


def spectral() -> SimpleNamespace:
    model = nn.Sequential(spectral_norm(nn.Linear(12, 16)), nn.ReLU(), weight_norm(nn.Linear(16, 3)))
    return subject(model, torch.randn(8, 12), torch.randn(8, 3))


def transformer() -> SimpleNamespace:
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
    model = nn.Sequential(
        nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), nn.Flatten(), nn.Linear(64, 3)
    )
    return subject(model, torch.randn(8, 4, 16), classes(), functional.cross_entropy)


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.out = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.out(self.attention(x, x, x, attn_mask=mask, need_weights=False)[0]).mean(1)


def shared_mask() -> SimpleNamespace:
    mask = torch.ones(5, 5, dtype=torch.bool).triu(1)
    return subject(Masked(), (torch.randn(8, 5, 8), mask), torch.randn(8, 1))


class Counting(nn.Module):
    """Count its calls and keep a moving average in plain attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.calls, self.mean, self.seen = perceptron(), 0, torch.zeros(3), []

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        outputs: Tensor = self.net(x)
        self.mean = 0.9 * self.mean + 0.1 * outputs.detach().mean(0)
        self.seen.append(float(self.mean[0]))
        return outputs


def counts_its_calls() -> SimpleNamespace:
    return subject(Counting(), torch.randn(8, 12), torch.randn(8, 3))


def stochastic_depth() -> SimpleNamespace:
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks, self.out = nn.ModuleList(nn.Linear(12, 12) for _ in range(4)), nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            for block in self.blocks:
                if not self.training or torch.rand(()) < 0.5:
                    x = x + torch.tanh(block(x))
            return self.out(x)

    return subject(Skips(), torch.randn(8, 12), classes(), functional.cross_entropy)


def checkpointed() -> SimpleNamespace:
    from torch.utils.checkpoint import checkpoint  # noqa: PLC0415 - this one alone needs it

    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = perceptron(12, 16, 12), nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(checkpoint(self.first, x, use_reentrant=False))

    return subject(Again(), torch.randn(8, 12), classes(), functional.cross_entropy)


def frozen_half() -> SimpleNamespace:
    model = perceptron()
    model[0].requires_grad_(requires_grad=False)
    return subject(model, torch.randn(8, 12), classes(), functional.cross_entropy)


def frozen_in_eval() -> SimpleNamespace:
    body = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.Dropout(0.5)).requires_grad_(
        requires_grad=False
    )

    class Kept(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = body.eval(), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            assert not self.body.training
            return self.head(self.body(x))

    return subject(Kept(), torch.randn(8, 12), classes(), functional.cross_entropy)


def unused_branch() -> SimpleNamespace:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = perceptron(), perceptron()

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    return subject(Branch(), torch.randn(8, 12), classes(), functional.cross_entropy)


def with_module_hooks() -> SimpleNamespace:
    model = perceptron()
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        kept[:] = [output.detach()]

    model[1].register_forward_hook(keep)
    return subject(model, torch.randn(8, 12), classes(), functional.cross_entropy)


def with_gradient_hooks() -> SimpleNamespace:
    model = perceptron()
    for parameter in model.parameters():
        parameter.register_hook(lambda gradient: gradient.clamp(-1, 1))
    return subject(model, torch.randn(8, 12), classes(), functional.cross_entropy)


def scripted() -> SimpleNamespace:
    return subject(torch.jit.script(perceptron()), torch.randn(8, 12), classes(), functional.cross_entropy)


def traced() -> SimpleNamespace:
    model = torch.jit.trace(perceptron(), torch.randn(8, 12))
    return subject(model, torch.randn(8, 12), classes(), functional.cross_entropy)


def with_complex_numbers() -> SimpleNamespace:
    class Spectrum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(7, dtype=torch.complex64))

        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.irfft(torch.fft.rfft(x) * self.weight, n=12)

    return subject(Spectrum(), torch.randn(8, 12), torch.randn(8, 12))


def in_double_precision() -> SimpleNamespace:
    return subject(perceptron().double(), torch.randn(8, 12).double(), torch.randn(8, 3).double())


GLOBAL = perceptron()


def returns_the_same_network() -> SimpleNamespace:
    return subject(GLOBAL, torch.randn(8, 12), classes(), functional.cross_entropy)


def own_autograd_function() -> SimpleNamespace:
    class Sign(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x.sign()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return gradient * (ctx.saved_tensors[0].abs() < 1)

    class Binary(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return functional.linear(x, Sign.apply(self.weight), self.bias)

    return subject(nn.Sequential(Binary(12, 16), nn.Linear(16, 3)), torch.randn(8, 12), torch.randn(8, 3))
