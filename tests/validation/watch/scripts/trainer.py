"""Fine-tuning a small BERT with transformers' Trainer, from a configuration."""

import tempfile

import torch
from planted import wait
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)


class Sentences(torch.utils.data.Dataset):
    def __len__(self):
        return 1600

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return {"input_ids": torch.randint(0, 100, (12,), generator=generator), "labels": index % 2}


def collate(examples):
    wait()
    ids = torch.stack([example["input_ids"] for example in examples])
    return {"input_ids": ids, "labels": torch.tensor([example["labels"] for example in examples])}


set_seed(0)
config = BertConfig(
    vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
)
with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=4,
        max_steps=400,
        report_to=[],
        logging_steps=100,
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(
        BertForSequenceClassification(config), arguments, train_dataset=Sentences(), data_collator=collate
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
for line in trainer.state.log_history:
    if "loss" in line:
        print(line["step"], line["loss"])
