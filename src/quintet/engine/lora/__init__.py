"""Multi-LoRA: many low-rank adapters over one base layer, in one batch."""
