"""ResNet-18 on small images: eight of 64 x 64, ten classes."""

from types import SimpleNamespace

import torch
from torchvision.models import resnet18


def make() -> SimpleNamespace:
    """Return the network with the batch that it is measured on."""
    images, classes = torch.randn(8, 3, 64, 64), torch.randint(10, (8,))
    return SimpleNamespace(model=resnet18(weights=None, num_classes=10), batch=(images, classes))
