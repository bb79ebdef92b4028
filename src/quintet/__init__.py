"""One small language model, one expert per department: train, prove, serve."""

import os

# The libraries below report their use to the hub unless told not to; they read this when they are imported.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
