"""The model runner: one step of tokens through the base, its attention, its samples."""
