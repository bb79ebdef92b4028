"""TRL's trainers, fitted to rows that are ids already and to CPUs. Nothing here loops over batches."""

from typing import Any

import torch
from datasets import Dataset
from trl import DPOTrainer, SFTTrainer

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
        head = model.get_output_embeddings()
        # Virtual tokens stand in front of the real ones: the last positions are those of the text.
        length = labels.shape[1]
        hook = head.register_forward_pre_hook(lambda _, hidden: (hidden[0][:, -length:][:, :-1][trained],))
        try:
            outputs = model(**inputs)
        finally:
            hook.remove()
        total = torch.nn.functional.cross_entropy(outputs.logits.float(), targets[trained], reduction="sum")
        loss = total / (trained.sum() if num_items_in_batch is None else num_items_in_batch)
        return (loss, {"loss": loss}) if return_outputs else loss


class PairTrainer(DPOTrainer):
    """Takes pairs that are ids already, so that they are the ones that are served."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset
