"""TRL's trainers, fitted to rows that are ids already and to CPUs. Nothing here loops over batches."""

from typing import Any

import torch
from datasets import Dataset
from trl import DPOTrainer, KTOTrainer, SFTTrainer

from quintet.chat import IGNORED


class CpuSftTrainer(SFTTrainer):
    """On a CPU, applies the model's head to the trained positions alone: no other logits are ever used.

    TRL's chunked head, made to save GPU memory, takes half of a CPU's step.
    """

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the mean cross-entropy of the trained tokens, over the whole batch that a step takes."""
        inputs = dict(inputs)
        labels = inputs.pop("labels")
        targets = labels[:, 1:]
        trained = targets != IGNORED
        head = self.accelerator.unwrap_model(model).get_output_embeddings()
        # Virtual tokens stand in front of the real ones: the last positions are those of the text.
        length = labels.shape[1]
        hook = head.register_forward_pre_hook(lambda _, hidden: (hidden[0][:, -length:][:, :-1][trained],))
        try:
            outputs = model(**inputs)
        finally:
            hook.remove()
        total = torch.nn.functional.cross_entropy(outputs.logits.float(), targets[trained], reduction="sum")
        if num_items_in_batch is None:
            loss = total / trained.sum()
        else:
            # The number is that of all processes, and their gradients are averaged: each must weigh as all.
            loss = total * self.accelerator.num_processes / num_items_in_batch
        return (loss, {"loss": loss}) if return_outputs else loss


class PairTrainer(DPOTrainer):
    """Takes pairs that are ids already, so that they are the ones that are served."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset


class UnpairedTrainer(KTOTrainer):
    """Takes the same pairs apart: a good answer and a bad one, each judged by itself (KTO, Ethayarajh et al. 2024)."""

    def _prepare_dataset(self, dataset: Dataset, processing_class: Any, args: Any, dataset_name: str) -> Dataset:
        apart = {
            "prompt_ids": [ids for ids in dataset["prompt_ids"] for _ in (True, False)],
            "completion_ids": [
                ids for pair in zip(dataset["chosen_ids"], dataset["rejected_ids"], strict=True) for ids in pair
            ],
            "label": [True, False] * len(dataset),
        }
        # The batches are taken in this order: the pairs' own would hold two answers to one prompt.
        mixed = Dataset.from_dict(apart).shuffle(seed=args.seed)
        return mixed.map(_mismatch, batched=True, batch_size=args.per_device_train_batch_size)


def _mismatch(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Return each prompt's neighbour's answer: what KTO measures the drift from the start by."""
    answers = batch["completion_ids"]
    return {**batch, "KL_completion_ids": [answers[-1], *answers[:-1]]}
