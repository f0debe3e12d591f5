"""Networks of packages that people train with, small and built from a config, with the batches they take."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn


def trained(model: nn.Module, batch: Any, **more: Any) -> SimpleNamespace:  # noqa: ANN401 - any structure
    return SimpleNamespace(
        model=model, batch=batch, optimizer=torch.optim.AdamW(model.parameters(), lr=1e-4), **more
    )


def bert() -> SimpleNamespace:
    from transformers import BertConfig, BertForSequenceClassification  # noqa: PLC0415 - one package a test

    config = BertConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    tokens = torch.randint(100, (8, 16))
    batch = {
        "input_ids": tokens,
        "attention_mask": torch.ones_like(tokens),
        "labels": torch.arange(8) % 2,
    }
    return trained(BertForSequenceClassification(config), batch)


def gpt2() -> SimpleNamespace:
    from transformers import GPT2Config, GPT2LMHeadModel  # noqa: PLC0415 - one package a test

    config = GPT2Config(
        vocab_size=100, n_positions=32, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    tokens = torch.randint(100, (8, 16))
    return trained(GPT2LMHeadModel(config), {"input_ids": tokens, "labels": tokens})


def gpt2_of_a_tokenizer() -> SimpleNamespace:
    """As a tokenizer hands a batch over."""
    from transformers import BatchEncoding  # noqa: PLC0415 - one package a test

    made = gpt2()
    made.batch = BatchEncoding(made.batch)
    return made


def faster_rcnn() -> SimpleNamespace:
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn  # noqa: PLC0415 - takes a second

    model = fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=3, min_size=64, max_size=64
    )

    def loader(batch_size: int) -> Iterator[Any]:
        images = [torch.rand(3, 64, 48 + 8 * (sample % 2)) for sample in range(batch_size)]
        boxes = torch.tensor([[8.0, 8.0, 30.0, 34.0]])
        yield (images, [{"boxes": boxes, "labels": torch.tensor([1])} for _ in images]), None

    return SimpleNamespace(model=model, loader=loader, optimizer=torch.optim.SGD(model.parameters(), lr=1e-3))


def segmentation() -> SimpleNamespace:
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large  # noqa: PLC0415 - takes a second

    def loss(outputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs["out"], targets)

    model = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)
    return trained(model, (torch.rand(4, 3, 64, 64), torch.randint(4, (4, 64, 64))), loss=loss)


def vision_transformer() -> SimpleNamespace:
    from torchvision.models import VisionTransformer  # noqa: PLC0415 - takes a second

    model = VisionTransformer(
        image_size=64, patch_size=16, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64, num_classes=5
    )
    return trained(model, (torch.rand(8, 3, 64, 64), torch.arange(8) % 5))


def of_timm() -> SimpleNamespace:
    import timm  # noqa: PLC0415 - one package a test

    model = timm.create_model("resnet10t", pretrained=False, num_classes=5)
    return trained(model, (torch.rand(8, 3, 64, 64), torch.arange(8) % 5))


def downloaded_bert() -> nn.Module:
    from transformers import AutoModel  # noqa: PLC0415 - one package a test

    made: nn.Module = AutoModel.from_pretrained("bert-base-uncased")
    return made


def downloaded_resnet() -> nn.Module:
    import timm  # noqa: PLC0415 - one package a test

    return timm.create_model("resnet18", pretrained=True)
