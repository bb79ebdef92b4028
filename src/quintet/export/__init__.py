"""An expert for other tools: one plain model, PEFT's adapter, or a GGUF file, proven to be what is served."""
