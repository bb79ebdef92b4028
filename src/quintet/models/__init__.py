"""Models as transformers and PEFT load them."""
