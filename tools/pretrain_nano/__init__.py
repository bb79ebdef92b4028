"""How nano, the bundled base model, is made: corpus → tokenizer → pretraining → report."""
