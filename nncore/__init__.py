"""A small neural network with its training step and data: the default subject of the benchmark.

Read the modules in this order: model, step, train, evaluate, data, device.
"""

from nncore.data import (
    DATASETS,
    Dataset,
    endless_loader,
    load_dataset,
    make_loader,
    resident_batches,
    to_device,
)
from nncore.device import choose_device, seed_everything
from nncore.evaluate import Evaluation, evaluate, predict
from nncore.mnist import DatasetError
from nncore.model import SimpleNN
from nncore.step import TrainStep
from nncore.train import train

__all__ = [
    "DATASETS",
    "Dataset",
    "DatasetError",
    "Evaluation",
    "SimpleNN",
    "TrainStep",
    "choose_device",
    "endless_loader",
    "evaluate",
    "load_dataset",
    "make_loader",
    "predict",
    "resident_batches",
    "seed_everything",
    "to_device",
    "train",
]
