"""The network: two linear layers with a ReLU between them."""

from torch import Tensor, nn


class SimpleNN(nn.Module):
    """Map flat inputs to one score per class.

    The default sizes (28 x 28 pixels, 10 digits) make 784*128 + 128 + 128*10 + 10 = 101,770 parameters.

    Raises:
        ValueError: a size is below 1.

    """

    def __init__(self, input_size: int = 784, hidden_size: int = 128, output_size: int = 10) -> None:
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "output_size": output_size}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name}: {size} is below 1 (example: 128)")
        super().__init__()
        self.fc1 = nn.Linear(input_size, hidden_size)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(hidden_size, output_size)

    def forward(self, inputs: Tensor) -> Tensor:  # [N, input_size]
        """Return the logits, [N, output_size]: scores before the softmax, which the loss applies itself."""
        out = self.fc1(inputs)  # [N, hidden_size]
        out = self.relu(out)  # [N, hidden_size]
        logits: Tensor = self.fc2(out)  # [N, output_size]
        return logits
