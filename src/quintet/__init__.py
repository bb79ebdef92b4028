"""One small language model, one expert per department: train, prove, serve."""

__version__ = "0.1.0"
